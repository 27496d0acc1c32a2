"""A metric is added in one place, and is seen in scores, tables, figures and the report."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.metrics import METRICS, Metric, Statistic, metric_of, register
from fourcastnet_afno.evaluation.scores.tables import scores_table, scores_to_csv, scores_to_json
from fourcastnet_afno.report.plots import plot_score_curves
from fourcastnet_afno.report.report import write_report
from tests.builders.evaluation_fixtures import GRID, make_coefficients, make_forecast, make_truth

TRUTH = make_truth()
FORECAST = make_forecast(TRUTH)


@pytest.fixture
def scores() -> Iterator[xr.Dataset]:
    register(
        Metric(
            name="l4",
            label="L4 error",
            statistics=(Statistic("fourth_power", lambda pair: pair.mean(pair.error**4)),),
            combine=lambda mean: mean**0.25,
            shown="everywhere",
        )
    )
    config = EvaluationConfig(num_resamples=20, metrics=["mae"], regions=["global", "tropics"])
    yield evaluate({"m": FORECAST}, TRUTH, make_coefficients(TRUTH), config)
    del METRICS["l4"]


def test_a_registered_metric_is_scored_and_shown(scores: xr.Dataset, tmp_path: Path) -> None:
    valid = FORECAST["init_time"] + FORECAST["lead_time"]
    error = FORECAST["2m_temperature"] - TRUTH["2m_temperature"].sel(time=valid).drop_vars("time")
    weights = xr.DataArray(GRID.area_weights(), dims=GRID.dims) / GRID.area_weights().sum()
    expected = (
        (error.drop_vars(GRID.dims) ** 4 * weights).sum(GRID.dims).mean("init_time")
    ) ** 0.25
    chosen = scores["l4"].sel(forecast="m", channel="2m_temperature")
    np.testing.assert_allclose(chosen.sel(region="global"), expected, rtol=1e-12)
    assert {"l4_interval", "l4_verdict", "l4_difference_interval"} <= set(scores.data_vars)
    assert "mae" in scores
    assert "bias" not in scores
    first = float(chosen.sel(region="global")[0])
    assert scores_to_json(scores)["forecasts"]["m"]["l4"]["2m_temperature"]["24"] == first
    assert ",l4," in scores_to_csv(scores).splitlines()[0] + ","
    console = Console(width=120, file=io.StringIO())
    console.print(scores_table(scores))
    assert "L4 error [K]" in console.file.getvalue()  # type: ignore[attr-defined]
    figure = plot_score_curves(scores.isel(region=0), ["l4"])
    assert figure.axes[0].get_ylabel() == "L4 error [K]"
    report = write_report(
        tmp_path / "report.html", scores=scores, truth=TRUTH, forecasts={"m": FORECAST}
    )
    assert "L4 error [K]" in report.read_text()


def test_labels_have_the_units_of_their_scores() -> None:
    assert metric_of("rmse").labelled("K") == "RMSE [K]"
    assert metric_of("mse").labelled("K") == "MSE [(K)^2]"
    assert metric_of("acc").labelled("K") == "ACC"
    assert metric_of("rmse").labelled("1") == "RMSE"
    assert metric_of("mse").labelled("1") == "MSE"
    assert metric_of("of another program").labelled("K") == "of another program"


@pytest.mark.parametrize(
    ("name", "values", "best"),
    [("rmse", [2.0, 1, 3], 1), ("acc", [0.5, 0.9, 0.1], 1), ("bias", [-3.0, 0.5, -0.1], 2),
     ("standard_deviation_ratio", [0.5, 1.9, 1.0], 2)],
)  # fmt: skip
def test_the_best_value_has_the_least_loss(name: str, values: list[float], best: int) -> None:
    assert int(np.argmin(metric_of(name).loss(np.array(values)))) == best
