"""Runs that are killed, told to stop, or short of disk."""

import csv
import json
import os
import random
import resource
import shutil
import signal
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster import checkpoint
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, read_checkpoint, save_checkpoint
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.training.monitoring.record import MEASURED_COLUMNS
from fourcastnet_afno.training.progress import Position
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset, make_experiment
from tests.builders.processes import SignalAfter, SlowDown, on_ranks, start

STAGES = [Stage(epochs=2), Stage(epochs=1, num_steps=2)]


def make_config(folder: Path, **training: object) -> ExperimentConfig:
    """With dropout, noise, averaging, and validations between epochs."""
    settings: dict = {
        "stages": STAGES,
        "checkpoint_every_steps": 1,
        "keep_last": 3,
        "validation": ValidationConfig(every_steps=3, num_steps=2, num_init_times=4),
        "loggers": [],
    }
    make_dataset().to_netcdf(folder / "data.nc")
    return make_experiment(folder / "data.nc", **(settings | training))


def train(config: ExperimentConfig, output: Path, seconds: float = 0.0) -> None:
    """In a process of its own, a little slower so that it can be hit everywhere."""
    train_run(config, output, callbacks=[SlowDown(seconds)])


def step_of(output: Path) -> int:
    path = output / "checkpoints" / "last.safetensors"
    if not path.exists():
        return 0
    return read_checkpoint(path, "none")[1]["position"]["step"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as text:
        return [
            {k: v for k, v in row.items() if k not in MEASURED_COLUMNS}
            for row in csv.DictReader(text)
        ]


def assert_equal_runs(one: Path, other: Path) -> None:
    for name in ("best", "last"):
        whole, resumed = (
            load_file(run / "checkpoints" / f"{name}.safetensors") for run in (one, other)
        )
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    for name in ("steps.csv", "validation.csv"):
        assert rows(one / "logs" / name) == rows(other / "logs" / name)
    histories = [json.loads((run / "history.json").read_text()) for run in (one, other)]
    for record in [record for history in histories for record in history]:
        del record["seconds"]
    assert histories[0] == histories[1]
    positions = [
        read_checkpoint(run / "checkpoints" / "last.safetensors", "none")[1]["position"]
        for run in (one, other)
    ]
    for record in [record for position in positions for record in position["history"]]:
        del record["seconds"]
    assert positions[0] == positions[1]


@pytest.mark.slow
def test_killed_twenty_times_it_goes_on_bit_for_bit(tmp_path: Path) -> None:
    stages = [Stage(epochs=5), Stage(epochs=1, num_steps=2)]
    config, output = make_config(tmp_path, stages=stages), tmp_path / "killed"
    generator, kills = random.Random(0), 0
    while kills < 20:
        before = step_of(output)
        process = start(train, config, output, 0.03)
        wanted = before + generator.choice([0, 1, 1, 2])
        while step_of(output) < wanted and process.is_alive():
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.06))
        process.kill()
        process.join()
        assert step_of(output) >= before
        if process.exitcode == 0:  # It was faster than the kills.
            shutil.rmtree(output)
        else:
            kills += 1
    train(config, output)
    train(config, tmp_path / "whole")
    assert_equal_runs(output, tmp_path / "whole")
    kept = {path.name for path in (output / "checkpoints").iterdir()}
    assert kept == {
        "best.safetensors", "last.safetensors", "step-00000047.safetensors",
        "step-00000048.safetensors",
    }  # fmt: skip


def test_stopped_while_it_validates_it_resumes_bit_for_bit(tmp_path: Path) -> None:
    """A signal after the last step before a validation is seen by the validation."""
    config, stop = make_config(tmp_path), SignalAfter({3, 8, 16})
    train_run(config, tmp_path / "whole")
    for step in (3, 8, 16):
        with pytest.raises(TrainingInterruptedError) as error:
            train_run(config, tmp_path / "stopped", callbacks=[stop])
        assert error.value.exit_code == 75
        assert step_of(tmp_path / "stopped") == step
    train_run(config, tmp_path / "stopped", callbacks=[stop])
    assert_equal_runs(tmp_path / "stopped", tmp_path / "whole")


def train_in_two_parts(process: Process, config: ExperimentConfig, folder: Path) -> None:
    """A run, and one that all processes stop and resume, as one of them is told to."""

    def join(*_: object, **__: object) -> AbstractContextManager[Process]:
        return nullcontext(process)

    stop = SignalAfter({2, 6} if process.rank == 1 else ())
    train_run(config, folder / "whole", join=join)
    for _ in range(2):
        with pytest.raises(TrainingInterruptedError):
            train_run(config, folder / "stopped", callbacks=[stop], join=join)
    train_run(config, folder / "stopped", join=join)
    assert not stop.left


def test_processes_go_on_bit_for_bit(tmp_path: Path) -> None:
    """Stopped within the first epoch and within the second stage; dropout belongs to a process.

    Of three numbers, unlike two, the sum depends on the order.
    """
    stages = [Stage(epochs=1), Stage(epochs=1, num_steps=2)]
    config = make_config(tmp_path, stages=stages, batch_size=16, checkpoint_every_steps=0)
    prepare_run(config, tmp_path / "whole")
    prepare_run(config, tmp_path / "stopped")
    on_ranks(3, train_in_two_parts, config, tmp_path)
    assert_equal_runs(tmp_path / "stopped", tmp_path / "whole")


def command(config: Path, output: Path) -> None:
    from fourcastnet_afno.cli.main import main

    raise SystemExit(main(["train", f"--config={config}", f"--output={output}"]))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_signals_leave_a_checkpoint_and_tell_by_the_exit_code(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    config = make_config(tmp_path, stages=[Stage(epochs=100_000)], checkpoint_every_steps=0)
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    output = tmp_path / "run"
    process = start(command, tmp_path / "config.yaml", output)
    steps = output / "logs" / "steps.csv"
    while not (steps.exists() and steps.read_bytes().count(b"\n") > 2) and process.is_alive():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == code
    assert step_of(output) == int(rows(steps)[-1]["step"])


def test_checkpoints_by_time(tmp_path: Path) -> None:
    often = make_config(tmp_path, checkpoint_every_minutes=1e-9, checkpoint_every_steps=0)
    train_run(often, tmp_path / "often")
    kept = {path.name for path in (tmp_path / "often" / "checkpoints").glob("step-*")}
    assert kept == {"step-00000023.safetensors", "step-00000024.safetensors"}


def write_without_space(path: Path, source: Path, answer: Path) -> None:
    """With a limit on the size of files, which the system enforces as it does a full disk."""
    forecaster = load_forecaster(source)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        save_checkpoint(path, forecaster, {}, {"position": {"step": 99}})
    except InputError as error:
        answer.write_text(str(error))


def test_a_full_disk_leaves_the_previous_checkpoint_whole(tmp_path: Path) -> None:
    train_run(make_config(tmp_path, stages=[Stage(epochs=1)]), tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    before, names = (folder / "last.safetensors").read_bytes(), sorted(folder.iterdir())
    process = start(
        write_without_space, folder / "last.safetensors", folder / "best.safetensors",
        tmp_path / "said.txt",
    )  # fmt: skip
    process.join(60)
    said = (tmp_path / "said.txt").read_text()
    assert "cannot write" in said
    assert "the one before it, of step 8, is whole; free space on the disk" in said
    assert (folder / "last.safetensors").read_bytes() == before
    assert sorted(folder.iterdir()) == names


def test_a_write_that_fails_in_the_background_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, count = checkpoint.save_file, [0]

    def failing(*arguments: object) -> None:
        count[0] += 1
        if count[0] == 4:
            raise OSError(28, "No space left on device")
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save_file", failing)
    config, output = make_config(tmp_path), tmp_path / "run"
    with pytest.raises(InputError, match=r"No space left on device; the one before it, of step"):
        train_run(config, output)
    assert step_of(output) in (2, 3)  # Best and last of step 3 were two of the writes.
    monkeypatch.undo()
    train_run(config, output)
    train_run(config, tmp_path / "whole")
    assert_equal_runs(output, tmp_path / "whole")


def test_operational_settings_may_change(tmp_path: Path) -> None:
    train_run(make_config(tmp_path), tmp_path / "run")
    train_run(make_config(tmp_path, keep_last=1, log_every=5), tmp_path / "run")
    with pytest.raises(InputError, match=r"differing in training.seed;"):
        train_run(make_config(tmp_path, seed=3), tmp_path / "run")


def test_progress_of_another_version_is_refused() -> None:
    record = Position(step=3).to_json()
    assert Position.from_json(json.loads(json.dumps(record))) == Position(step=3)
    del record["num_worse"]
    with pytest.raises(InputError, match="interrupted under another version"):
        Position.from_json(record)


def test_losses_of_an_epoch_are_counted_once() -> None:
    position, losses, sample = Position(), [], 0
    generator = random.Random(0)
    while sample < 1000:
        windows = min(3, 1000 - sample)
        losses.append(generator.random())
        skipped = len(losses) % 7 == 0
        position = position.after_step(losses[-1], windows=windows, total=1000, skipped=skipped)
        sample += windows
    counted = [loss for index, loss in enumerate(losses, start=1) if index % 7]
    assert len(position.loss_sums) == 50
    assert sum(position.loss_counts) == len(counted)
    assert position.mean_loss == pytest.approx(sum(counted) / len(counted))
    assert position.num_skipped == len(losses) - len(counted)
