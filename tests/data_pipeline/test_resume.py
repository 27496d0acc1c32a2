"""A preparation that is killed, disturbed or short of disk, and stores that change afterwards."""

import multiprocessing
import os
import random
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import prepare as preparation
from data_pipeline import store as stores
from data_pipeline.errors import InputError, TransferError
from data_pipeline.ledger import Ledger
from data_pipeline.prepare import DataConfig, prepare
from data_pipeline.store import PreparedStore, shard_path
from tests.builders import make_data_config, make_dataset

_BLOCK_BYTES = 4 * 2 * 6 * 12 * 5  # five states


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    monkeypatch.setattr(stores, "_SHARD_BYTES", _BLOCK_BYTES)
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return make_data_config(tmp_path / "data.nc")


def prepare_slowly(config: DataConfig, path: Path) -> None:
    """In a process of its own: blocks of five states, a little time for each."""
    stores._SHARD_BYTES = _BLOCK_BYTES
    load = preparation._load

    def slow(*arguments: object) -> np.ndarray:
        time.sleep(0.01)
        return load(*arguments)  # type: ignore[arg-type]

    preparation._load = slow
    prepare(config, path)


def start(config: DataConfig, path: Path) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.data_pipeline.test_resume"])
    process = context.Process(target=prepare_slowly, args=(config, path))
    process.start()
    return process


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_bit_for_bit(config: DataConfig, tmp_path: Path) -> None:
    path, generator = tmp_path / "killed.zarr", random.Random(0)
    ledger = tmp_path / ".killed.zarr.partial" / "ledger.jsonl"

    def blocks() -> int:
        return ledger.read_bytes().count(b"\n") if ledger.exists() else 0

    for _ in range(20):
        before = blocks()
        wanted = before + generator.choice([0, 1, 1, 2])
        process = start(config, path)
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
    load, count = preparation._load, [0]

    def failing(*arguments: object) -> np.ndarray:
        count[0] += 1
        if count[0] > blocks:
            raise error
        return load(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(preparation, "_load", failing)


@pytest.mark.parametrize("error", [TransferError("no network"), KeyboardInterrupt()])
def test_an_interruption_costs_no_finished_block(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    path = tmp_path / "data.zarr"
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, error)
        with pytest.raises(type(error)):
            prepare(config, path)
    read = []
    monkeypatch.setattr(
        preparation,
        "_load",
        lambda block, what, load=preparation._load: read.append(what) or load(block, what),
    )
    store = prepare(config, path)
    assert len(read) == 24 - 4
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


def test_wrong_data_leaves_nothing_behind(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after(monkeypatch, 4, InputError("NaN"))
    with pytest.raises(InputError, match="NaN"):
        prepare(config, tmp_path / "data.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["data.nc"]


def test_two_processes_do_not_write_one_store(config: DataConfig, tmp_path: Path) -> None:
    path = tmp_path / "data.zarr"
    process = start(config, path)
    lock = tmp_path / ".data.zarr.partial" / "identity.json"
    while not lock.exists():
        assert process.is_alive()
        time.sleep(0.005)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    try:
        with pytest.raises(InputError, match="another process is preparing"):
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
    message = r"1 files of .* have changed .*c/3/0/0/0 \(2001-01-16T.* to 2001-01-20T"
    with pytest.raises(InputError, match=message):
        PreparedStore(store.path).verify()


def test_a_small_disk_is_refused_before_writing(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with pytest.raises(InputError, match=r"the store takes .* has 0.00 GiB free"):
        prepare(config, tmp_path / "data.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["data.nc"]


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"start": 0, "checksum": "aa"}\n{"start": 5, "che')
    ledger = Ledger(path)
    assert ledger.checksums == {0: "aa"}
    ledger.record(5, "bb")
    assert Ledger(path).checksums == {0: "aa", 5: "bb"}
