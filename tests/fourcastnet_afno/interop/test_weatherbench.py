"""Entries of the public benchmark of WeatherBench-X, whose reader is not on PyPI.

``read`` does what the documentation of its ``PredictionsFromXarray`` says.
"""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.interop.weatherbench import benchmark_entries
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, make_forecast, make_states

GRID = LatLonGrid.equiangular(32, 64)
CHANNELS = Channels(
    (
        Channel(name="geopotential", level=500, units="m2 s-2"),
        Channel(name="geopotential", level=300, units="m2 s-2"),
        Channel(name="2m_temperature", units="K"),
        Channel(name="surface_pressure", units="Pa"),
    )
)


def write(
    path: Path, channels: Channels = CHANNELS, grid: LatLonGrid = GRID, **options: object
) -> Path:
    data = make_states(3, grid, channels)
    times = data["time"].values[:2]
    make_forecast(path, Growing(grid, channels=channels), data, times, num_steps=2, **options)
    return path


def read(entry: dict[str, Any], init_times: np.ndarray, lead_times: np.ndarray) -> xr.Dataset:
    """Select a chunk as the benchmark does."""
    names = {"time": "init_time", "prediction_timedelta": "lead_time"}
    names = entry.get("data_loader_kwargs", {}).get("rename_dimensions", names)
    dataset = xr.open_zarr(entry["path"], decode_timedelta=True).rename(names)
    dataset = dataset[entry["variables"]].sel(level=entry.get("levels", [500, 700, 850]))
    return dataset.sel(init_time=init_times, lead_time=lead_times)


@pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated")  # slower alone
def test_the_benchmark_reads_what_its_entry_names(tmp_path: Path) -> None:
    path = write(tmp_path / "forecast.zarr")
    entries = benchmark_entries(path, "afno")
    assert entries.table == "deterministic_prediction_configs"
    assert list(entries.entries) == ["afno_64x32_2020"]
    entry = entries.entries["afno_64x32_2020"]
    assert entry["variables"] == ["geopotential", "2m_temperature"]
    times = np.array(["2020-01-01", "2020-01-01T06"], dtype="datetime64[ns]")
    chunk = read(entry, times, np.array([6, 12], dtype="timedelta64[h]"))
    states = make_states(3, GRID, CHANNELS)["2m_temperature"].values
    np.testing.assert_allclose(
        chunk["2m_temperature"].sel(lead_time="12h"), states[:2] + 2, rtol=1e-6
    )
    assert chunk["geopotential"].dims[-3:] == ("level", "latitude", "longitude")
    assert chunk["level"].values.tolist() == [500]


def test_the_text_of_entries_is_python(tmp_path: Path) -> None:
    entries = benchmark_entries(write(tmp_path / "forecast.zarr"), "afno")
    call = ast.parse(entries.text, mode="eval").body
    assert isinstance(call, ast.Call)
    assert ast.unparse(call.func) == "deterministic_prediction_configs.update"
    assert ast.literal_eval(call.args[0]) == entries.entries


@pytest.mark.filterwarnings("ignore:Failed to open Zarr store with consolidated")
def test_members_belong_to_the_probabilistic_table(tmp_path: Path) -> None:
    path = write(tmp_path / "members.zarr", num_members=2, perturbation="gaussian")
    entries = benchmark_entries(path, "afno")
    assert entries.table == "probabilistic_prediction_configs"
    (entry,) = entries.entries.values()
    times = np.array(["2020-01-01"], dtype="datetime64[ns]")
    chunk = read(entry, times, np.array([6], dtype="timedelta64[h]"))
    assert chunk.sizes["number"] == 2


def test_forecasts_that_the_benchmark_has_no_truth_for_are_rejected(tmp_path: Path) -> None:
    other = write(tmp_path / "other.zarr", grid=LatLonGrid.equiangular(6, 12))
    with rejects("grid-mismatch", "other.zarr", "12 x 6", "64x32"):
        benchmark_entries(other, "afno")
    channels = Channels((Channel(name="geopotential", level=300, units="m2 s-2"),))
    surface = write(tmp_path / "surface.zarr", channels=Channels((CHANNELS.channels[2],)))
    with rejects("missing-variable", "surface.zarr", "['2m_temperature'] alone", "levels"):
        benchmark_entries(surface, "afno")
    high = write(tmp_path / "high.zarr", channels=channels)
    with rejects("missing-variable", "high.zarr", "geopotential"):
        benchmark_entries(high, "afno")
