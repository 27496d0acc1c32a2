"""Forecasts that are interrupted or shared by processes."""

import errno
import json
import random
import shutil
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import xarray as xr
from safetensors.torch import load, save

from fourcastnet_afno.inference.resume import Work
from fourcastnet_afno.inference.store import ForecastStore
from tests.builders.errors import rejects
from tests.builders.forecasters import (
    Growing,
    contents,
    make_forecast,
    write,
)
from tests.builders.processes import start


def write_slowly(path: Path, seconds: float, options: dict) -> None:
    """In a process of its own, a little time for each part; statistics too."""
    original = ForecastStore.write

    def slow(*arguments: object, **named: object) -> None:
        time.sleep(seconds)
        original(*arguments, **named)  # type: ignore[arg-type]

    ForecastStore.write = slow  # type: ignore[method-assign]
    write(path, **options, restart_every=5)


def start_slowly(path: Path, options: dict, seconds: float = 0.004) -> BaseProcess:
    return start(write_slowly, path, seconds, options)


LONG = {
    "num_steps": 20,
    "batch_size": 12,
    "chunks": "lead_time",
    "num_members": 3,
    "perturbation": "gaussian",
    "output": "statistics",
    "quantiles": [0.5],
}


@pytest.mark.slow
@pytest.mark.parametrize("shard_mib", [None, 0.02])
def test_killed_at_any_moment_it_goes_on_bit_for_bit(
    tmp_path: Path, shard_mib: float | None
) -> None:
    options = {**LONG, "shard_mib": shard_mib}
    path, generator = tmp_path / "killed.zarr", random.Random(0)
    work = tmp_path / ".killed.zarr.partial"

    def parts() -> int:
        return sum(p.read_bytes().count(b"\n") for p in work.glob("ledger-*"))

    kills = 0
    while kills < 3:
        before = parts()
        process = start_slowly(path, options)
        while parts() < before + generator.choice([1, 4, 7]) and process.is_alive():
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.02))
        process.kill()
        process.join()
        if process.exitcode == 0:  # it was faster than the kills
            shutil.rmtree(path)
            kills = 0
            continue
        assert process.exitcode == -signal.SIGKILL
        assert parts() > before
        kills += 1
    make_forecast(path, **options)
    make_forecast(tmp_path / "whole.zarr", **options)
    assert contents(path) == contents(tmp_path / "whole.zarr")
    assert not work.exists()


class Failing:
    """Lets a number of writes pass, then raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writes: int, error: BaseException) -> None:
        self.left, self.error = writes, error
        self.original = ForecastStore.write
        monkeypatch.setattr(ForecastStore, "write", lambda *a, **k: self(*a, **k))

    def __call__(self, *arguments: object, **named: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error
        self.original(*arguments, **named)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("writes", "suffix"), [(0, "zarr"), (1, "zarr"), (4, "zarr"), (6, "zarr"), (10, "nc")]
)
def test_interrupted_it_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int, suffix: str
) -> None:
    options = {"num_steps": 6, "chunks": "lead_time", "batch_size": 4, "restart_every": 2}
    path = tmp_path / f"f.{suffix}"
    with monkeypatch.context() as patch:
        Failing(patch, writes, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make_forecast(path, **options)
    assert not path.exists()
    steps = []
    monkeypatch.setattr(
        Growing,
        "__call__",
        lambda self, state, forcing: (steps.append(1), self.factor * state[:, -1] + 1)[1],
    )
    first = make_forecast(path, **options)
    second = make_forecast(tmp_path / f"whole.{suffix}", **options)
    xr.testing.assert_identical(first.load(), second.load())
    first.close()
    second.close()
    if suffix == "zarr":
        assert contents(path) == contents(tmp_path / "whole.zarr")
    # At most the steps since the last restart file are taken again.
    assert len(steps) - 12 <= 12 - writes + 3


@pytest.mark.parametrize("writes", [0, 1, 3])
def test_interrupted_shards_end_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    options = {"num_steps": 12, "chunks": "lead_time", "batch_size": 4, "shard_mib": 0.005}
    with monkeypatch.context() as patch:
        Failing(patch, writes, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make_forecast(tmp_path / "f.zarr", **options)
    make_forecast(tmp_path / "f.zarr", **options)
    make_forecast(tmp_path / "whole.zarr", **options)
    assert contents(tmp_path / "f.zarr") == contents(tmp_path / "whole.zarr")


@pytest.mark.parametrize("shard_mib", [None, 0.01, 1.0])
def test_two_processes_write_the_bytes_of_one(tmp_path: Path, shard_mib: float | None) -> None:
    options = {"num_members": 2, "perturbation": "spherical", "batch_size": 3}
    options |= {"shard_mib": shard_mib}
    make_forecast(tmp_path / "one.zarr", **options)
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    told: list[str] = []
    first = write(tmp_path / "two.zarr", environment=ranks[0], report=told.append, **options)
    assert first is None
    assert "other processes have not" in told[0]
    assert not (tmp_path / "two.zarr").exists()
    assert write(tmp_path / "two.zarr", environment=ranks[1], **options) is not None
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "two.zarr")
    assert {path.name for path in tmp_path.iterdir()} == {"one.zarr", "two.zarr"}


@pytest.mark.slow
def test_processes_at_the_same_time_write_the_bytes_of_one(tmp_path: Path) -> None:
    make_forecast(tmp_path / "one.zarr", **LONG)
    processes = [
        start_slowly(tmp_path / "two.zarr", {**LONG, "environment": environment})
        for environment in ({"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2))
    ]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert contents(tmp_path / "one.zarr") == contents(tmp_path / "two.zarr")


def test_work_of_four_processes_is_finished_by_one(tmp_path: Path) -> None:
    for rank in (1, 3):
        write(tmp_path / "f.zarr", environment={"RANK": str(rank), "WORLD_SIZE": "4"}, batch_size=1)
    assert not (tmp_path / "f.zarr").exists()
    make_forecast(tmp_path / "f.zarr", batch_size=1)
    make_forecast(tmp_path / "one.zarr", batch_size=1)
    assert contents(tmp_path / "f.zarr") == contents(tmp_path / "one.zarr")


@pytest.mark.parametrize("existing", ["refuse", "overwrite"])
def test_a_process_that_comes_too_late_finds_the_output(tmp_path: Path, existing: str) -> None:
    """Two processes for one unit of work: nothing is left for the second."""
    ranks = [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]
    options = {"batch_size": 7, "existing": existing}
    assert write(tmp_path / "f.zarr", environment=ranks[0], **options) is not None
    before = contents(tmp_path / "f.zarr")
    assert write(tmp_path / "f.zarr", environment=ranks[1], **options) is not None
    assert contents(tmp_path / "f.zarr") == before
    assert [path.name for path in tmp_path.iterdir()] == ["f.zarr"]


def test_an_output_that_exists_is_refused_resumed_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    make_forecast(path, existing="refuse")
    before = contents(path)
    with rejects("output-exists", "f.zarr", "--existing overwrite"):
        make_forecast(path, existing="refuse")
    make_forecast(path, existing="resume")  # these very forecasts: nothing to do
    with rejects("output-exists", "f.zarr"):
        make_forecast(path, existing="resume", num_steps=3)
    assert contents(path) == before
    replaced = make_forecast(path, existing="overwrite", num_steps=3)
    assert replaced.sizes["lead_time"] == 3


@pytest.mark.parametrize("name", ["f.zarr", "f.nc"])
def test_only_forecasts_are_overwritten(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make_forecast(path, existing="overwrite")
    make_forecast(path, existing="overwrite", num_steps=3)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    path.rename(tmp_path / "theirs")
    if name == "f.zarr":
        (tmp_path / "theirs" / "notes.txt").write_text("of the user")
        (tmp_path / "theirs").rename(path)
    else:
        path.write_text("of the user")
    before = contents(tmp_path)
    with rejects("output-exists", name):
        make_forecast(path, existing="overwrite")
    assert contents(tmp_path) == before


def test_interrupted_work_of_other_settings_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f.zarr"
    with monkeypatch.context() as patch:
        Failing(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make_forecast(path)
    with rejects("other-configuration", "forecast.num_steps"):
        make_forecast(path, existing="resume", num_steps=3)
    written = make_forecast(path, existing="overwrite", num_steps=3)
    assert written.sizes["lead_time"] == 3


def test_a_full_disk_keeps_what_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.zarr"
    with monkeypatch.context() as patch:
        Failing(patch, 3, OSError(errno.ENOSPC, "No space left on device"))
        with rejects("disk-full", "f.zarr"):
            make_forecast(path, chunks="lead_time")
    assert not path.exists()
    assert (tmp_path / ".f.zarr.partial" / "ledger-0.jsonl").read_text().count("\n") == 3
    make_forecast(path, chunks="lead_time")
    make_forecast(tmp_path / "whole.zarr", chunks="lead_time")
    assert contents(path) == contents(tmp_path / "whole.zarr")


@pytest.fixture
def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict]:
    """Output of a forecast that was interrupted after its restart file, and its options."""
    path, options = tmp_path / "f.zarr", {"num_steps": 6, "chunks": "lead_time", "restart_every": 2}
    with monkeypatch.context() as patch:
        Failing(patch, 5, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            make_forecast(path, **options)
    return path, options


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def other_states(content: bytes) -> bytes:
    """A valid file of fewer forecasts, without a digest, as of earlier versions."""
    fewer = {name: value[:1].contiguous() for name, value in load(content).items()}
    fewer["0.history"] = fewer["0.history"][..., :1].contiguous()
    return save(fewer, {"note": json.dumps({"num_steps": 4, "records": []})})


def test_a_damaged_restart_file_is_named_and_may_be_deleted(
    interrupted: tuple[Path, dict],
) -> None:
    path, options = interrupted
    file = path.parent / ".f.zarr.partial" / "restart-0.safetensors"
    content = file.read_bytes()
    for damaged, found in (
        (b"", "safetensors"),
        (content[: len(content) // 2], "safetensors"),
        (flip(content, len(content) - 9), "has changed"),
        (content.replace(b'num_steps\\": 4', b'num_steps\\": 3'), "has changed"),
        (save({}), "note"),
        (other_states(content), "shape"),
    ):
        file.write_bytes(damaged)
        with rejects("damaged-restart", str(file), found, "delete it"):
            make_forecast(path, **options)
    file.unlink()
    make_forecast(path, **options)
    make_forecast(path.with_name("whole.zarr"), **options)
    assert contents(path) == contents(path.with_name("whole.zarr"))


def test_a_chunk_that_the_records_have_lost_is_computed_again(
    interrupted: tuple[Path, dict],
) -> None:
    path, options = interrupted
    ledger = path.parent / ".f.zarr.partial" / "ledger-0.jsonl"
    first, *others = ledger.read_text().splitlines(keepends=True)
    ledger.write_text(first.replace("start", "st\0rt") + "".join(others))
    assert make_forecast(path, **options) is not None
    make_forecast(path.with_name("whole.zarr"), **options)
    assert contents(path) == contents(path.with_name("whole.zarr"))


def test_damaged_blow_ups_are_named(interrupted: tuple[Path, dict]) -> None:
    path, _ = interrupted
    file = path.parent / ".f.zarr.partial" / "records-0.json"
    work = Work(path, {}, num_units=1, num_chunks=1)
    for text in ("[", "{}", '[{"init_time": 7}]', "\udcff"):
        file.write_bytes(text.encode(errors="surrogateescape"))
        with rejects("damaged-restart", str(file)):
            work.blow_ups()


def test_two_processes_of_one_rank_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "f.zarr"
    process = start_slowly(path, LONG, seconds=300.0)  # until it is killed
    while not (tmp_path / ".f.zarr.partial" / "identity.json").exists():
        assert process.is_alive()
        time.sleep(0.005)
    with rejects("busy", str(path)):
        make_forecast(path, **LONG)
    process.kill()
    process.join()
