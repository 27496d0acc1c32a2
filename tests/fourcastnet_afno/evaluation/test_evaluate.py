import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from fourcastnet_afno.evaluation import baselines
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.evaluate import (
    evaluate,
    scores_table,
    scores_to_json,
    write_scores,
)
from fourcastnet_afno.evaluation.metrics import field_statistics, metrics, zonal_energy_spectrum
from tests.builders import make_dataset

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
    for name in warm.data_vars:
        warm[name].attrs = truth[name].attrs
    scores = evaluate({"model": warm}, truth, coefficients).sel(channel="2m_temperature")
    np.testing.assert_allclose(scores["rmse"], 2, rtol=1e-6)
    np.testing.assert_allclose(scores["bias"], 2, rtol=1e-6)


def test_hand_arithmetic_on_two_by_three() -> None:
    weights = np.array([[1.5, 1.5, 1.5], [0.5, 0.5, 0.5]])
    truth, climatology = np.zeros((1, 2, 3)), np.full((1, 2, 3), -1.0)
    forecast = np.array([[[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]]])
    found = field_statistics(forecast, truth, climatology, weights)
    # squares: 1.5 (1 + 4) + 0.5 * 16 = 15.5 over 6; errors: 1.5 * 3 + 0.5 * 4 = 6.5 over 6
    assert found["squared_error"] == pytest.approx(15.5 / 6)
    assert found["error"] == pytest.approx(6.5 / 6)
    # anomalies (2, 3, 1 | 1, 1, 5) against ones
    product, square = (1.5 * 6 + 0.5 * 7) / 6, (1.5 * 14 + 0.5 * 27) / 6
    assert found["anomaly_correlation"] == pytest.approx(product / np.sqrt(square))


def test_the_root_comes_after_the_average() -> None:
    squared = np.array([[1.0], [9.0]])
    state = AggregationState.of(
        {"squared_error": squared, "error": squared, "anomaly_correlation": squared}
    )
    assert metrics(state.means())["rmse"] == pytest.approx(np.sqrt(5))


def test_states_merge_in_any_order() -> None:
    values = np.random.default_rng(0).random((7, 3))
    parts = [
        AggregationState.of({"x": values[part]}) for part in (slice(0, 2), slice(2, 3), slice(3, 7))
    ]
    whole = AggregationState.of({"x": values}).means()["x"]
    np.testing.assert_allclose((parts[2] + (parts[0] + parts[1])).means()["x"], whole)
    np.testing.assert_allclose(((parts[1] + parts[2]) + parts[0]).means()["x"], whole)


@pytest.mark.parametrize("columns", [11, 12])
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


def test_truth_must_cover_all_valid_times(truth: xr.Dataset, coefficients: xr.Dataset) -> None:
    late = truth["time"].values[-2:]
    forecast = baselines.persistence(truth, late, LEADS)
    with pytest.raises(InputError, match="truth lacks 3 of 4 valid times"):
        evaluate({"persistence": forecast}, truth, coefficients)


def test_a_forecast_that_blew_up_is_named(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    broken = perfect(truth, inits).copy(deep=True)
    broken["2m_temperature"][3, 2, 0, 0] = np.inf
    with pytest.raises(InputError, match=r"not finite in 2m_temperature.*2001-01-09.*72 h"):
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
