"""Verbs that are killed at moments drawn from a seed: the same command completes them.

A moment is an operation on the files of a run, before which ``sys.addaudithook`` sends the signal:
so a kill hits a running command at the same place on any machine. The files that the completed
command leaves are compared with those of one that was not interrupted.
"""

import hashlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors import safe_open

from data_pipeline.periods import Period
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.cli.verbs import VERBS
from fourcastnet_afno.forecaster.config import DiagnosticConfig
from fourcastnet_afno.inference.config import EnsembleConfig
from fourcastnet_afno.losses.config import LossChanges
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from fourcastnet_afno.training.config import Stage, ValidationConfig
from tests.builders.experiments import make_data_config, make_dataset, make_experiment
from tests.builders.pictures import leave_pictures_blank
from tests.builders.processes import start
from tests.builders.runs import read_rows

RAIN = "total_precipitation_6hr"
_BEST = "--checkpoint=run/checkpoints/best.safetensors"
_WORDS = {
    "prepare": "--config=config.yaml --output=run",
    "train": "--config=config.yaml --output=run",
    "train-diagnostic": f"--config=config.yaml --output=head {_BEST} "
    '--training.stages=[{"epochs":2}]',
    "forecast": "--config=config.yaml --output=run",
    "quickstart": "--config=config.yaml --output=run",
    "evaluate": "--config=config.yaml --output=run",
    "score": "--forecast=run/forecast.zarr --truth=run/data.zarr --climatology=run/data.zarr "
    "--output=scores.nc",
    "export": f"{_BEST} --format=torch_export --output=model.pt2",
}
# Kills of each verb, 20 together; verbs of a chain start from what those before have left.
CHAINS: tuple[Mapping[str, int], ...] = (
    {"prepare": 3, "train": 5, "train-diagnostic": 2, "forecast": 3, "evaluate": 2, "score": 2},
    {"quickstart": 2, "export": 1},
)
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
_LATEST = 0.05  # seconds after an operation, in which a library writes without Python


class Moment(NamedTuple):
    """When a command gets a signal: before an operation on files, or some seconds later."""

    operation: int
    seconds: float = 0.0
    number: signal.Signals = signal.SIGKILL

    def strike(self) -> None:
        """Send the signal to this process."""
        if self.seconds:
            threading.Timer(self.seconds, os.kill, (os.getpid(), self.number)).start()
        else:
            os.kill(os.getpid(), self.number)


def run(folder: Path, words: Sequence[str], moment: Moment | None) -> None:
    """Run a command in a process of its own; next to ``folder`` are its output and operations."""
    os.chdir(folder)
    leave_pictures_blank(pytest.MonkeyPatch())  # of this process, which ends with the command
    sys.stdout = sys.stderr = (folder.parent / "output.txt").open("w")
    inside, operations = str(folder), itertools.count()

    def hook(event: str, arguments: tuple) -> None:
        if event not in _CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        if not os.path.join(inside, arguments[0]).startswith(inside):
            return
        if next(operations) == (-1 if moment is None else moment.operation):
            assert moment is not None
            moment.strike()

    sys.addaudithook(hook)
    code = main(words)
    inside = "/nowhere"
    (folder.parent / "operations.txt").write_text(str(next(operations)))
    sys.stdout.flush()
    os._exit(code)


class Command:
    """A command that runs in a folder, again and again from the same files.

    Args:
        name: The verb.
        folder: Where it runs: paths are part of some files.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self._words = name, [name, *_WORDS[name].split()]
        self.folder, self._before = folder, folder.with_name("before")
        shutil.rmtree(self._before, ignore_errors=True)
        shutil.copytree(folder, self._before)

    def reset(self) -> None:
        """Restore the files from before the command."""
        shutil.rmtree(self.folder)
        shutil.copytree(self._before, self.folder)

    @property
    def output(self) -> str:
        """End of what it has printed."""
        return (self.folder.parent / "output.txt").read_text()[-2000:]

    def run(self, moment: Moment | None = None) -> int | None:
        """Run it until its end or a signal; returns the exit code."""
        process = start(run, self.folder, self._words, moment)
        process.join(600)
        return process.exitcode

    def complete(self) -> int:
        """Run it until its end; returns its number of operations on files."""
        code = self.run()
        assert code == 0, (self.name, self.output)
        return int((self.folder.parent / "operations.txt").read_text())

    def kill(self, kills: int, operations: int, generator: random.Random, late: float) -> list[int]:
        """Kill it, and what resumes it; returns the moments.

        Each kill hits a running command: where one came too late, all are repeated, earlier.

        Args:
            kills: How often.
            operations: Those of a command that is not interrupted.
            generator: Draws the moments.
            late: Share of the kills that come some time after an operation.
        """
        first = operations
        while True:
            self.reset()
            left, moments = first, []
            while len(moments) < kills:
                seconds = generator.uniform(0, _LATEST) if generator.random() < late else 0.0
                moment = Moment(generator.randrange(left), seconds)
                code = self.run(moment)
                if code == 0:
                    break
                assert code == -signal.SIGKILL, (self.name, moments, moment, self.output)
                moments.append(moment.operation)
                left = max(1, left - moment.operation)
            else:
                return moments
            first = max(1, (moments or [moment.operation])[0])


def check_stopped(
    command: Command, operations: int, expected: Mapping[str, str], generator: random.Random
) -> None:
    """Stop a command as the system does: it says that it can be resumed, or was about to end."""
    command.reset()
    moment = Moment(generator.randrange(operations), number=signal.SIGTERM)
    if (code := command.run(moment)) == 0:
        check_files(command, expected, moment)
    else:
        assert code == 75, (command.name, moment)


def check_files(command: Command, expected: Mapping[str, str], moments: object) -> None:
    """Compare the files in the folder of a command with those that are expected."""
    found = digests(command.folder)
    paths = found.keys() | expected.keys()
    changed = {path for path in paths if found.get(path) != expected.get(path)}
    assert not changed, (command.name, moments)


def write_inputs(folder: Path, *, is_ensemble: bool) -> None:
    """Data with rain, and an experiment of a few steps, in paths relative to the folder.

    The model of an ensemble takes noise, is trained for its spread, and forecasts members.
    """
    data, members = make_dataset(num_times=75), 2 if is_ensemble else 1
    low = (1e5 - data["mean_sea_level_pressure"]).clip(min=0) / 1000
    data[RAIN] = (1e-3 * low).astype("f4").assign_attrs(units="m")
    data.to_netcdf(folder / "data.nc")
    config = make_experiment(
        Path("data.nc"),
        stages=[
            Stage(epochs=1),
            Stage(epochs=2, num_steps=2, num_members=members, loss=LossChanges(kind="crps")),
        ],
        batch_size=16,
        checkpoint_every_steps=1,
        keep_last=3,
        validation=ValidationConfig(every_steps=3, num_steps=2, num_init_times=2),
    )
    network = AFNONetConfig(patch_size=(3, 3), embed_dim=8, depth=1, num_blocks=2)
    noise, ensemble = NoiseConfig(), EnsembleConfig(num_members=members)
    if is_ensemble:
        noise = NoiseConfig(length_scales=[8000.0], channels=1, memory_hours=48.0, width=4)
    config = replace(
        config,
        model=replace(config.model, noise=noise),
        data=make_data_config(
            Path("data.nc"),
            diagnostic=[RAIN],
            train=Period(start="2001-01-01", end="2001-02-10"),
            validation=Period(start="2001-02-11", end="2001-02-20"),
            test=Period(start="2001-02-21", end="2001-03-14"),
        ),
        diagnostic=DiagnosticConfig(network=network),
        forecast=replace(config.forecast, num_steps=3, ensemble=ensemble),
        evaluation=replace(config.evaluation, maps=False, spectra=False, num_resamples=20),
    )
    (folder / "config.yaml").write_text(config.to_yaml())


def digests(folder: Path) -> dict[str, str]:
    """Content of all files by path, but for what a clock or the memory decides."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): digest(path)
        for path in files
        if not path.name.startswith("events.out")
    }


def digest(path: Path) -> str:
    content: object = path.read_bytes()
    match path.name, path.suffix:
        case _, ".safetensors":
            with safe_open(path, "np") as file:
                header = json.loads(file.metadata()["metadata"])
                content = [(name, file.get_tensor(name).tobytes()) for name in sorted(file.keys())]
            for record in header.get("position", {}).get("history", []):
                del record["seconds"]
            content = [header, content]
        case _, ".pt2":
            with zipfile.ZipFile(path) as archive:
                content = [(name, archive.read(name)) for name in sorted(archive.namelist())]
        case "model.pt2.json", _:  # roundings depend on where arrays lie in memory
            content = json.loads(path.read_text()) | {"largest_difference": None}
        case "history.json", _:
            records = json.loads(path.read_text())
            content = [{k: v for k, v in record.items() if k != "seconds"} for record in records]
        case "steps.csv", _:
            content = read_rows(path)
        case "report.html", _:
            content = re.sub(r"[0-9.]+ GiB|seconds of.*", "", path.read_text())
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 11))]
)
@pytest.mark.parametrize("chain", range(len(CHAINS)))
def test_verbs_that_are_killed_are_completed_by_the_same_command(
    chain: int, seed: int, tmp_path: Path
) -> None:
    generator, folder = random.Random(f"{chain} {seed}"), tmp_path / "work"
    folder.mkdir()
    write_inputs(folder, is_ensemble=chain == 0)
    for name, kills in CHAINS[chain].items():
        command = Command(name, folder)
        operations = command.complete()
        expected = digests(folder)
        if VERBS[name].resumes:
            check_stopped(command, operations, expected, generator)
        moments = command.kill(kills, operations, generator, late=0.5 if seed else 0.0)
        command.complete()
        check_files(command, expected, moments)
