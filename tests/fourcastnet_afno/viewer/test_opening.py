"""Stores and run folders as fields to be shown."""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.sources.config import SourceConfig
from data_pipeline.timestep import Timestep
from fourcastnet_afno.viewer.opening import Viewed, open_viewed, starts_of_windows
from tests.builders.errors import rejects
from tests.builders.experiments import (
    make_data_config,
    make_dataset,
    make_experiment,
    make_untrained_run,
)
from tests.builders.forecasts import make_forecast, make_truth, to_weatherbench


def names(viewed: Viewed) -> list[str]:
    return [view.name for view in viewed.explored.views]


def test_forecasts_next_to_truth(viewed: Viewed, scored_folder: Path) -> None:
    assert names(viewed)[:3] == ["truth", "ours, mean", "ours, spread"]
    channel = viewed.explored.channels.labels.index("2m_temperature")
    with xr.open_dataset(scored_folder / "truth.nc") as truth:
        valid = viewed.explored.init_times[2] + viewed.explored.lead_times.values[1]
        expected = truth["2m_temperature"].sel(time=valid)
        np.testing.assert_array_equal(viewed.explored.field(channel, 2, 0, 1), expected)


def test_forecasts_alone(scored_folder: Path) -> None:
    viewed = open_viewed(scored_folder / "theirs.zarr")
    assert names(viewed) == ["theirs"]
    assert (viewed.name, viewed.scores) == ("theirs.zarr", None)


def test_a_prepared_store_and_the_run_folder_around_it(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    _, store = make_untrained_run(make_experiment(tmp_path / "data.nc"), tmp_path / "run")
    explored = open_viewed(tmp_path / "run" / "data.zarr").explored
    assert names(open_viewed(tmp_path / "run")) == ["data"]
    shown = explored.init_times[:, None] + explored.lead_times.values
    for index in (0, 5, len(store.times) - 1):
        ((init, lead),) = np.argwhere(shown == store.times[index]).tolist()
        fields = [explored.field(c, init, 0, lead) for c in range(len(explored.channels))]
        order = [store.channels.labels.index(label) for label in explored.channels.labels]
        np.testing.assert_array_equal(fields, store.states[index : index + 1, :][0][order])
    truth = make_truth()
    forecast = to_weatherbench(make_forecast(truth))
    forecast.to_zarr(tmp_path / "run" / "forecast.zarr", zarr_format=3, consolidated=False)
    with rejects("grid-mismatch", "run"):
        open_viewed(tmp_path / "run")
    (tmp_path / "run" / "scores.nc").write_text("no scores")
    with rejects("unreadable-file", "scores.nc"):
        open_viewed(tmp_path / "run")


def test_the_climatology_of_a_prepared_store_is_shown(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    store = prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")
    days = np.arange(1, 4) * np.timedelta64(1, "D").astype("timedelta64[ns]")
    fields = store.dataset().compute().isel(time=slice(85, None))
    make_forecast(fields, 8, days).to_netcdf(tmp_path / "f.nc")
    viewed = open_viewed(tmp_path / "f.nc", SourceConfig(path=str(tmp_path / "data.zarr")))
    assert names(viewed) == ["truth", "f", "persistence", "climatology"]
    valid = viewed.explored.init_times[5] + days[1:2]
    expected = store.channels.stack(climatology_at(store.climatology(), valid)).values[0]
    for index, label in enumerate(viewed.explored.channels.labels):
        field = viewed.explored.field(index, 5, 3, 1)
        np.testing.assert_allclose(field, expected[store.channels.labels.index(label)], rtol=1e-6)


def test_windows_hold_each_time_once() -> None:
    step = Timestep.parse("6h")
    times = np.datetime64("2001-01-01", "ns") + np.arange(50) * step.delta
    times = np.delete(times, [7, 8, 9, 30])
    starts = starts_of_windows(times, step, 10)
    shown = starts[:, None] + np.arange(10) * step.delta
    assert all((shown == time).sum() == 1 for time in times)


def test_nothing_to_show_is_named(tmp_path: Path) -> None:
    with rejects("missing-file", "nowhere"):
        open_viewed(tmp_path / "nowhere")
