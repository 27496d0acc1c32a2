"""A preparation that is killed, disturbed or short of disk, and stores that change afterwards."""

import os
import random
import shutil
import signal
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.errors import InputError, TransferError
from data_pipeline.preparation import prepare as preparation
from data_pipeline.preparation.blocks import process_block
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.states import shard_path
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.processes import start

_SHARD_MIB = 4 * 2 * 6 * 12 * 5 / 2**20  # five states
_NO_ROOM = namedtuple("_Usage", "total used free")(10**6, 10**6 - 1000, 1000)


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    storage = StorageConfig(shard_mib=_SHARD_MIB)
    return make_data_config(tmp_path / "data.nc", storage=storage)


def prepare_slowly(config: DataConfig, path: Path) -> None:
    """In a process of its own: a little time for each block of five states."""
    process = preparation.process_block

    def slow(*arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        time.sleep(0.01)
        return process(*arguments)

    preparation.process_block = slow
    prepare(config, path)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_bit_for_bit(config: DataConfig, tmp_path: Path) -> None:
    path, generator = tmp_path / "killed.zarr", random.Random(0)
    ledger = tmp_path / ".killed.zarr.partial" / "ledger-0.jsonl"

    def blocks() -> int:
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0

    for _ in range(20):
        before = blocks()
        wanted = before + generator.choice([0, 1, 1, 2])
        process = start(prepare_slowly, config, path)
        while blocks() < wanted and process.is_alive():
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.03))
        process.kill()
        process.join()
        assert path.exists() or process.exitcode == -signal.SIGKILL
        assert path.exists() or blocks() >= before
    assert path.exists() or blocks() > 5
    prepare(config, path)
    prepare(config, tmp_path / "whole.zarr")
    assert contents(path) == contents(tmp_path / "whole.zarr")
    assert not (tmp_path / ".killed.zarr.partial").exists()


def interrupt_after(monkeypatch: pytest.MonkeyPatch, blocks: int, error: BaseException) -> None:
    process, count = preparation.process_block, [0]

    def failing(*arguments: Any) -> dict[str, Any]:  # noqa: ANN401
        count[0] += 1
        if count[0] > blocks:
            raise error
        return process(*arguments)

    monkeypatch.setattr(preparation, "process_block", failing)


@pytest.mark.parametrize("ledger", ["ledger-0.jsonl", "ledger.jsonl"])  # now, and in version 0.1
@pytest.mark.parametrize("error", [TransferError("no network"), KeyboardInterrupt()])
def test_an_interruption_costs_no_finished_block(
    config: DataConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    ledger: str,
) -> None:
    path = tmp_path / "data.zarr"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, error)
        with pytest.raises(type(error)):
            prepare(config, path)
    work = tmp_path / ".data.zarr.partial"
    (work / "ledger-0.jsonl").rename(work / ledger)
    leftover = tmp_path / ".data.zarr.partial/store/fields/c/4/0/0/0.0123abcd.partial"
    leftover.parent.mkdir(parents=True, exist_ok=True)
    leftover.write_bytes(b"what a killed writer leaves")
    read = []
    monkeypatch.setattr(
        preparation,
        "process_block",
        lambda *arguments, process=process_block: read.append(1) or process(*arguments),
    )
    store = prepare(config, path)
    assert 24 - 4 <= len(read) <= 24 - 3
    prepare(config, tmp_path / "whole.zarr")
    assert contents(path) == contents(tmp_path / "whole.zarr")
    assert store.fingerprint == PreparedStore(tmp_path / "whole.zarr").fingerprint


def test_data_that_changed_meanwhile_is_read_anew(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            prepare(config, tmp_path / "data.zarr")
    warmer = make_dataset()
    warmer["2m_temperature"] += 1
    warmer["2m_temperature"].attrs["units"] = "K"
    warmer.to_netcdf(tmp_path / "data.nc")
    store = prepare(config, tmp_path / "data.zarr")
    expected = warmer["2m_temperature"].values
    np.testing.assert_array_equal(store.dataset()["2m_temperature"], expected)


def test_wrong_data_costs_no_finished_block(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / ".data.zarr.partial" / "ledger-0.jsonl"
    interrupt_after(monkeypatch, 4, InputError("NaN", code="not-finite"))
    with rejects("not-finite", "NaN"):
        prepare(config, tmp_path / "data.zarr")
    finished = ledger.read_text()
    assert 3 <= finished.count("\n") <= 4
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _NO_ROOM)  # others have filled the disk
    for harmonics in (3, 2, 3):
        with rejects("disk-full", "the store"):
            prepare(replace(config, climatology_harmonics=harmonics), tmp_path / "data.zarr")
    assert ledger.read_text() == finished


def test_two_processes_do_not_write_one_store(config: DataConfig, tmp_path: Path) -> None:
    path = tmp_path / "data.zarr"
    process = start(prepare_slowly, config, path)
    lock = tmp_path / ".data.zarr.partial" / "identity.json"
    while not lock.exists():
        assert process.is_alive()
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with rejects("busy", str(path)):
            prepare(config, path)
    finally:
        os.kill(process.pid, signal.SIGCONT)
    process.join()
    assert process.exitcode == 0
    PreparedStore(path).verify()


def test_a_flipped_byte_is_found_and_named(config: DataConfig, tmp_path: Path) -> None:
    store = prepare(config, tmp_path / "data.zarr")
    store.verify()
    damaged = shard_path(store.path, 3)
    values = bytearray(damaged.read_bytes())
    values[100] ^= 1
    damaged.write_bytes(values)
    with pytest.raises(InputError) as info:
        PreparedStore(store.path).verify()
    assert "c/3/0/0/0 (2001-01-16T" in str(info.value)


def test_a_small_disk_is_rejected_before_writing(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _NO_ROOM)
    with rejects("disk-full", "the store", "0.00 GiB free"):
        prepare(config, tmp_path / "data.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["data.nc"]
