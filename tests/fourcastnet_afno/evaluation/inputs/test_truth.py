"""Truth is read once, by all threads that need it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.inputs.mapped import MappedVariable
from fourcastnet_afno.evaluation.inputs.open import open_series
from fourcastnet_afno.evaluation.inputs.truth import TruthFields

GRID = LatLonGrid.equiangular(32, 64)


LEVELS = (300, 500, 700, 850)  # so that a chunk is large enough to be read undecoded


NUM_TIMES = 40


def series(path: Path) -> tuple[TruthFields, np.ndarray]:
    """A store of four levels with a chunk for each time, and its values."""
    start = np.datetime64("2001-01-01", "ns")
    coords = {
        "time": start + np.arange(NUM_TIMES) * np.timedelta64(6, "h"),
        "level": list(LEVELS),
        **GRID.coords,
    }
    shape = (NUM_TIMES, len(LEVELS), *GRID.shape)
    values = np.random.default_rng(0).standard_normal(shape).astype("f4")
    variable = (tuple(coords), values, {"units": "m2 s-2"})
    dataset = xr.Dataset({"geopotential": variable}, coords)
    encoding = {"geopotential": {"chunks": (1, *shape[1:]), "compressors": None}}
    dataset.to_zarr(path, encoding=encoding, consolidated=False, zarr_format=3)
    opened, layouts = open_series(str(path))
    return TruthFields(opened, None, layouts), values


def channel(level: int) -> Channel:
    return Channel(name="geopotential", level=level, units="m2 s-2")


def in_threads(truth: TruthFields, num_threads: int) -> list[np.ndarray | BaseException]:
    """What each of several threads gets or raises, which all ask at once."""
    barrier = Barrier(num_threads)

    def ask(index: int) -> np.ndarray:
        barrier.wait()
        return truth.at(channel(LEVELS[index % 4]), truth.times[5:35])

    with ThreadPoolExecutor(num_threads) as pool:
        futures = [pool.submit(ask, index) for index in range(num_threads)]
        return [future.exception() or future.result() for future in futures]


def test_threads_read_each_time_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth, values = series(tmp_path / "s.zarr")
    read: list[int] = []
    original = MappedVariable.states

    def counted(self: MappedVariable, order: np.ndarray, result: np.ndarray) -> None:
        read.extend(order.tolist())
        original(self, order, result)

    monkeypatch.setattr(MappedVariable, "states", counted)
    for index, found in enumerate(in_threads(truth, 6)):
        np.testing.assert_array_equal(found, values[5:35, index % 4])
    assert sorted(read) == list(range(5, 35))


def test_what_was_read_ahead_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data = xr.Dataset(
        {"a": (("time", "latitude", "longitude"), np.ones((4, 2, 3)))},
        {"time": np.arange(4).astype("datetime64[D]").astype("datetime64[ns]")},
    )
    fields = TruthFields(data)
    fields.read_ahead(data["time"].values[1:3])
    fields.read_ahead(data["time"].values[:0])

    def fail(*_: object) -> None:
        raise AssertionError("it is read")

    monkeypatch.setattr(xr.DataArray, "isel", fail)
    assert fields.at(Channel(name="a"), data["time"].values[1:3]).tolist() == [[[1.0] * 3] * 2] * 2


def test_every_thread_learns_of_a_damaged_chunk(tmp_path: Path) -> None:
    truth, _ = series(tmp_path / "s.zarr")
    file = tmp_path / "s.zarr/geopotential/c/20/0/0/0"
    file.write_bytes(file.read_bytes()[:-4])
    for found in in_threads(truth, 4):
        assert isinstance(found, InputError)
        assert "is damaged or not complete" in str(found)
