"""Plain chunks of zarr stores, read without decoding, hold what xarray reads."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.inputs.fields import DatasetFields
from fourcastnet_afno.evaluation.inputs.mapped import mapped_variable
from fourcastnet_afno.evaluation.inputs.open import open_series, open_with_layouts
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
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
    opened, layouts = open_with_layouts(str(tmp_path / "f.zarr"))
    source = DatasetFields(opened, None, layouts)
    assert mapped_variable(opened, layouts, "geopotential") is not None
    inits = opened["init_time"].values[[1, 2, 4]]
    channel = Channel(name="geopotential", level=500, units="m2 s-2")
    found = [block.copy() for block in source.read(channel, inits, slice(1, 4))]
    np.testing.assert_array_equal(np.concatenate(found)[:, :, 0], values[[1, 2, 4], 1:4, 1])


@pytest.mark.parametrize("south", [False, True])
@pytest.mark.parametrize("chunks", [(2, 3, 32, 64), (3, 2, 32, 64)])
def test_a_series_in_any_chunks(tmp_path: Path, chunks: tuple[int, ...], south: bool) -> None:
    dims = ("time", "level", "latitude", "longitude")
    values = write(tmp_path / "s.zarr", chunks, dims, south=south)["geopotential"].values
    opened, layouts = open_series(str(tmp_path / "s.zarr"))
    assert layouts["geopotential"].flip == south
    truth = TruthFields(opened, None, layouts)
    for level, index in ((300, 0), (850, 2)):
        channel = Channel(name="geopotential", level=level, units="m2 s-2")
        for order in ([0, 2, 4], [1], [0, 1, 3]):
            found = truth.at(channel, truth.times[order])
            np.testing.assert_array_equal(found, values[order, index])


def test_a_chunk_that_is_cut_off_is_rejected(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr", (2, 3, 32, 64), ("time", "level", *GRID.dims), south=False)
    file = tmp_path / "s.zarr/geopotential/c/1/0/0/0"
    file.write_bytes(file.read_bytes()[:-4])
    opened, layouts = open_series(str(tmp_path / "s.zarr"))
    truth = TruthFields(opened, None, layouts)
    channel = Channel(name="geopotential", level=500, units="m2 s-2")
    with rejects("unreadable-file", "c/1/0/0/0"):
        truth.at(channel, truth.times[1:3])
