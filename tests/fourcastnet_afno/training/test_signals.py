"""Signals that stop a run."""

import os
import signal
import time
from pathlib import Path

import pytest

from fourcastnet_afno.training.config import Stage
from fourcastnet_afno.training.signals import TrainingInterruptedError, stop_requests
from tests.builders.processes import start
from tests.builders.runs import make_resumable_experiment, read_rows, step_of


def command(config: Path, output: Path) -> None:
    from fourcastnet_afno.cli.main import main

    raise SystemExit(main(["train", f"--config={config}", f"--output={output}"]))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_signals_leave_a_checkpoint_and_an_exit_code(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    config = make_resumable_experiment(
        tmp_path, stages=[Stage(epochs=100_000)], checkpoint_every_steps=0
    )
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    output = tmp_path / "run"
    process = start(command, tmp_path / "config.yaml", output)
    steps = output / "logs" / "steps.csv"
    while not (steps.exists() and steps.read_bytes().count(b"\n") > 2) and process.is_alive():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(300)
    assert process.exitcode == code
    assert step_of(output) == int(read_rows(steps)[-1]["step"])


def test_a_second_ctrl_c_ends_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    previous = signal.getsignal(signal.SIGTERM)
    with stop_requests() as requests:
        for _ in range(2):  # torchrun passes on a Ctrl-C that the terminal has sent already.
            requests.handle_signal(signal.SIGINT, None)
        assert requests.by_ctrl_c
        assert not requests.by_system
        os.kill(os.getpid(), signal.SIGTERM)
        assert requests.by_system
        seconds[0] += 2.0
        with pytest.raises(KeyboardInterrupt):
            requests.handle_signal(signal.SIGINT, None)
    assert signal.getsignal(signal.SIGTERM) is previous


def test_the_exit_code_says_who_stopped_the_run() -> None:
    assert TrainingInterruptedError("here").exit_code == 130
    assert TrainingInterruptedError("here", by_ctrl_c=False).exit_code == 75
