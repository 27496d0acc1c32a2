"""Climatology and training years are on truth's grid and in its units, or they are rejected."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preparation.prepare import prepare
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.climatology_sources import prepared_store
from fourcastnet_afno.evaluation.inputs.companions import open_training
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import (
    DAY,
    GRID,
    make_coefficients,
    make_forecast,
    make_table,
    make_truth,
)
from tests.builders.experiments import make_data_config, make_dataset

TRUTH = make_truth()
FORECAST = make_forecast(TRUTH)
LATER = TRUTH["time"].values + 400 * DAY
OTHER_GRIDS = {
    "half a cell east": LatLonGrid(
        latitude=GRID.latitude, longitude=tuple(lon + 15.0 for lon in GRID.longitude)
    ),
    "rows from 60 N to 60 S": LatLonGrid(
        latitude=tuple(np.linspace(60, -60, 6).tolist()), longitude=GRID.longitude
    ),
    "with rows on the poles": LatLonGrid.equiangular(6, 12, poles=True),
    "coarser": LatLonGrid.equiangular(3, 6),
    "finer": LatLonGrid.equiangular(12, 24),
}


def score(
    climatology: xr.Dataset, training: xr.Dataset | None = None, **settings: str
) -> xr.Dataset:
    config = EvaluationConfig(
        num_resamples=0,
        maps=False,
        spectra=False,
        channels=["2m_temperature"],
        baselines=["climatology", "linear"],
        **settings,  # type: ignore[arg-type]
    )
    return evaluate({"model": FORECAST}, TRUTH, climatology, config, training=training)


@pytest.mark.parametrize("grid", OTHER_GRIDS.values(), ids=OTHER_GRIDS.keys())
def test_companions_on_another_grid_are_rejected(grid: LatLonGrid) -> None:
    years = make_truth(30, grid).assign_coords(time=LATER[:30])
    with rejects("grid-mismatch", "climatology", str(GRID), str(grid), "evaluation.regrid"):
        score(make_table(grid=grid))
    with rejects("grid-mismatch", "training", str(GRID), str(grid), "evaluation.regrid"):
        score(make_table(), years)


def test_longitudes_that_are_rounded_are_the_same_grid() -> None:
    rounded = make_table().assign_coords(longitude=make_table()["longitude"] + 1e-4)
    assert score(rounded).attrs["notes"].splitlines() == [
        "no baseline linear: there are no training years to fit it to"
    ]


def test_companions_are_averaged_where_that_is_asked_for() -> None:
    fine = LatLonGrid.equiangular(12, 24)
    wave = np.cos(np.deg2rad(fine.coords["longitude"])) * np.arange(12)[:, None]
    means = xr.Dataset(
        {
            "2m_temperature": (
                ("dayofyear", *fine.dims),
                280 + wave * np.ones((366, 1, 1)),
                {"units": "K"},
            )
        },
        {"dayofyear": np.arange(1, 367), **fine.coords},
    )
    averaged = Coarsening(fine, GRID).apply(280 + wave)
    on_grid = means.isel(latitude=slice(6), longitude=slice(12)).assign_coords(GRID.coords)
    on_grid["2m_temperature"] = (
        means["2m_temperature"].dims,
        averaged * np.ones((366, 1, 1)),
        {"units": "K"},
    )
    found = score(means, regrid="forecast")
    np.testing.assert_allclose(found["acc"], score(on_grid)["acc"], rtol=1e-6)
    assert f"the climatology is averaged from {fine} onto {GRID}" in found.attrs["notes"]
    regional = means.isel(latitude=slice(4))
    with rejects("grid-mismatch", "the climatology"):
        score(regional, regrid="forecast")


@pytest.mark.parametrize("of_training", [False, True])
def test_units_of_companions_are_those_of_truth(of_training: bool) -> None:
    years, table = TRUTH.assign_coords(time=LATER), make_table()
    companion = years if of_training else table
    companion["2m_temperature"] = companion["2m_temperature"].assign_attrs(units="degC")
    with rejects("units-mismatch", "2m_temperature", "'degC'", "'K'"):
        score(table, years)
    companion["2m_temperature"].attrs["units"] = "Kelvin"
    assert "units" not in score(table, years).attrs["notes"]
    companion["2m_temperature"].attrs.clear()
    notes = score(table, years).attrs["notes"]
    assert f"the {'training data' if of_training else 'climatology'} states no units" in notes


def test_values_without_units_must_fit_those_of_truth() -> None:
    celsius = (TRUTH - 273.15).drop_attrs()
    with rejects("units-mismatch", "2m_temperature of the climatology", "no units", "in K"):
        score(celsius)
    with rejects("units-mismatch", "2m_temperature of the training data", "no units"):
        score(TRUTH, celsius)


def test_companions_without_years_or_with_infinite_values() -> None:
    for years in (TRUTH.isel(time=[0]), make_table()):
        with rejects("no-times", "training"):
            score(make_table(), years)
    with rejects("short-period", "climatology", "1 times"):
        score(TRUTH.isel(time=[0]))
    infinite = make_table()
    infinite["2m_temperature"][..., 0, 0] = np.inf
    with rejects("not-finite", "climatology", "2m_temperature"):
        score(infinite)


def test_companions_that_lack_a_channel_or_an_hour() -> None:
    with rejects("missing-variable", "climatology", "2m_temperature", "evaluation.channels"):
        score(make_table().rename({"2m_temperature": "skin_temperature"}))
    with rejects("missing-variable", "training", "2m_temperature", "evaluation.channels"):
        score(make_table(), TRUTH[["temperature"]])
    with rejects("hours-mismatch", "[12]", "[0]"):
        score(make_table().sel(hour=[12]))
    half_days = FORECAST.assign_coords(lead_time=DAY // 2 * np.arange(1, 4))
    config = EvaluationConfig(num_resamples=0, channels=["2m_temperature"], baselines=[])
    scores = evaluate({"model": half_days}, TRUTH, make_table().sel(hour=[0]), config)
    assert scores["acc"].isel(forecast=0, channel=0).notnull().values.tolist() == [0, 1, 0]


def test_a_climatology_that_lacks_cells_is_warned_of() -> None:
    table, truth = make_table(), TRUTH.copy(deep=True)
    table["2m_temperature"][..., 2, 3:5] = np.nan
    gaps = score(table)
    assert "warning: the climatology lacks 2m_temperature in 2 cells" in gaps.attrs["notes"]
    truth["2m_temperature"][:, 2, 3:5] = np.nan
    config = EvaluationConfig(num_resamples=0, channels=["2m_temperature"], baselines=[])
    scores = evaluate({"model": FORECAST}, truth, table, config)
    assert "warning" not in scores.attrs["notes"]
    assert scores["acc"].notnull().all()
    for metric in ("rmse", "acc", "missing_values"):  # over the same cells
        pair = [each[metric].sel(forecast="model") for each in (gaps, scores)]
        np.testing.assert_allclose(*pair, rtol=1e-12)


def test_scored_days_in_companions_are_warned_of() -> None:
    whole = score(make_coefficients(TRUTH), TRUTH.assign_coords(time=LATER)).attrs["notes"]
    assert "warning" not in whole
    # January 6 to 28 is scored, without the days that truth has before and after.
    inside = TRUTH.isel(time=slice(10, 20))
    notes = score(make_coefficients(TRUTH), inside).attrs["notes"]
    assert "warning: the training data are of 2001-01-11 to 2001-01-20, which includes 10" in notes
    config = {"climatology_harmonics": 0}
    notes = score(TRUTH.isel(time=[0, 12, 39]), **config).attrs["notes"]  # type: ignore[arg-type]
    assert "warning: the climatology is of 2001-01-01 to 2001-02-09, which includes 1 of" in notes


def test_a_prepared_store_trains_on_its_training_period(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc")
    store = prepare(config, tmp_path / "data.zarr")
    opened = open_training(SourceConfig(path=str(tmp_path / "*.zarr")))
    times = opened["time"].values
    assert (times[0], times[-1]) == (store.times[0], np.datetime64("2001-03-01"))
    file = open_training(SourceConfig(path=str(tmp_path / "data.nc")))
    assert file.sizes["time"] == 120
    both = [str(tmp_path / name) for name in ("data.nc", "data.zarr")]
    with rejects("bad-setting", "data.zarr"):
        prepared_store(SourceConfig(path=both))
    assert prepared_store(SourceConfig(path=both[0])) is None
