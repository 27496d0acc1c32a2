"""Verbs that are killed at any moment: the same command completes them, to the same bytes.

Moments are counted in operations on files in the folder of the scenario, as ``sys.addaudithook``
reports them, or in seconds; both are drawn from a seed, which the name of the test repeats.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import pytest
from safetensors import safe_open

from data_pipeline.periods import Period
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.forecaster.config import DiagnosticConfig
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.config import Stage, ValidationConfig
from tests.builders.experiments import make_data_config, make_dataset, make_experiment
from tests.builders.pictures import leave_pictures_blank
from tests.builders.processes import start
from tests.builders.runs import read_rows

RAIN = "total_precipitation_6hr"
_CHANGES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")


class Verb(NamedTuple):
    """A command in a folder, and the verbs that come before it there."""

    words: str
    before: tuple[str, ...] = ()
    weight: int = 3  # kills of 20


VERBS = {
    "prepare": Verb("prepare --config=config.yaml --output=run"),
    "train": Verb("train --config=config.yaml --output=run", ("prepare",), 5),
    "train-diagnostic": Verb(
        "train-diagnostic --config=config.yaml --output=head "
        "--checkpoint=run/checkpoints/best.safetensors",
        ("prepare", "train"),
        2,
    ),
    "forecast": Verb("forecast --config=config.yaml --output=run", ("prepare", "train")),
    "evaluate": Verb(
        "evaluate --config=config.yaml --output=run", ("prepare", "train", "forecast"), 2
    ),
    "score": Verb(
        "score --forecast=run/forecast.zarr --truth=run/data.zarr --climatology=run/data.zarr "
        "--output=scores.nc",
        ("prepare", "train", "forecast"),
        2,
    ),
    "export": Verb(
        "export --checkpoint=run/checkpoints/best.safetensors --format=torch_export "
        "--output=model.pt2",
        ("prepare", "train"),
        1,
    ),
    "quickstart": Verb("quickstart --config=config.yaml --output=quick", (), 1),
}


def run(
    folder: Path,
    words: str,
    count: Path,
    moment: int | None = None,
    number: signal.Signals = signal.SIGKILL,
) -> None:
    """Run a command in a process of its own, and send it a signal before an operation on files."""
    os.chdir(folder)
    leave_pictures_blank(pytest.MonkeyPatch())  # of this process, which ends with the command
    seen, inside = [0], str(folder)

    def hook(event: str, arguments: tuple) -> None:
        if event not in _CHANGES or not isinstance(arguments[0], str | os.PathLike):
            return
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
        path = os.path.join(inside, arguments[0])
        if path.startswith(inside) and path != str(count):
            if seen[0] == moment:
                seen[0] += 1
                os.kill(os.getpid(), number)
            seen[0] += 1

    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    sys.addaudithook(hook)
    code = main(words.split())
    total = seen[0]
    count.write_text(str(total))
    os._exit(code)


def complete(folder: Path, words: str) -> tuple[int, float]:
    """Complete a command; returns its operations on files and its seconds."""
    count, started = folder.parent / "count.txt", time.monotonic()
    process = start(run, folder, words, count)
    process.join(120)
    assert process.exitcode == 0, words
    return int(count.read_text()), time.monotonic() - started


@dataclass
class Scenario:
    """A verb that was not interrupted: what it started from and has left."""

    folder: Path  # where it runs, as paths are part of some files
    before: Path  # a copy of the folder before it
    words: str
    expected: dict[str, object]
    operations: int
    seconds: float

    def reset(self) -> None:
        shutil.rmtree(self.folder)
        shutil.copytree(self.before, self.folder)


@pytest.fixture(scope="module")
def scenario_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Scenario]:
    root = tmp_path_factory.mktemp("kills")
    folder = root / "work"
    states: dict[tuple[str, ...], Path] = {}
    scenarios: dict[str, Scenario] = {}

    def state_after(verbs: tuple[str, ...]) -> Path:
        if verbs not in states:
            path = root / f"after-{len(verbs)}"
            if verbs:
                before = state_after(verbs[:-1])
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(before, folder)
                complete(folder, VERBS[verbs[-1]].words)
                shutil.copytree(folder, path)
            else:
                path.mkdir()
                write_inputs(path)
            states[verbs] = path
        return states[verbs]

    def scenario(name: str) -> Scenario:
        if name not in scenarios:
            verb, before = VERBS[name], state_after(VERBS[name].before)
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(before, folder)
            operations, seconds = complete(folder, verb.words)
            expected = digests(folder)
            scenarios[name] = Scenario(folder, before, verb.words, expected, operations, seconds)
        return scenarios[name]

    return scenario


def write_inputs(folder: Path) -> None:
    """Data with rain, and an experiment of a few steps, in paths relative to the folder."""
    data = make_dataset(num_times=75)
    low = (1e5 - data["mean_sea_level_pressure"]).clip(min=0) / 1000
    data[RAIN] = (1e-3 * low).astype("f4").assign_attrs(units="m")
    data.to_netcdf(folder / "data.nc")
    config = make_experiment(
        Path("data.nc"),
        stages=[Stage(epochs=2), Stage(epochs=1, num_steps=2)],
        batch_size=16,
        checkpoint_every_steps=1,
        keep_last=3,
        validation=ValidationConfig(every_steps=3, num_steps=2, num_init_times=2),
    )
    network = AFNONetConfig(patch_size=(3, 3), embed_dim=8, depth=1, num_blocks=2)
    config = replace(
        config,
        data=make_data_config(
            Path("data.nc"),
            diagnostic=[RAIN],
            train=Period(start="2001-01-01", end="2001-02-10"),
            validation=Period(start="2001-02-11", end="2001-02-20"),
            test=Period(start="2001-02-21", end="2001-03-14"),
        ),
        diagnostic=DiagnosticConfig(network=network),
        forecast=replace(config.forecast, num_steps=3),
    )
    (folder / "config.yaml").write_text(config.to_yaml())


def digests(folder: Path) -> dict[str, object]:
    """Content of all files by path, but for what a clock or the memory decides."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): digest(path)
        for path in files
        if not path.name.startswith("events.out")
    }


def digest(path: Path) -> object:
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
        case "history.json", _:
            records = json.loads(path.read_text())
            content = [{k: v for k, v in record.items() if k != "seconds"} for record in records]
        case "steps.csv", _:
            content = read_rows(path)
        case "zarr.json", _:  # the file of a checkpoint holds the seconds of its epochs
            digits = r'("(?:checkpoint_digest|fingerprint)": )"[0-9a-f]+"'
            content = re.sub(digits, r"\1", path.read_text())
        case "report.html", _:
            content = re.sub(r"[0-9.]+ GiB|seconds of.*", "", path.read_text())
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def check_interrupted(scenario: Scenario, seed: int, number: signal.Signals) -> None:
    """Interrupt a verb at a moment, or two, and compare what it leaves when it is complete."""
    generator, count = random.Random(seed), scenario.folder.parent / "count.txt"
    scenario.reset()
    moments = []
    for _ in range(generator.choice((1, 1, 2))):
        by_clock = number == signal.SIGKILL and generator.random() < 0.3
        moment = None if by_clock else generator.randrange(scenario.operations)
        moments.append(moment)
        process = start(run, scenario.folder, scenario.words, count, moment, number)
        if by_clock:
            process.join(generator.uniform(0, scenario.seconds))
            process.kill()
        process.join(120)
        assert process.exitcode in (-signal.SIGKILL, 0 if by_clock else 75, 0), moments
    complete(scenario.folder, scenario.words)
    found = digests(scenario.folder)
    wrong = {
        n
        for n in found.keys() | scenario.expected.keys()
        if found.get(n) != scenario.expected.get(n)
    }
    assert not wrong, moments


SLOW_TO_STOP = ("train", "train-diagnostic", "evaluate", "score", "quickstart")
SEEDS = [(name, seed) for name, verb in VERBS.items() for seed in range(verb.weight)]


@pytest.mark.parametrize(("name", "seed"), SEEDS)
def test_a_verb_that_is_killed_is_completed_by_the_same_command(
    name: str, seed: int, scenario_of: Callable[[str], Scenario]
) -> None:
    check_interrupted(scenario_of(name), seed, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("name", VERBS)
def test_any_moment_will_do(name: str, scenario_of: Callable[[str], Scenario]) -> None:
    for seed in range(100, 100 + 9 * VERBS[name].weight):
        check_interrupted(scenario_of(name), seed, signal.SIGKILL)


@pytest.mark.parametrize(
    "name",
    [
        "prepare",
        "forecast",
        *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_TO_STOP),
    ],
)
def test_a_verb_that_the_system_stops_says_so_and_resumes(
    name: str, scenario_of: Callable[[str], Scenario]
) -> None:
    check_interrupted(scenario_of(name), 0, signal.SIGTERM)
