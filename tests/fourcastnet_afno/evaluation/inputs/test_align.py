"""Forecasts and truth that do not fit: one message each, or scores of what is there."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.climatologies import from_coefficients
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast, open_canonical_forecast
from tests.builders.forecasts import GRID, HOUR, LEADS, make_climatology, make_forecast, make_truth

CONFIG = EvaluationConfig(baselines=["persistence", "climatology"])


@pytest.fixture(scope="module")
def truth() -> xr.Dataset:
    return make_truth()


def score(
    truth: xr.Dataset, config: EvaluationConfig = CONFIG, **forecasts: xr.Dataset
) -> xr.Dataset:
    return evaluate(forecasts, truth, make_climatology(make_truth()), config)


def test_no_time_in_common(truth: xr.Dataset) -> None:
    late = make_forecast(truth).assign_coords(
        init_time=make_forecast(truth)["init_time"] + np.timedelta64(1000, "D")
    )
    with pytest.raises(InputError, match=r"no time in common: truth has 2001-01-01.*2003-09-28"):
        score(truth, ours=late)
    with pytest.raises(InputError, match="no initial time in common"):
        score(truth, ours=make_forecast(truth), theirs=late)


def test_truth_that_ends_early_is_scored_and_counted(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    short = truth.isel(time=slice(24))  # the last valid time is number 26
    scores = score(short, ours=forecast)
    assert "4 of 48 pairs of initial and lead time are left out" in scores.attrs["notes"]
    counts = scores["num_init_times"].sel(forecast="ours").isel(channel=0).values
    np.testing.assert_array_equal(
        counts, [12, 11, 11, 10]
    )  # number 24 is the first that is missing
    # The first lead time has all of them.
    whole = score(truth, ours=forecast)
    np.testing.assert_allclose(scores["rmse"][:, 0], whole["rmse"][:, 0], rtol=1e-12)
    alone = score(truth, ours=forecast.isel(init_time=slice(10)))
    np.testing.assert_allclose(scores["rmse"][:, 3], alone["rmse"][:, 3], rtol=1e-12)
    np.testing.assert_allclose(
        scores["spectrum"].sel(source="truth")[3], alone["spectrum"].sel(source="truth")[3]
    )


def test_missing_lead_times_are_scored_and_counted(truth: xr.Dataset) -> None:
    ours, theirs = make_forecast(truth), make_forecast(truth, seed=5).isel(lead_time=[0, 3])
    scores = score(truth, ours=ours, theirs=theirs)
    assert "theirs lacks 2 of 4 lead times" in scores.attrs["notes"]
    assert np.isnan(scores["rmse"].sel(forecast="theirs")[1:3]).all()
    assert (scores["num_init_times"].sel(forecast="theirs")[1:3] == 0).all()
    alone = score(truth, theirs=theirs).sel(forecast="theirs")
    for name in ("rmse", "acc", "effective_wavenumber"):
        found = scores[name].sel(forecast="theirs")[[0, 3]]
        np.testing.assert_allclose(found, alone[name], rtol=1e-12)


def test_initial_times_that_another_lacks_are_left_out(truth: xr.Dataset) -> None:
    ours, theirs = make_forecast(truth), make_forecast(truth, seed=5).isel(init_time=slice(3, 9))
    scores = score(truth, ours=ours, theirs=theirs)
    assert scores.attrs["num_init_times"] == 6
    assert "6 of 12 initial times of ours are left out" in scores.attrs["notes"]


def test_levels_that_truth_lacks(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    higher = forecast.assign_coords(level=[300, 850])
    with pytest.raises(InputError, match=r"truth lacks the channels \['geopotential_300'"):
        score(truth, ours=higher)
    chosen = EvaluationConfig(channels=["geopotential_850", "t2m"], baselines=[])
    scores = score(truth, chosen, ours=higher)
    assert scores["channel"].values.tolist() == ["geopotential_850", "2m_temperature"]


def test_no_variable_in_common(truth: xr.Dataset) -> None:
    other = make_forecast(truth)[["geopotential"]].rename(geopotential="temperature")
    other["temperature"].attrs["units"] = "K"
    with pytest.raises(InputError, match="no variable in common"):
        score(truth, ours=other)


def test_units_that_differ(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    wrong = forecast.assign(
        {"2m_temperature": forecast["2m_temperature"].assign_attrs(units="degC")}
    )
    with pytest.raises(InputError, match="2m_temperature in 'degC', expected 'K'"):
        score(truth, ours=wrong)
    names = {"geopotential": "height"}
    other = truth.rename(names), forecast.rename(names)
    other[1]["height"].attrs["units"] = "dam"
    other[0]["height"].attrs["units"] = "m"
    with pytest.raises(InputError, match="height of ours is in 'dam', truth in 'm'"):
        evaluate({"ours": other[1]}, other[0], make_climatology(other[0]), CONFIG)


def test_grids_that_differ_need_a_choice(truth: xr.Dataset) -> None:
    fine_grid = LatLonGrid.equiangular(12, 16)
    fine = make_forecast(make_truth(grid=fine_grid))
    with pytest.raises(InputError, match=r"the grids differ.*evaluation.regrid=forecast"):
        score(truth, ours=fine)
    config = EvaluationConfig(regrid="forecast", baselines=[])
    scores = score(truth, config, ours=fine)
    # A cell holds two rows of the fine grid, by area, and in longitude a cell and two halves.
    areas = fine_grid.area_weights()[:, :1]
    coarse = {}
    for name, array in fine.data_vars.items():
        values = array.values.astype(float)
        rows = (values * areas)[..., ::2, :] + (values * areas)[..., 1::2, :]
        rows = rows / (areas[::2] + areas[1::2])
        mean = np.roll(rows, 1, -1) / 4 + rows / 2 + np.roll(rows, -1, -1) / 4
        coarse[name] = (array.dims, mean[..., ::2].astype("f4"), array.attrs)
    coords = {axis: fine[axis] for axis in ("init_time", "lead_time", "level")}
    coarse = xr.Dataset(coarse, coords=coords | GRID.coords)
    expected = score(truth, EvaluationConfig(baselines=[]), ours=coarse)
    np.testing.assert_allclose(scores["rmse"], expected["rmse"], rtol=1e-6)


def test_truth_is_averaged_onto_the_forecast_with_its_climatology() -> None:
    fine_truth = make_truth(grid=LatLonGrid.equiangular(12, 16))
    forecast = make_forecast(make_truth())
    config = EvaluationConfig(regrid="truth", baselines=["climatology"])
    scores = evaluate({"ours": forecast}, fine_truth, make_climatology(fine_truth), config)
    assert scores.attrs["grid"].startswith("6 x 8")
    assert np.isfinite(scores["rmse"]).all()
    np.testing.assert_array_equal(scores["acc"].sel(forecast="climatology"), 0)


def test_missing_values_are_masked_and_counted(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    holes = forecast.copy(deep=True)
    name = "2m_temperature"
    holes[name][2, 1, 0, :3] = np.nan
    holes[name][4, 1] = np.nan
    scores = score(truth, ours=holes).sel(forecast="ours", channel=name)
    missing = scores["missing_values"].values
    np.testing.assert_array_equal(missing, [0, 3, 0, 0])
    np.testing.assert_array_equal(scores["num_init_times"], [12, 11, 12, 12])
    error = (forecast[name] - _truth_of(truth, forecast, name)).values[:, 1].astype(float)
    weights = np.broadcast_to(GRID.area_weights(), error.shape).copy()
    weights[2, 0, :3] = 0
    squares = [(w * e**2).sum() / w.sum() for w, e in zip(weights, error, strict=True)]
    expected = np.sqrt(np.mean([s for i, s in enumerate(squares) if i != 4]))
    np.testing.assert_allclose(scores["rmse"][1], expected, rtol=1e-7)


def _truth_of(truth: xr.Dataset, forecast: xr.Dataset, name: str) -> xr.DataArray:
    valid = forecast["init_time"] + forecast["lead_time"]
    return truth[name].sel(time=valid).drop_vars("time").transpose("init_time", "lead_time", ...)


def test_missing_truth_is_masked(truth: xr.Dataset) -> None:
    """As a sea-surface temperature over land: the same cells are missing everywhere."""
    forecast = make_forecast(truth)
    land = np.zeros(GRID.shape, bool)
    land[2:4, 1:5] = True
    sea = truth.copy(deep=True)
    sea["2m_temperature"].values[:, land] = np.nan
    scores = score(sea, EvaluationConfig(baselines=[]), ours=forecast)
    found = scores["rmse"].isel(forecast=0).sel(channel="2m_temperature")
    error = (forecast - sea.pipe(lambda d: _all_truth(d, forecast)))["2m_temperature"].values
    weights = GRID.area_weights() * ~land
    squares = np.nansum(weights * error.astype(float) ** 2, axis=(-2, -1)) / weights.sum()
    np.testing.assert_allclose(found, np.sqrt(squares.mean(axis=0)), rtol=1e-6)


def _all_truth(truth: xr.Dataset, forecast: xr.Dataset) -> xr.Dataset:
    valid = forecast["init_time"] + forecast["lead_time"]
    return truth.sel(time=valid).drop_vars("time")


def test_a_forecast_that_blew_up_is_named(truth: xr.Dataset) -> None:
    broken = make_forecast(truth).copy(deep=True)
    broken["geopotential"][3, 2, 0, 0, 0] = np.inf
    with pytest.raises(
        InputError,
        match=r"ours is infinite in geopotential_500, initial time 2001-01-02T12:00, lead time "
        r"18 h, valid at 2001-01-03T06:00; the rollout blew up",
    ):
        score(truth, ours=broken)


def test_an_empty_region(truth: xr.Dataset) -> None:
    box = {"latitude": slice(60, 0), "longitude": slice(0, 100)}
    config = EvaluationConfig(regions=["north_pacific"], baselines=[])
    with pytest.raises(InputError, match="region north_pacific has no cell on the grid"):
        evaluate(
            {"ours": make_forecast(truth).sel(box)},
            truth.sel(box),
            make_climatology(truth).sel(box),
            config,
        )


def test_land_needs_a_mask(truth: xr.Dataset) -> None:
    with pytest.raises(InputError, match="region global_land needs the variable land_sea_mask"):
        score(truth, EvaluationConfig(regions=["global_land"]), ours=make_forecast(truth))


def test_a_climatology_of_the_test_years_is_warned_of(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    times = truth["time"].values
    for first, count in ((times[10], "17 of the 26 valid times"), (times[50], None)):
        climatology = from_coefficients(make_climatology(truth), "fitted", (first, times[-1]))
        notes = evaluate({"ours": forecast}, truth, climatology, CONFIG).attrs["notes"]
        assert ("warning: the climatology is of" in notes) == (count is not None)
        assert count is None or count in notes


def test_settings_that_are_wrong() -> None:
    for settings, named in (
        ({"regions": ["atlantis"]}, "atlantis"),
        ({"regions": []}, "regions"),
        ({"quantiles": [1.5]}, "quantiles"),
        ({"neighborhoods": [2]}, "odd"),
        ({"confidence": 95.0}, "confidence"),
        ({"num_threads": 0}, "num_threads"),
    ):
        with pytest.raises(ValueError, match=named):
            EvaluationConfig(**settings)  # type: ignore[arg-type]


def test_metrics_that_do_not_exist(truth: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"unknown names \['rsme'\]"):
        score(truth, EvaluationConfig(metrics=["rsme"]), ours=make_forecast(truth))


def test_events_need_training_years(truth: xr.Dataset) -> None:
    with pytest.raises(InputError, match=r"evaluation.quantiles need the training years"):
        score(truth, EvaluationConfig(quantiles=[0.9]), ours=make_forecast(truth))


def test_files_that_are_no_forecasts(truth: xr.Dataset, tmp_path: Path) -> None:
    truth.to_netcdf(tmp_path / "t.nc")
    with pytest.raises(InputError, match="expected lead times as one of lead_time"):
        open_canonical_forecast(str(tmp_path / "t.nc"))
    with pytest.raises(InputError, match="no file matches"):
        open_canonical_forecast(str(tmp_path / "nothing.zarr"))
    no_start = make_forecast(truth).rename(init_time="start")
    with pytest.raises(InputError, match="expected initial times as init_time or time"):
        canonical_forecast(no_start)
    weeks = make_forecast(truth).assign_coords(lead_time=("lead_time", [1, 2, 3, 4]))
    weeks["lead_time"].attrs["units"] = "weeks"
    with pytest.raises(InputError, match="lead times in 'weeks'"):
        canonical_forecast(weeks)


def test_times_that_repeat_or_decrease(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    twice = forecast.isel(init_time=[0, 1, 1, 2])
    with pytest.raises(InputError, match="init_time values more than once"):
        score(truth, ours=twice)
    backwards = forecast.isel(init_time=slice(None, None, -1), lead_time=slice(None, None, -1))
    np.testing.assert_allclose(
        score(truth, ours=backwards)["rmse"], score(truth, ours=forecast)["rmse"], rtol=1e-12
    )


def test_an_hour_that_the_climatology_lacks(truth: xr.Dataset) -> None:
    shifted = make_forecast(truth, leads=LEADS).assign_coords(lead_time=LEADS)
    coefficients = make_climatology(truth).sel(hour=[0, 12])
    with pytest.raises(InputError, match=r"hours of day \[0, 12\], asked for are \[6, 18\]"):
        evaluate({"ours": shifted}, truth, coefficients, CONFIG)
    assert LEADS[0] == HOUR * 6


def test_nothing_to_score(truth: xr.Dataset) -> None:
    with pytest.raises(InputError, match="no forecast to score"):
        score(truth)
