"""Forecasts from files, in any layout."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast, open_with_layouts
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import DAY, make_coefficients, make_forecast, make_truth

TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


FORECAST = make_forecast(TRUTH, num_members=2)


FAST = EvaluationConfig(num_resamples=0, maps=False, baselines=["climatology"])


WEATHERBENCH = {"init_time": "time", "lead_time": "prediction_timedelta", "realization": "number"}


def rmse(forecast: xr.Dataset | str, config: EvaluationConfig = FAST) -> xr.DataArray:
    return evaluate({"model": forecast}, TRUTH, COEFFICIENTS, config)["rmse"]


@cache
def expected() -> xr.DataArray:
    return rmse(FORECAST)


def store(
    forecast: xr.Dataset, path: Path, order: Sequence[str], chunks: dict[str, int], plain: bool
) -> str:
    """Write with axes in another order, and chunks that are mapped if ``plain``."""
    moved = forecast.transpose(*order, missing_dims="ignore")
    encoding = {}
    for name, array in moved.data_vars.items():
        sizes = [chunks.get(str(d), array.sizes[d]) for d in array.dims]
        encoding[name] = {"chunks": sizes} | ({"compressors": None} if plain else {})
    moved.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return str(path)


LAYOUTS = [
    ("time", "prediction_timedelta", "number", "level", "latitude", "longitude"),
    ("number", "time", "level", "prediction_timedelta", "longitude", "latitude"),
    ("prediction_timedelta", "latitude", "longitude", "level", "time", "number"),
]


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("south_first", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_axes_of_a_store_may_lie_in_any_order(
    tmp_path: Path, order: Sequence[str], south_first: bool, plain: bool
) -> None:
    forecast = FORECAST.rename(WEATHERBENCH)
    forecast = forecast.isel(latitude=slice(None, None, -1)) if south_first else forecast
    chunks = {"time": 20, "prediction_timedelta": 2, "level": 1}
    path = store(forecast, tmp_path / "f.zarr", order, chunks, plain)
    np.testing.assert_allclose(rmse(path), expected(), rtol=1e-12)
    np.testing.assert_allclose(rmse(open_with_layouts(path)[0]), expected(), rtol=1e-12)


def test_a_part_of_an_opened_store_is_that_part(tmp_path: Path) -> None:
    path = store(FORECAST.rename(WEATHERBENCH), tmp_path / "f.zarr", LAYOUTS[0], {}, True)
    late = {"init_time": slice(10, None), "lead_time": slice(1, None)}
    np.testing.assert_allclose(
        rmse(open_with_layouts(path)[0].isel(late)), rmse(FORECAST.isel(late)), rtol=1e-12
    )


@pytest.mark.parametrize("units", ["hours", "days"])
def test_numeric_lead_times(units: str) -> None:
    hours = (FORECAST["lead_time"].values / np.timedelta64(1, "h")).astype(int)
    counts = hours if units == "hours" else hours // 24
    numeric = FORECAST.assign_coords(lead_time=("lead_time", counts, {"units": units}))
    np.testing.assert_array_equal(rmse(numeric), expected())


def test_a_forecast_in_a_netcdf_file(tmp_path: Path) -> None:
    FORECAST.rename(WEATHERBENCH).to_netcdf(tmp_path / "f.nc")
    np.testing.assert_array_equal(rmse(str(tmp_path / "f.nc")), expected())


def shifted(years: int) -> xr.Dataset:
    return FORECAST.assign_coords(init_time=FORECAST["init_time"] + years * 365 * DAY)


def on_grid(rows: int) -> xr.Dataset:
    grid = LatLonGrid.equiangular(rows, 12)
    return FORECAST.isel(latitude=slice(rows)).assign_coords(grid.coords)


@pytest.mark.parametrize(
    ("forecast", "code", "named"),
    [
        (shifted(9), "no-common-times", "2001-01-01"),
        (FORECAST.assign_coords(level=[300, 850]), "channels-mismatch", "temperature_300"),
        (on_grid(3), "grid-mismatch", "evaluation.regrid"),
        (FORECAST.rename(temperature="a", **{"2m_temperature": "b"}), "missing-variable", "'a'"),
        (FORECAST.rename(lead_time="ahead"), "missing-axis", "ahead"),
        (FORECAST.isel(init_time=0, drop=True), "missing-axis", "init_time"),
        (FORECAST.isel(init_time=[0, 0, 1]), "repeated-times", "init_time"),
    ],
)
def test_what_does_not_fit_is_named(forecast: xr.Dataset, code: str, named: str) -> None:
    with rejects(code, named):
        rmse(forecast)


def test_mixed_units_are_rejected() -> None:
    forecast = FORECAST.copy()
    forecast["2m_temperature"] = FORECAST["2m_temperature"].assign_attrs(units="degC")
    with rejects("units-mismatch", "2m_temperature", "degC", "K"):
        rmse(forecast)


def test_missing_lead_times_are_scored_where_they_are() -> None:
    short = FORECAST.isel(lead_time=[0, 2])
    scores = evaluate({"all": FORECAST, "short": short}, TRUTH, COEFFICIENTS, FAST)
    assert "short lacks 1 of 3 lead times" in scores.attrs["notes"]
    ours, all_of_them = (scores["rmse"].sel(forecast=n).values for n in ("short", "all"))
    np.testing.assert_array_equal(ours[[0, 2]], all_of_them[[0, 2]])
    assert np.isnan(ours[1]).all()
    assert scores["num_init_times"].sel(forecast="short").values[1].tolist() == [0, 0, 0]


def test_regridding_a_constant_error_keeps_it() -> None:
    coarse = LatLonGrid.equiangular(3, 6)
    truth = make_truth(grid=coarse)
    fine = make_forecast(truth) * 0
    valid = fine["init_time"] + fine["lead_time"]
    on_fine = truth.sel(time=valid).drop_vars("time") + 1.5
    rows, columns = np.repeat(np.arange(3), 2), np.repeat(np.arange(6), 2)
    longitude = (coarse.coords["longitude"][:, None] + [-15, 15]).ravel()
    on_fine = on_fine.isel(latitude=rows, longitude=columns)
    on_fine = on_fine.assign_coords(
        latitude=LatLonGrid.equiangular(6, 12).coords["latitude"], longitude=longitude % 360
    ).sortby("longitude")
    config = EvaluationConfig(regrid="forecast", num_resamples=0, baselines=[])
    scores = evaluate({"m": on_fine}, truth, make_coefficients(truth), config)
    for name in ("rmse", "bias", "mae"):
        np.testing.assert_allclose(scores[name], 1.5, rtol=1e-5)


def test_files_that_are_no_forecasts(tmp_path: Path) -> None:
    TRUTH.to_netcdf(tmp_path / "t.nc")
    with rejects("missing-axis", "lead_time"):
        open_with_layouts(str(tmp_path / "t.nc"))
    with rejects("missing-file", "nothing.zarr"):
        open_with_layouts(str(tmp_path / "nothing.zarr"))
    no_start = FORECAST.rename(init_time="start")
    with rejects("missing-axis", "init_time or time"):
        canonical_forecast(no_start)
    fortnights = FORECAST.assign_coords(lead_time=("lead_time", [1, 2, 3]))
    fortnights["lead_time"].attrs["units"] = "fortnights"
    with rejects("units-mismatch", "'fortnights'"):
        canonical_forecast(fortnights)


def test_a_scalar_level_of_a_forecast_is_kept() -> None:
    """Scores of t500 are not those of a field at another level, or at the surface."""
    forecast = FORECAST[["temperature"]].isel(level=0)
    level = int(forecast["level"])
    short = forecast.rename(temperature="t", level="isobaricInhPa")
    found = canonical_forecast(short)["temperature"]
    assert found["level"].values.tolist() == [level]
    np.testing.assert_array_equal(found.sel(level=level), forecast["temperature"])


def test_all_files_and_stores_of_a_folder_or_glob_are_one_forecast(tmp_path: Path) -> None:
    stored = FORECAST.rename(WEATHERBENCH)
    for index in range(4):
        part = stored.isel(time=slice(5 * index, 5 * index + 5))
        part.to_netcdf(tmp_path / f"part_{index}.nc")
        part.to_zarr(tmp_path / f"part_{index}.zarr", zarr_format=3, consolidated=False)
    expected = rmse(FORECAST)
    for path in (tmp_path / "part_*.nc", tmp_path, tmp_path / "*.zarr"):
        np.testing.assert_allclose(rmse(str(path)), expected, rtol=1e-12)
    opened, _ = open_with_layouts(str(tmp_path / "part_0.zarr"))
    assert list(opened.data_vars) == ["2m_temperature", "temperature"]


def test_lost_chunks_of_a_forecast_that_did_not_blow_up_are_told(tmp_path: Path) -> None:
    for records in ("[]", '[{"step": 3}]'):
        path = tmp_path / f"{len(records)}.zarr"
        stored = FORECAST.rename(WEATHERBENCH).assign_attrs(blow_ups=records)
        stored.to_zarr(path, zarr_format=3, consolidated=False)
        assert not open_with_layouts(str(path))[0].encoding["notes"]
        next(file for file in (path / "temperature/c").rglob("*") if file.is_file()).unlink()
        notes = open_with_layouts(str(path))[0].encoding["notes"]
        assert [f"temperature of {path} lacks 1 chunks" in note for note in notes] == [
            True for _ in range(records == "[]")
        ]


def test_a_missing_forecast_names_its_option(tmp_path: Path) -> None:
    with rejects("missing-file", "--forecast NAME=PATH"):
        open_with_layouts(str(tmp_path / "*.nc"))


def test_remedies_of_forecasts_are_no_settings_of_sources(tmp_path: Path) -> None:
    FORECAST.isel(init_time=[0]).to_netcdf(tmp_path / "f [1].nc")
    opened, _ = open_with_layouts(str(tmp_path / "f [1].nc"))  # no wildcard
    with opened:
        assert opened.sizes["init_time"] == 1
    celsius = FORECAST[["2m_temperature"]].copy(deep=True)
    celsius["2m_temperature"].attrs["units"] = "degC"
    celsius.to_netcdf(tmp_path / "c.nc")
    with rejects("units-mismatch", "degC", "convert it, or correct the attribute units") as error:
        open_with_layouts(str(tmp_path / "c.nc"))
    assert "data.source" not in str(error.value)
    with rejects("missing-variable", "2m_temperature: it holds bool"):
        canonical_forecast(FORECAST[["2m_temperature"]] > 280)
