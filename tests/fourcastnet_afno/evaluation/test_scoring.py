"""What is compared is aligned once; fields may come from elsewhere."""

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.engine import run_tasks
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.plan import split
from fourcastnet_afno.evaluation.scoring import Scoring
from tests.builders.forecasts import make_climatology, make_forecast, make_truth

CONFIG = EvaluationConfig(baselines=["climatology"], num_resamples=0)


def test_fields_of_another_source_have_its_scores() -> None:
    truth = make_truth()
    climatology = make_climatology(truth)
    first, second = (make_forecast(truth, seed=seed) for seed in (1, 2))
    scoring = Scoring.of({"ours": first}, truth, climatology, CONFIG)
    other = Scoring.of({"ours": second}, truth, climatology, CONFIG)
    scoring = scoring.with_fields("ours", other.inputs.alignment.forecasts["ours"])
    found = scoring.scores(run_tasks(scoring.plan, split(scoring.plan)))
    xr.testing.assert_identical(found, evaluate({"ours": second}, truth, climatology, CONFIG))


def test_baselines_are_what_no_forecast_is_called() -> None:
    truth = make_truth(20)
    forecast = make_forecast(make_truth())
    config = EvaluationConfig(baselines=["persistence", "climatology"], num_resamples=0)
    forecasts = {"ours": forecast, "climatology": forecast}
    found = Scoring.of(forecasts, truth, make_climatology(truth), config).baselines
    assert list(found.sources) == ["persistence"]
    known = ~np.isnat(found.valid_times.table)
    assert known.sum(axis=1).tolist() == [4] * 8 + [3, 1, 0, 0]  # as far as there is truth


def test_the_plan_knows_the_valid_times_that_truth_has() -> None:
    truth = make_truth(20)
    forecast = make_forecast(make_truth())
    plan = Scoring.of({"ours": forecast}, truth, make_climatology(truth), CONFIG).plan
    times = plan.times_with_truth(slice(7, 12), slice(0, 4))
    start = truth["time"].values[14]
    np.testing.assert_array_equal(times, start + np.arange(1, 6) * np.timedelta64(6, "h"))
