import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs import baselines
from fourcastnet_afno.evaluation.scores.tables import scores_table, scores_to_json, write_scores
from fourcastnet_afno.evaluation.statistics.spectra import zonal_energy_spectrum
from tests.builders.experiments import make_dataset

DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")
LEADS = DAY * np.arange(1, 4)


@pytest.fixture
def truth() -> xr.Dataset:
    return make_dataset(40).drop_vars("height")


@pytest.fixture
def coefficients(truth: xr.Dataset) -> xr.Dataset:
    mean = truth.mean("time", keep_attrs=True)
    return mean.expand_dims(hour=[0], harmonic=[0])


@pytest.fixture
def inits(truth: xr.Dataset) -> np.ndarray:
    return truth["time"].values[5:30]


def perfect(truth: xr.Dataset, inits: np.ndarray) -> xr.Dataset:
    return baselines.at_valid_times(lambda times: truth.sel(time=times), inits, LEADS)


def test_perfect_forecast_and_climatology(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    forecasts = {
        "model": perfect(truth, inits),
        "climatology": baselines.climatology(coefficients, inits, LEADS),
    }
    scores = evaluate(forecasts, truth, coefficients)
    model, climatology = scores.sel(forecast="model"), scores.sel(forecast="climatology")
    np.testing.assert_array_equal(model["rmse"], 0)
    np.testing.assert_allclose(model["acc"], 1, rtol=1e-12)
    np.testing.assert_array_equal(climatology["acc"], 0)
    spectrum = scores["spectrum"]
    xr.testing.assert_equal(
        spectrum.sel(source="model", drop=True), spectrum.sel(source="truth", drop=True)
    )


def test_constant_error_is_rmse_and_bias(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    warm = perfect(truth, inits) + 2.0
    scores = evaluate({"model": warm}, truth, coefficients)
    scores = scores.sel(forecast="model", channel="2m_temperature")
    np.testing.assert_allclose(scores["rmse"], 2, rtol=1e-6)
    np.testing.assert_allclose(scores["bias"], 2, rtol=1e-6)


@pytest.mark.parametrize("columns", [11, 12, 81, 82])
def test_spectrum_sums_to_the_mean_square(columns: int) -> None:
    grid = LatLonGrid.equiangular(5, columns)
    fields = np.random.default_rng(0).standard_normal((2, 5, columns))
    spectrum = zonal_energy_spectrum(fields, grid.area_weights())
    expected = (grid.area_weights() * fields**2).mean(axis=(1, 2))
    np.testing.assert_allclose(spectrum.sum(axis=-1), expected)


def test_persistence_repeats_the_initial_state(truth: xr.Dataset, inits: np.ndarray) -> None:
    forecast = baselines.persistence(truth, inits, LEADS)
    for lead in LEADS:
        found = forecast["2m_temperature"].sel(lead_time=lead).values
        np.testing.assert_array_equal(found, truth["2m_temperature"].values[5:30])


def test_valid_times_without_truth_are_counted(truth: xr.Dataset, coefficients: xr.Dataset) -> None:
    late = truth["time"].values[-2:]
    forecast = baselines.persistence(truth, late, LEADS)
    scores = evaluate({"model": forecast}, truth, coefficients).sel(forecast="model")
    assert "5 of 6 pairs of initial and lead time are left out" in scores.attrs["notes"]
    assert scores["num_init_times"].isel(channel=0).values.tolist() == [1, 0, 0]
    assert np.isnan(scores["rmse"].isel(lead_time=slice(1, None))).all()


def test_missing_values_are_masked_and_counted(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    warm = perfect(truth, inits) + 2.0
    broken = warm.copy(deep=True)
    broken["2m_temperature"][3, 2, 0, 0] = np.nan
    broken["2m_temperature"][4, 2] = np.nan
    scores = evaluate({"model": broken}, truth, coefficients)
    scores = scores.sel(forecast="model", channel="2m_temperature")
    np.testing.assert_allclose(scores["rmse"], 2, rtol=1e-6)
    assert scores["missing_values"].values.tolist() == [0, 0, 1]
    assert scores["num_init_times"].values.tolist() == [25, 25, 24]


def test_a_forecast_that_blew_up_is_named(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    broken = perfect(truth, inits).copy(deep=True)
    broken["2m_temperature"][3, 2, 0, 0] = np.inf
    with pytest.raises(InputError, match="model is infinite in 2m_temperature"):
        evaluate({"model": broken}, truth, coefficients)


def test_scores_for_machines(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray, tmp_path: Path
) -> None:
    forecasts = {"persistence": baselines.persistence(truth, inits, LEADS)}
    scores = evaluate(forecasts, truth, coefficients)
    record = scores_to_json(scores)
    value = record["forecasts"]["persistence"]["rmse"]["2m_temperature"]["48"]
    assert value == scores["rmse"].sel(channel="2m_temperature").values[0, 1]
    assert record["units"]["2m_temperature"] == "K"
    write_scores(scores, tmp_path / "scores.json", tmp_path / "scores.nc")
    with xr.open_dataset(tmp_path / "scores.nc") as again:
        np.testing.assert_array_equal(again["rmse"], scores["rmse"])


@pytest.mark.parametrize("factor", [1.0, 1e-9])
def test_the_table_fits_a_terminal(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray, factor: float
) -> None:
    forecasts = {"persistence": baselines.persistence(truth, inits, LEADS)}
    scores = evaluate(forecasts, truth, coefficients).sel(channel=["mean_sea_level_pressure"])
    console = Console(width=80, file=io.StringIO())
    console.print(scores_table(scores.assign(rmse=factor * scores["rmse"])))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    power = -7 if factor < 1 else 0
    row = next(line for line in text.splitlines() if "persistence" in line).split()
    shown = [float(word) for word in row[row.index("persistence") + 1 :]]
    assert ("1e-7" in text) == (factor < 1)
    expected = scores["rmse"].sel(forecast="persistence").values.ravel() * factor / 10.0**power
    np.testing.assert_allclose(shown, expected, rtol=5e-3)


def test_scores_need_no_torch() -> None:
    code = "import sys, fourcastnet_afno.evaluation.evaluate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
