"""Plain chunks of zarr stores, read without decoding, hold what xarray reads."""

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import xarray as xr
import zarr
from zarr.codecs import BytesCodec

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.evaluation.inputs.fields import DatasetFields
from fourcastnet_afno.evaluation.inputs.open import open_series, open_with_layouts
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.inference.config import StoreConfig
from fourcastnet_afno.inference.store import ForecastLayout, ForecastStore
from tests.builders.errors import rejects

GRID = LatLonGrid.equiangular(32, 64)
HOURS = np.timedelta64(6, "h").astype("timedelta64[ns]")
OPTIONS = {"consolidated": False, "zarr_format": 3}


def write(path: Path, chunks: tuple[int, ...], dims: tuple[str, ...], *, south: bool) -> xr.Dataset:
    """A forecast or a series of a variable on three levels."""
    sizes = {"time": 5, "prediction_timedelta": 4, "level": 3, "latitude": 32, "longitude": 64}
    coords = {
        "time": np.datetime64("2001-01-01", "ns") + np.arange(5) * HOURS,
        "prediction_timedelta": np.arange(4) * HOURS,
        "level": [300, 500, 850],
        **GRID.coords,
    }
    values = np.random.default_rng(0).standard_normal([sizes[d] for d in dims]).astype("f4")
    dataset = xr.Dataset(
        {"geopotential": (dims, values, {"units": "m2 s-2"})},
        coords={dim: coords[dim] for dim in dims},
    )
    stored = dataset.isel(latitude=slice(None, None, -1)) if south else dataset
    encoding = {"geopotential": {"chunks": chunks, "compressors": None}}
    stored.to_zarr(path, encoding=encoding, **OPTIONS)
    return dataset


@pytest.mark.parametrize("south", [False, True])
@pytest.mark.parametrize("chunks", [(1, 4, 1, 32, 64), (2, 3, 2, 32, 64)])
def test_a_forecast_in_any_chunks(tmp_path: Path, chunks: tuple[int, ...], south: bool) -> None:
    dims = ("time", "prediction_timedelta", "level", "latitude", "longitude")
    values = write(tmp_path / "f.zarr", chunks, dims, south=south)["geopotential"].values
    opened, mapped = open_with_layouts(str(tmp_path / "f.zarr"))
    source = DatasetFields(opened, None, mapped)
    assert "geopotential" in mapped
    inits = opened["init_time"].values[[1, 2, 4]]
    channel = Channel(name="geopotential", level=500, units="m2 s-2")
    found = [block.copy() for block in source.read(channel, inits, slice(1, 4))]
    np.testing.assert_array_equal(np.concatenate(found)[:, :, 0], values[[1, 2, 4], 1:4, 1])


@pytest.mark.parametrize("south", [False, True])
@pytest.mark.parametrize("chunks", [(2, 3, 32, 64), (3, 2, 32, 64)])
def test_a_series_in_any_chunks(tmp_path: Path, chunks: tuple[int, ...], south: bool) -> None:
    dims = ("time", "level", "latitude", "longitude")
    values = write(tmp_path / "s.zarr", chunks, dims, south=south)["geopotential"].values
    opened, mapped = open_series(str(tmp_path / "s.zarr"))
    assert "geopotential" in mapped
    truth = TruthFields(opened, None, mapped)
    for level, index in ((300, 0), (850, 2)):
        channel = Channel(name="geopotential", level=level, units="m2 s-2")
        for order in ([0, 2, 4], [1], [0, 1, 3]):
            found = truth.at(channel, truth.times[order])
            np.testing.assert_array_equal(found, values[order, index])


def test_a_chunk_that_is_cut_off_is_rejected(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", (2, 3, 32, 64), ("time", "level", *GRID.dims), south=False)
    file = tmp_path / "s.zarr/geopotential/c/1/0/0/0"
    file.write_bytes(file.read_bytes()[:-4])
    opened, mapped = open_series(str(tmp_path / "s.zarr"))
    truth = TruthFields(opened, None, mapped)
    channel = Channel(name="geopotential", level=500, units="m2 s-2")
    with rejects("unreadable-file", "c/1/0/0/0"):
        truth.at(channel, truth.times[1:3])


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("missing", [np.nan, -9999.0])
def test_bytes_and_missing_values_are_those_of_xarray(
    tmp_path: Path, endian: Literal["little", "big"], missing: float
) -> None:
    store = tmp_path / "s.zarr"
    dataset = write(store, (2, 3, 32, 64), ("time", "level", *GRID.dims), south=False)
    values = dataset["geopotential"].values
    values[:, 0, :8] = missing
    shutil.rmtree(store / "geopotential")
    array = zarr.open_group(store, mode="a").create_array(
        "geopotential", shape=values.shape, dtype="f4", chunks=(2, 3, 32, 64), compressors=None,
        serializer=BytesCodec(endian=endian), dimension_names=("time", "level", *GRID.dims),
    )  # fmt: skip
    array.attrs["units"] = "m2 s-2"
    if not np.isnan(missing):
        array.attrs["missing_value"] = missing
    array[:] = values
    opened, mapped = open_series(str(store))
    assert bool(mapped) == (endian == "little" and np.isnan(missing))
    truth = TruthFields(opened, None, mapped)
    found = truth.at(Channel(name="geopotential", level=300, units="m2 s-2"), truth.times)
    assert np.isnan(found[:, :8]).all()
    np.testing.assert_array_equal(found[:, 8:], values[:, 0, 8:])


def reopened(store: Path) -> TruthFields:
    opened, mapped = open_series(str(store))
    return TruthFields(opened, None, mapped)


def test_a_store_that_is_written_again_is_noticed(tmp_path: Path) -> None:
    store, dims = tmp_path / "s.zarr", ("time", "level", *GRID.dims)
    write(store, (2, 3, 32, 64), dims, south=False)
    opened, mapped = open_series(str(store))
    truth = TruthFields(opened, None, mapped)
    shutil.rmtree(store)
    values = write(store, (1, 3, 32, 64), dims, south=False)["geopotential"].values
    channel = Channel(name="geopotential", level=500, units="m2 s-2")
    with rejects("files-differ", "s.zarr/geopotential"):
        truth.at(channel, truth.times)
    again = reopened(store)
    np.testing.assert_array_equal(again.at(channel, truth.times), values[:, 1])


def test_uncompressed_forecasts_of_this_project_are_mapped(tmp_path: Path) -> None:
    channels = Channels(
        (
            Channel(name="geopotential", level=500, units="m2 s-2"),
            Channel(name="geopotential", level=850, units="m2 s-2"),
            Channel(name="2m_temperature", units="K"),
        )
    )
    layout = ForecastLayout(
        channels=channels,
        grid=GRID,
        init_times=np.datetime64("2001-01-01", "ns") + np.arange(2) * HOURS,
        lead_times=np.arange(1, 5) * HOURS,
        step=Timestep.of_hours(1),
        members=(),
        forecasts_together=(1, 1),
        config=StoreConfig(compression="none"),
    )
    store = ForecastStore(tmp_path / "f.zarr", layout)
    store.create({}, quantiles=None)
    opened, mapped = open_with_layouts(str(tmp_path / "f.zarr"))
    assert set(mapped) == set(opened.data_vars) == {"geopotential", "2m_temperature"}
