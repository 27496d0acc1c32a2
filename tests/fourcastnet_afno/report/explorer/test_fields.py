"""Fields that the explorer shows."""

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import Grid, LatLonGrid
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields
from fourcastnet_afno.evaluation.inputs.fields import ValidTimeFields
from fourcastnet_afno.evaluation.inputs.valid_times import valid_times_of
from fourcastnet_afno.report.explorer.fields import Explored, explore_forecasts
from tests.builders.forecasts import GRID, LEADS, make_forecast, make_truth


def explored(members: int = 4, **options: int) -> tuple[xr.Dataset, xr.Dataset, Explored]:
    truth = make_truth()
    forecast = make_forecast(truth, members=members)
    result = explore_forecasts(truth, {"ours": forecast}, **options)
    assert result is not None
    return truth, forecast, result


def position(result: Explored, view: str) -> int:
    return [each.name for each in result.views].index(view)


def test_views_are_truth_the_forecast_members_and_persistence() -> None:
    _, _, result = explored(max_members=2)
    assert [view.name for view in result.views] == [
        "truth", "ours, mean", "ours, spread", "ours, member 0", "ours, member 1", "persistence",
    ]  # fmt: skip
    assert [view.mean for view in result.views if view.kind == "spread"] == ["ours, mean"]


def test_fields_are_those_of_the_data() -> None:
    truth, forecast, result = explored()
    channel = result.channels.labels.index("geopotential_850")
    init, lead = 3, 2
    valid = forecast["init_time"].values[init] + LEADS[lead]
    actual = truth["geopotential"].sel(level=850, time=valid).values
    members = forecast["geopotential"].sel(level=850).isel(init_time=init, lead_time=lead).values
    expected = {
        "truth": actual,
        "ours, mean": members.mean(axis=0, dtype=np.float64),
        "ours, spread": members.std(axis=0, ddof=1, dtype=np.float64),
        "ours, member 1": members[1],
        "persistence": truth["geopotential"]
        .sel(level=850, time=forecast["init_time"].values[init])
        .values,
    }
    for view, values in expected.items():
        field = result.field(channel, init, position(result, view), lead)
        np.testing.assert_allclose(field, values, rtol=1e-6, err_msg=view)
        series = result.series(channel, init, position(result, view), 2, 5)
        assert series.shape == (len(LEADS),)
        assert series[lead] == field[2, 5]


def hours(channel: object, times: np.ndarray) -> np.ndarray:
    """The time in hours plus the number of the cell."""
    cells = np.arange(np.prod(GRID.shape)).reshape(GRID.shape)
    return times.astype("datetime64[h]").astype(float)[:, None, None] + cells


def baseline_fields(forecast: xr.Dataset, *names: str, grid: Grid = GRID) -> BaselineFields:
    times = valid_times_of(forecast)
    return BaselineFields(
        sources={name: ValidTimeFields(hours, times) for name in names},
        channels=Channels.from_dataset(forecast, ["2m_temperature"]),
        grid=grid,
        valid_times=times,
    )


def test_baselines_and_times_without_truth() -> None:
    truth, forecast = make_truth(), make_forecast(make_truth())
    short = truth.isel(time=slice(0, 23))  # the last initial time is its last one
    baselines = baseline_fields(forecast, "persistence", "climatology", "linear")
    result = explore_forecasts(short, {"ours": forecast}, baselines)
    assert result is not None
    names = [view.name for view in result.views]
    assert names == ["truth", "ours", "persistence", "climatology", "linear"]
    temperature = result.channels.labels.index("2m_temperature")
    assert np.isnan(result.series(temperature, 11, 0, 0, 0)).all()
    start = forecast["init_time"].values[11].astype("datetime64[h]").astype(float)
    for name in ("climatology", "linear"):
        series = result.series(temperature, 11, position(result, name), 0, 3)
        np.testing.assert_allclose(series, start + 3 + np.arange(1, 5) * 6, rtol=1e-6)
        # Another channel was not scored.
        assert np.isnan(result.series(temperature - 1, 11, position(result, name), 0, 3)).all()


def test_baselines_on_another_grid_are_left_out() -> None:
    truth, forecast = make_truth(), make_forecast(make_truth())
    coarse = baseline_fields(forecast, "persistence", "linear", grid=LatLonGrid.equiangular(3, 4))
    result = explore_forecasts(truth, {"ours": forecast}, coarse)
    assert result is not None
    assert [view.name for view in result.views] == ["truth", "ours", "persistence"]
    assert list(result.notes) == ["linear is on another grid than truth"]


def test_a_forecast_may_have_the_name_of_a_baseline() -> None:
    truth, forecast = make_truth(), make_forecast(make_truth())
    result = explore_forecasts(truth, {"persistence": forecast})
    assert result is not None
    assert [view.name for view in result.views] == ["truth", "persistence"]


def test_other_forecasts_lack_times_and_channels() -> None:
    truth = make_truth()
    first = make_forecast(truth)
    second = make_forecast(truth).isel(init_time=[2], lead_time=[1])[["2m_temperature"]]
    result = explore_forecasts(truth, {"first": first, "second": second})
    assert result is not None
    temperature = result.channels.labels.index("2m_temperature")
    view = position(result, "second")
    known = np.isfinite(result.series(temperature, 2, view, 0, 0))
    assert known.tolist() == [False, True, False, False]
    assert np.isnan(result.series(temperature, 3, view, 0, 0)).all()
    assert np.isnan(result.series(0, 2, view, 0, 0)).all()


def test_forecasts_on_another_grid_are_left_out() -> None:
    truth = make_truth()
    coarse = make_forecast(truth).isel(latitude=slice(0, None, 2))
    assert explore_forecasts(truth, {"coarse": coarse}) is None
    assert explore_forecasts(truth, {}) is None
    result = explore_forecasts(truth, {"coarse": coarse, "ours": make_forecast(truth)})
    assert result is not None
    assert [view.name for view in result.views] == ["truth", "ours", "persistence"]
    assert "coarse is on another grid" in result.notes[0]
