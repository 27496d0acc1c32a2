"""Runs that are killed, told to stop, or short of disk."""

import json
import os
import random
import resource
import shlex
import shutil
import signal
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster import checkpoint_file
from fourcastnet_afno.forecaster.checkpoint import (
    load_forecaster,
    read_checkpoint,
    save_checkpoint,
)
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.training.monitoring.record import StepRecord
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.errors import rejects
from tests.builders.processes import SignalAfter, SlowDown, on_ranks, start
from tests.builders.runs import assert_equal_runs, make_resumable_experiment, read_rows, step_of


def train(config: ExperimentConfig, output: Path, seconds: float = 0.0) -> None:
    """In a process of its own, a little slower so that it can be hit everywhere."""
    train_run(config, output, callbacks=[SlowDown(seconds)])


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    """Of 24 steps."""
    return make_resumable_experiment(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def uninterrupted(config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("uninterrupted") / "run"
    train_run(config, output)
    return output


@pytest.mark.slow
def test_killed_four_times_it_resumes_bit_for_bit(
    config: ExperimentConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    output, generator, kills = tmp_path / "killed", random.Random(0), 0
    while kills < 4:
        before = step_of(output)
        process = start(train, config, output, 0.03)
        target = before + generator.choice([0, 1, 3, 5])
        while step_of(output) < target and process.is_alive():
            time.sleep(0.02)
        time.sleep(generator.uniform(0.0, 0.06))
        process.kill()
        process.join()
        assert step_of(output) >= before
        if process.exitcode == 0:  # It was faster than the kills.
            shutil.rmtree(output)
        else:
            kills += 1
    train(config, output)
    assert_equal_runs(output, uninterrupted)
    names = {path.name for path in (output / "checkpoints").iterdir()}
    assert names == {
        "best.safetensors", "last.safetensors", "step-00000023.safetensors",
        "step-00000024.safetensors",
    }  # fmt: skip


def test_the_record_that_a_kill_has_kept_from_the_history_is_made_when_the_run_resumes(
    config: ExperimentConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    """The checkpoint is what counts, in a run that is complete too, which writes nothing else."""
    output = tmp_path / "killed"
    shutil.copytree(uninterrupted, output)
    whole = (output / "history.json").read_bytes()
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    for left in (None, b"[]", whole[:50]):
        (output / "history.json").unlink()
        if left is not None:
            (output / "history.json").write_bytes(left)
        train_run(config, output)
        assert (output / "history.json").read_bytes() == whole
    after = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    assert after.keys() == before.keys()
    assert {path.name for path in after if after[path] != before[path]} <= {
        "history.json",
        "config.yaml",
    }


def make_short_experiment(folder: Path) -> ExperimentConfig:
    """Two epochs of two steps each, without rollouts."""
    settings = {"stages": [Stage(epochs=2)], "validation": ValidationConfig(num_steps=0)}
    return make_resumable_experiment(folder, batch_size=32, **settings)


def test_a_history_is_never_ahead_of_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_file, known = os.replace, []

    def watch(source: Path, target: Path) -> None:
        if Path(target).name == "history.json":
            last = tmp_path / "run" / "checkpoints" / "last.safetensors"
            history = read_checkpoint(last, "none")[1]["position"]["history"]
            known.append(len(history) - len(json.loads(Path(source).read_text())))
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", watch)
    train_run(make_short_experiment(tmp_path), tmp_path / "run")
    assert known == [0, 0]


def test_a_history_whose_checkpoint_was_removed_starts_over(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "history.json").write_text('[{"epoch": 1, "stage": 1}]')
    with pytest.raises(TrainingInterruptedError):
        train_run(make_short_experiment(tmp_path), tmp_path / "run", callbacks=[SignalAfter({1})])
    assert not (tmp_path / "run" / "history.json").exists()


def test_one_command_trains_in_a_folder(tmp_path: Path) -> None:
    """The other is an error, which leaves the first one its rows; the lock goes with the run."""
    config, output, second = make_short_experiment(tmp_path), tmp_path / "run", []

    class Second:
        def on_step(self, record: StepRecord) -> None:
            if record.step == 3:
                with rejects("busy", str(output), str(os.getpid())):
                    train_run(config, output)
                second.append(record.step)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_run(config, output, callbacks=[Second()])
    assert second == [3]
    assert [row["step"] for row in read_rows(output / "logs" / "steps.csv")] == ["1", "2", "3"]
    assert not [path for path in output.iterdir() if "lock" in path.name]


def test_stopped_while_it_validates_it_resumes_bit_for_bit(
    config: ExperimentConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    """A signal after the last step before a validation is seen by the validation."""
    stop = SignalAfter({3, 16})
    for step in (3, 16):
        with pytest.raises(TrainingInterruptedError) as error:
            train_run(config, tmp_path / "stopped", callbacks=[stop])
        assert error.value.exit_code == 75
        assert step_of(tmp_path / "stopped") == step
    train_run(config, tmp_path / "stopped", callbacks=[stop])
    assert_equal_runs(tmp_path / "stopped", uninterrupted)


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


def test_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    """Stopped within the first epoch and within the second stage; dropout belongs to a process.

    Of three numbers, unlike two, the sum depends on the order.
    """
    stages = [Stage(epochs=1), Stage(epochs=1, num_steps=2)]
    config = make_resumable_experiment(
        tmp_path, stages=stages, batch_size=16, checkpoint_every_steps=0
    )
    prepare_run(config, tmp_path / "whole")
    prepare_run(config, tmp_path / "stopped")
    on_ranks(3, train_in_two_parts, config, tmp_path)
    assert_equal_runs(tmp_path / "stopped", tmp_path / "whole")


def test_checkpoints_by_time(tmp_path: Path) -> None:
    settings = {"checkpoint_every_minutes": 1e-9, "checkpoint_every_steps": 0}
    often = make_resumable_experiment(tmp_path, stages=[Stage(epochs=1)], **settings)
    train_run(often, tmp_path / "often")
    names = {path.name for path in (tmp_path / "often" / "checkpoints").glob("step-*")}
    assert names == {"step-00000007.safetensors", "step-00000008.safetensors"}


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
    train_run(make_resumable_experiment(tmp_path, stages=[Stage(epochs=1)]), tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    before, names = (folder / "last.safetensors").read_bytes(), sorted(folder.iterdir())
    process = start(
        write_without_space, folder / "last.safetensors", folder / "best.safetensors",
        tmp_path / "message.txt",
    )  # fmt: skip
    process.join(300)
    message = (tmp_path / "message.txt").read_text()
    assert "last.safetensors" in message
    assert "of step 8" in message
    assert (folder / "last.safetensors").read_bytes() == before
    assert sorted(folder.iterdir()) == names


def test_a_complete_run_writes_nothing(config: ExperimentConfig, uninterrupted: Path) -> None:
    def times() -> dict[Path, int]:  # a folder's changes with what is made or renamed in it
        return {file: file.stat().st_mtime_ns for file in uninterrupted.rglob("*")}

    before = times()
    train_run(config, uninterrupted)
    assert times() == before


def test_all_files_have_the_mode_of_the_umask(uninterrupted: Path) -> None:
    files = [file for file in uninterrupted.rglob("*") if file.is_file()]
    (uninterrupted.parent / "new").touch()
    expected = (uninterrupted.parent / "new").stat().st_mode
    assert {
        file.name: file.stat().st_mode for file in files if file.stat().st_mode != expected
    } == {}


def test_a_write_that_fails_in_the_background_stops_the_run(
    config: ExperimentConfig,
    uninterrupted: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, count = checkpoint_file.save_file, [0]

    def failing(*arguments: object) -> None:
        count[0] += 1
        if count[0] == 4:
            raise OSError(28, "No space left on device")
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint_file, "save_file", failing)
    output = tmp_path / "run"
    with rejects("disk-full", "No space left on device", "of step"):
        train_run(config, output)
    assert step_of(output) in (2, 3)  # Best and last of step 3 were two of the writes.
    monkeypatch.undo()
    train_run(config, output)
    assert_equal_runs(output, uninterrupted)


def test_a_damaged_checkpoint_names_the_command_that_goes_on_from_an_intact_one(
    config: ExperimentConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    """The best one of an unfinished stage is known to be damaged before the training goes on."""
    output = shutil.copytree(uninterrupted, tmp_path / "my run")
    folder = output / "checkpoints"
    for name, source in (("last", "step-00000024"), ("best", "last")):
        path, intact = (folder / f"{stem}.safetensors" for stem in (name, source))
        raw = bytearray(path.read_bytes())
        raw[-1] ^= 1
        path.write_bytes(raw)
        with rejects("damaged-checkpoint", path.name, shlex.join(["cp", str(intact), str(path)])):
            train_run(config, output)
        shutil.copy(intact, path)
    train_run(config, output)
    assert_equal_runs(output, uninterrupted)


def test_operational_settings_may_change(
    config: ExperimentConfig, uninterrupted: Path, tmp_path: Path
) -> None:
    output = shutil.copytree(uninterrupted, tmp_path / "run")
    training = config.training
    train_run(replace(config, training=replace(training, keep_last=1, log_every=5)), output)
    with rejects("other-configuration", "training.seed"):
        train_run(replace(config, training=replace(training, seed=3)), output)
