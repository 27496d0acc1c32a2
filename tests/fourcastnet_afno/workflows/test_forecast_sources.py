"""A source is treated as it was for training: accumulated, filled, or refused."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.periods import Period
from data_pipeline.preprocessing.filling import FillRule
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.forecast import forecast_from
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import build_forecaster
from tests.builders.errors import rejects
from tests.builders.experiments import (
    GRID,
    make_data_config,
    make_dataset,
    make_experiment,
    make_forecaster,
    make_untrained_run,
)
from tests.builders.open_data import gfs_file, grib_message

RAIN, SEA = "total_precipitation", "sea_surface_temperature"
HOUR = np.timedelta64(1, "h")


def hourly() -> xr.Dataset:
    """Ten days of hourly rain and sea-surface temperature, which is missing on land."""
    rng = np.random.default_rng(0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(240) * HOUR
    dims, shape = ("time", *GRID.dims), (240, *GRID.shape)
    rain = rng.gamma(0.2, 1e-3, shape).astype("f4")
    warm = (280 + 5 * rng.standard_normal(shape)).astype("f4")
    warm[:, 2:4, 3:6] = np.nan
    return xr.Dataset(
        {RAIN: (dims, rain, {"units": "m"}), SEA: (dims, warm, {"units": "K"})},
        {"time": times, **GRID.coords},
    )


@dataclass
class Files:
    source: Path
    prepared: Path
    checkpoint: Path


def make_files(folder: Path, rule: FillRule) -> Files:
    """A checkpoint of fresh weights, as training leaves it, and both kinds of data."""
    hourly().to_netcdf(folder / "hourly.nc")
    data = make_data_config(
        folder / "hourly.nc",
        prognostic=[SEA, RAIN, "log_total_precipitation_6hr"],
        static=[],
        forcings=[],
        timestep_hours=6,
        accumulate={RAIN: "sum"},
        fill={SEA: rule},
        train=Period(start="2001-01-01", end="2001-01-06"),
        validation=Period(start="2001-01-07", end="2001-01-08"),
        test=Period(start="2001-01-09", end="2001-01-10"),
    )
    config: ExperimentConfig = replace(make_experiment(folder / "hourly.nc"), data=data)
    checkpoint, _ = make_untrained_run(config, folder / "run")
    return Files(folder / "hourly.nc", folder / "run" / "data.zarr", checkpoint)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return make_files(tmp_path_factory.mktemp("files"), 271.15)


def forecast(files: Files, source: Path, output: Path, init_times: str | None = None) -> xr.Dataset:
    config = ForecastConfig(num_steps=2, init_times=init_times)
    given = SourceConfig(path=str(source))
    written = forecast_from(config, files.checkpoint, given, output, "cpu", "refuse")
    assert written is not None
    return written


@pytest.mark.parametrize("init_times", [None, "2001-01-03T06,2001-01-09"])
def test_a_raw_source_is_the_prepared_data_bit_for_bit(
    files: Files, tmp_path: Path, init_times: str | None
) -> None:
    raw = forecast(files, files.source, tmp_path / "raw.zarr", init_times)
    prepared = forecast(files, files.prepared, tmp_path / "prepared.zarr", init_times)
    assert raw.sizes["init_time"] > 1
    xr.testing.assert_equal(raw, prepared)


def test_states_may_lie_between_those_of_training(files: Files, tmp_path: Path) -> None:
    """Rain at 05 UTC is the sum of the six hours that end there."""
    first = forecast(files, files.source, tmp_path / "a.zarr", "2001-01-03T05")
    moved = hourly().assign_coords(time=hourly()["time"].values + HOUR)
    moved.to_netcdf(tmp_path / "moved.nc")
    second = forecast(files, tmp_path / "moved.nc", tmp_path / "b.zarr", "2001-01-03T06")
    for name in (SEA, RAIN):
        np.testing.assert_array_equal(first[name], second[name])


def test_sums_that_cannot_be_made_are_refused(files: Files, tmp_path: Path) -> None:
    hourly().isel(time=slice(0, None, 6)).to_netcdf(tmp_path / "thinned.nc")
    with rejects("timestep-mismatch", "thinned.nc", "6 h"):
        forecast(files, tmp_path / "thinned.nc", tmp_path / "f.zarr")
    # The history reaches back before the data.
    with rejects("no-times", "T05:00:00", "2000-12-31T23:00:00"):
        forecast(files, files.source, tmp_path / "f.zarr", "2001-01-01T05")
    assert not (tmp_path / "f.zarr").exists()


def test_a_climatology_that_the_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    """It holds what training saw on land, and not what it saw below ice."""
    files, init = make_files(tmp_path, "climatology"), "2001-01-03"
    expected = forecast(files, files.prepared, tmp_path / "f.zarr", init)
    xr.testing.assert_equal(forecast(files, files.source, tmp_path / "g.zarr", init), expected)
    assert expected[SEA][..., 2:4, 3:6].isnull().all()
    assert int(expected[SEA].isnull().sum()) == 2 * 6
    ice = hourly()
    ice[SEA][:, 0, 0] = np.nan
    ice.to_netcdf(tmp_path / "ice.nc")
    with rejects("not-finite", "sea_surface_temperature at 2001-01-02T18", "climatology"):
        forecast(files, tmp_path / "ice.nc", tmp_path / "h.zarr", init)
    assert not (tmp_path / "h.zarr").exists()


def test_names_and_members_are_those_of_training(tmp_path: Path) -> None:
    """A source in the same format needs no settings of its own."""
    dataset = make_dataset().rename({"2m_temperature": "TREFHT"})
    members = xr.concat([dataset + 1, dataset], "number").assign_coords(number=[3, 5])
    members.map(lambda a: a.assign_attrs(dataset[a.name].attrs)).to_netcdf(tmp_path / "data.nc")
    given = make_experiment(tmp_path / "data.nc")
    settings = {"rename": {"TREFHT": "t2m"}, "select": {"number": 5}}
    source = SourceConfig(path=str(tmp_path / "data.nc"), **settings)
    config = replace(given, data=replace(given.data, source=source))
    checkpoint, store = make_untrained_run(config, tmp_path / "run")
    files = Files(tmp_path / "data.nc", Path(store.path), checkpoint)
    init = str(store.dataset()["time"].values[8])
    raw = forecast(files, files.source, tmp_path / "raw.zarr", init)
    expected = forecast(files, files.prepared, tmp_path / "prepared.zarr", init)
    xr.testing.assert_allclose(raw["2m_temperature"], expected["2m_temperature"], rtol=1e-5)


@pytest.fixture(scope="module")
def global_files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A checkpoint for a grid with rows on the poles, as reanalyses come in GRIB."""
    folder = tmp_path_factory.mktemp("global")
    latitude = tuple(np.linspace(90, -90, 7).tolist())
    grid = LatLonGrid(latitude=latitude, longitude=GRID.longitude)
    make_dataset(grid=grid).to_netcdf(folder / "data.nc")
    given = make_experiment(folder / "data.nc")
    network = replace(given.model.network, patch_size=(1, 3))
    model = replace(given.model, num_history=1, network=network)
    config = replace(given, model=model)
    store = prepare_run(config, folder / "run")
    assert store is not None
    torch.manual_seed(0)
    checkpoint = folder / "best.safetensors"
    forecaster = build_forecaster(config, store)
    save_checkpoint(checkpoint, forecaster, {}, {"config": config.to_yaml()})
    return Files(folder / "data.nc", Path(store.path), checkpoint)


@pytest.mark.parametrize("suffix", ["grib", "nc"])
def test_a_file_with_a_single_state_is_a_source(
    global_files: Files, tmp_path: Path, suffix: str
) -> None:
    with xr.open_dataset(global_files.source) as opened:
        state = opened.drop_vars("height").isel(time=[40]).load()
    path = tmp_path / f"state.{suffix}"
    if suffix == "grib":
        pytest.importorskip("cfgrib")
        from tests.builders.era5 import make_grib

        for name, short in (("2m_temperature", "2t"), ("mean_sea_level_pressure", "msl")):
            make_grib(state[name], short, tmp_path / short)
            with path.open("ab") as whole:
                whole.write((tmp_path / short).read_bytes())
    else:
        state.isel(time=0).to_netcdf(path)  # the time is no axis
    written = forecast(global_files, path, tmp_path / "f.zarr")
    (init,) = state["time"].values
    assert written["init_time"].values.tolist() == [init.astype("datetime64[ns]").astype(int)]
    when = str(init.astype("datetime64[h]"))
    expected = forecast(global_files, global_files.source, tmp_path / "g.zarr", when)
    for name in ("2m_temperature", "mean_sea_level_pressure"):
        # GRIB keeps 24 bits of the range of a field.
        np.testing.assert_allclose(written[name], expected[name], rtol=1e-6)
    if suffix == "nc":
        xr.testing.assert_equal(written, expected)


def test_published_analyses_are_initial_states(tmp_path: Path) -> None:
    """Two files of GFS hold the history of a state; what they lack is named."""
    grid = LatLonGrid.equiangular(7, 12, poles=True)
    network = AFNONetConfig(patch_size=(1, 3), embed_dim=8, depth=1, num_blocks=2)
    forecaster = make_forecaster(grid, num_history=2, network=network, units=("m2 s-2", "K"))
    save_checkpoint(tmp_path / "best.safetensors", forecaster, {}, {})
    files = Files(tmp_path / "states.nc", tmp_path, tmp_path / "best.safetensors")
    times = np.datetime64("2026-11-29T18", "ns") + np.arange(2) * 6 * HOUR
    states = np.random.default_rng(0).normal([[[5500.0]], [[280.0]]], 5, (2, 2, *grid.shape))
    for time, (height, temperature) in zip(times, states, strict=True):
        fields = {("HGT", "500 mb"): height, ("TMP", "2 m above ground"): temperature}
        hour = str(time.astype("datetime64[h]"))[-2:]
        file = gfs_file(grid, time, 0, fields)
        (tmp_path / f"gfs.t{hour}z.pgrb2.0p25.f000").write_bytes(file.content)
    found = forecast(files, tmp_path / "gfs.t*", tmp_path / "f.zarr")
    dims = ("time", "latitude", "longitude")
    height = states[:, 0, None] * 9.80665
    xr.Dataset(
        {
            "geopotential": (("time", "level", *grid.dims), height, {"units": "m2 s-2"}),
            "2m_temperature": (dims, states[:, 1], {"units": "K"}),
        },
        {"time": times, "level": [500], **grid.coords},
    ).to_netcdf(files.source)
    expected = forecast(files, files.source, tmp_path / "g.zarr")
    assert found["init_time"].values.tolist() == [times[1].astype("datetime64[ns]").astype(int)]
    for name in ("geopotential", "2m_temperature"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    (tmp_path / "surface.grib2").write_bytes(
        grib_message(grid, {"shortName": "2t", "dataDate": 20261130, "dataTime": 0}, states[1, 1])
        + grib_message(grid, {"shortName": "sp", "dataDate": 20261130, "dataTime": 0}, states[1, 0])
    )
    with rejects("missing-variable", "geopotential", "2m_temperature", "surface_pressure"):
        forecast(files, tmp_path / "surface.grib2", tmp_path / "h.zarr")
