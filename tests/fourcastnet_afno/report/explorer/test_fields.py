"""Fields that the explorer shows."""

import numpy as np
import xarray as xr

from fourcastnet_afno.report.explorer.fields import Explored, explore_forecasts
from tests.builders.forecasts import LEADS, make_forecast, make_truth


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


def test_climatology_and_times_without_truth() -> None:
    truth, forecast = make_truth(), make_forecast(make_truth())
    short = truth.isel(time=slice(0, 23))  # the last initial time is its last one
    grid = truth["latitude"].size, truth["longitude"].size

    def climatology(channel: object, times: np.ndarray) -> np.ndarray:
        days = times.astype("datetime64[h]").astype(float)
        return days[:, None, None] + np.arange(np.prod(grid)).reshape(grid)

    result = explore_forecasts(short, {"ours": forecast}, climatology)
    assert result is not None
    actual = result.series(0, 11, 0, 0, 0)
    assert np.isnan(actual).all()
    mean = result.series(0, 11, position(result, "climatology"), 0, 3)
    start = forecast["init_time"].values[11].astype("datetime64[h]").astype(float)
    np.testing.assert_allclose(mean, start + 3 + np.arange(1, 5) * 6, rtol=1e-6)


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
