"""Forecasts and truth that do not fit: one message each, or scores of what is there."""

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.canonical import canonicalize
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders.errors import rejects
from tests.builders.forecasts import GRID, make_climatology, make_forecast, make_truth

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
    with rejects("no-common-times", "truth has 2001-01-01", "2003-09-28"):
        score(truth, ours=late)
    with rejects("no-common-times", "no initial time"):
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
    with rejects("channels-mismatch", "geopotential_300"):
        score(truth, ours=higher)
    chosen = EvaluationConfig(channels=["geopotential_850", "t2m"], baselines=[])
    scores = score(truth, chosen, ours=higher)
    assert scores["channel"].values.tolist() == ["geopotential_850", "2m_temperature"]


def test_no_variable_in_common(truth: xr.Dataset) -> None:
    other = make_forecast(truth)[["geopotential"]].rename(geopotential="temperature")
    other["temperature"].attrs["units"] = "K"
    with rejects("missing-variable", "temperature"):
        score(truth, ours=other)


def test_units_that_differ(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    wrong = forecast.assign(
        {"2m_temperature": forecast["2m_temperature"].assign_attrs(units="degC")}
    )
    with rejects("units-mismatch", "2m_temperature", "'degC'", "'K'"):
        score(truth, ours=wrong)
    names = {"geopotential": "height"}
    other = truth.rename(names), forecast.rename(names)
    other[1]["height"].attrs["units"] = "dam"
    other[0]["height"].attrs["units"] = "m"
    with rejects("units-mismatch", "height of ours", "'dam'", "'m'"):
        evaluate({"ours": other[1]}, other[0], make_climatology(other[0]), CONFIG)


def test_grids_that_differ_need_a_choice(truth: xr.Dataset) -> None:
    fine_grid = LatLonGrid.equiangular(12, 16)
    fine = make_forecast(make_truth(grid=fine_grid))
    with rejects("grid-mismatch", "evaluation.regrid=forecast"):
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


def test_an_empty_region(truth: xr.Dataset) -> None:
    box = {"latitude": slice(60, 0), "longitude": slice(0, 100)}
    config = EvaluationConfig(regions=["north_pacific"], baselines=[])
    with rejects("empty-region", "north_pacific"):
        evaluate(
            {"ours": make_forecast(truth).sel(box)},
            truth.sel(box),
            make_climatology(truth).sel(box),
            config,
        )


def test_land_needs_a_mask(truth: xr.Dataset) -> None:
    with rejects("missing-variable", "global_land", "land_sea_mask"):
        score(truth, EvaluationConfig(regions=["global_land"]), ours=make_forecast(truth))


def test_metrics_that_do_not_exist(truth: xr.Dataset) -> None:
    with rejects("unknown-metric", "'rsme'"):
        score(truth, EvaluationConfig(metrics=["rsme"]), ours=make_forecast(truth))


def test_events_need_training_years(truth: xr.Dataset) -> None:
    with rejects("no-training-years", "evaluation.quantiles"):
        score(truth, EvaluationConfig(quantiles=[0.9]), ours=make_forecast(truth))


def test_times_that_repeat_or_decrease(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    twice = forecast.isel(init_time=[0, 1, 1, 2])
    with rejects("repeated-times", "init_time"):
        score(truth, ours=twice)
    backwards = forecast.isel(init_time=slice(None, None, -1), lead_time=slice(None, None, -1))
    np.testing.assert_allclose(
        score(truth, ours=backwards)["rmse"], score(truth, ours=forecast)["rmse"], rtol=1e-12
    )


def test_nothing_to_score(truth: xr.Dataset) -> None:
    with rejects("no-forecast"):
        score(truth)


def in_calendar(dataset: xr.Dataset, axis: str, calendar: str, start: str) -> xr.Dataset:
    """The same fields from another start on, every six or twelve hours of a calendar."""
    freq = "12h" if axis == "init_time" else "6h"
    count = dataset.sizes[axis]
    times = xr.date_range(start, periods=count, freq=freq, calendar=calendar, use_cftime=True)
    return dataset.assign_coords({axis: times})


def noleap_pair(truth: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """A perfect forecast of a world without leap days, around the end of February 2004."""
    forecast = make_forecast(truth, noise=0.0)
    series = canonicalize(in_calendar(truth, "time", "noleap", "2004-02-26"), SourceConfig(path=""))
    return in_calendar(forecast, "init_time", "noleap", "2004-02-26"), series


def test_leads_are_added_in_the_calendar_of_the_forecast(truth: xr.Dataset) -> None:
    forecast, series = noleap_pair(truth)
    scores = evaluate({"ours": forecast}, series, make_climatology(truth), CONFIG)
    np.testing.assert_array_equal(scores["rmse"].sel(forecast="ours"), 0)
    assert (scores["num_init_times"].sel(forecast="ours") == 12).all()
    persistence = scores["rmse"].sel(forecast="persistence")
    expected = evaluate({"ours": make_forecast(truth)}, truth, make_climatology(truth), CONFIG)
    np.testing.assert_allclose(persistence, expected["rmse"].sel(forecast="persistence"))


def test_pairs_whose_valid_times_differ_between_calendars_are_left_out(truth: xr.Dataset) -> None:
    forecast, series = noleap_pair(truth)
    inits = np.datetime64("2004-02-26", "ns") + np.arange(12) * np.timedelta64(12, "h")
    standard = make_forecast(truth, noise=0.0).assign_coords(init_time=inits)
    # Common are 6 initial times up to Feb 28 12 UTC, and from these on leads reach Feb 29.
    scores = evaluate(
        {"noleap": forecast, "standard": standard}, series, make_climatology(truth), CONFIG
    )
    counts = scores["num_init_times"].sel(forecast="noleap").isel(channel=0).values
    np.testing.assert_array_equal(scores["rmse"].sel(forecast="noleap"), 0)
    assert counts[:2].tolist() == [scores.attrs["num_init_times"], counts[1]]
    assert (
        "pairs of initial and lead time are left out, as their valid time"
        in (scores.attrs["notes"])
    )


def test_truth_without_leap_days_of_a_standard_forecast(truth: xr.Dataset) -> None:
    """What both have is compared; the rest is counted."""
    _, series = noleap_pair(truth)
    inits = np.datetime64("2004-02-28T12", "ns") + np.arange(2) * np.timedelta64(12, "h")
    forecast = make_forecast(truth).isel(init_time=slice(2)).assign_coords(init_time=inits)
    scores = evaluate({"ours": forecast}, series, make_climatology(truth), CONFIG)
    counts = scores["num_init_times"].sel(forecast="ours").isel(channel=0).values
    assert counts.tolist() == [1, 0, 0, 1]  # Feb 28 18 UTC, and Mar 1 00 UTC a day ahead
    assert "6 of 8 pairs" in scores.attrs["notes"]


def test_months_and_days_are_not_mixed(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    months = forecast.assign_coords(lead_time=("lead_time", [1, 2, 3, 4], {"units": "months"}))
    with rejects("units-mismatch", "calendar months", "theirs: 1 month"):
        score(truth, ours=forecast, theirs=months)


def test_lead_times_in_months_meet_the_labels_of_truth(truth: xr.Dataset) -> None:
    """Truth is labelled in the middle of each month, the forecast starts on its first day."""
    middle = np.array([f"2001-{m:02d}-{15 + (m % 2)}" for m in range(1, 13)], "datetime64[ns]")
    monthly = truth.isel(time=slice(12)).assign_coords(time=middle)
    fields = monthly.isel(time=slice(1, 5)).rename(time="lead_time").expand_dims("init_time")
    forecast = fields.assign_coords(
        init_time=np.array(["2001-01-01"], "datetime64[ns]"),
        lead_time=("lead_time", [1, 2, 3, 4], {"units": "months"}),
    )
    config = EvaluationConfig(baselines=["climatology"])
    scores = evaluate({"ours": forecast}, monthly, make_climatology(truth), config)
    np.testing.assert_array_equal(scores["rmse"].sel(forecast="ours"), 0)
    assert scores["lead_time"].attrs["units"] == "months"


def test_truth_with_members(truth: xr.Dataset) -> None:
    members = truth.expand_dims(number=[0, 1], axis=1)
    with rejects("wrong-dimensions", "number (2)", "--truth.select"):
        score(members, ours=make_forecast(truth))


def test_a_forecast_without_units_is_noted(truth: xr.Dataset) -> None:
    forecast = make_forecast(truth)
    forecast["2m_temperature"].attrs.pop("units")
    scores = score(truth, ours=forecast)
    assert "ours states no units of 2m_temperature (taken to be in K)" in scores.attrs["notes"]


def test_a_forecast_of_a_larger_area_is_cut_out(truth: xr.Dataset) -> None:
    larger = make_forecast(truth)
    area = larger.isel(latitude=slice(1, 5), longitude=slice(2, 7))
    config = EvaluationConfig(regrid="truth", baselines=[], margin=1)
    scores = score(truth, config, area=area, larger=larger)
    ours, theirs = (scores["rmse"].sel(forecast=name).values for name in ("area", "larger"))
    assert np.isfinite(ours).all()
    np.testing.assert_array_equal(ours, theirs)
