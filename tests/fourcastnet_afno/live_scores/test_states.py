"""Sums of units in files: their order does not matter, and none is lost or counted twice."""

from pathlib import Path

import pytest

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.scoring import Scoring
from fourcastnet_afno.evaluation.tasks import run_task
from fourcastnet_afno.live_scores.states import ScoreStates
from tests.builders.errors import rejects
from tests.builders.forecasts import LEADS, make_climatology, make_forecast, make_truth
from tests.fourcastnet_afno.evaluation.test_aggregation import assert_equal

UNITS = [slice(0, 4), slice(4, 8), slice(8, 12)]


@pytest.fixture(scope="module")
def plan() -> ScoringPlan:
    truth = make_truth()
    config = EvaluationConfig(baselines=[])
    forecasts = {"m": make_forecast(truth)}
    return Scoring.of(forecasts, truth, make_climatology(truth), config).plan


def open_states(folder: Path, plan: ScoringPlan) -> ScoreStates:
    folder.mkdir(exist_ok=True)
    return ScoreStates(folder, "ours", plan, UNITS, least_bytes=1)


def save(states: ScoreStates, plan: ScoringPlan, unit: int, num_leads: int = len(LEADS)) -> None:
    """Keep the sums of the first lead times of a unit."""
    state, before = states.load(unit)
    task = ScoringTask(tuple(range(len(plan.channels))), UNITS[unit], slice(before, num_leads))
    for part in run_task(plan, task):
        state += part
    states.save(unit, state, num_leads)


def test_the_total_does_not_depend_on_the_order_of_the_units(
    tmp_path: Path, plan: ScoringPlan
) -> None:
    totals = []
    for order in ((0, 1, 2), (2, 0, 1)):
        states = open_states(tmp_path / str(order[0]), plan)
        for unit in order:
            save(states, plan, unit)
            states.add_finished()
        totals.append(states.total())
        assert [path.name for path in (tmp_path / str(order[0])).glob("*.npz")] == ["scores.npz"]
    assert_equal(*totals)


def test_units_are_kept_by_lead_time_and_once_they_are_added(
    tmp_path: Path, plan: ScoringPlan
) -> None:
    states = open_states(tmp_path, plan)
    save(states, plan, 0, 1)
    states.add_finished()
    assert [states.load(unit)[1] for unit in range(3)] == [1, 0, 0]
    for unit in range(3):
        save(states, plan, unit)
    states.add_finished()
    assert [open_states(tmp_path, plan).load(unit)[1] for unit in range(3)] == [len(LEADS)] * 3
    at_once = open_states(tmp_path / "at_once", plan)
    save(at_once, plan, 0, 1)
    for unit in range(3):
        save(at_once, plan, unit)
    assert_equal(at_once.total(), states.total())


def test_lost_damaged_and_foreign_sums_are_named(tmp_path: Path, plan: ScoringPlan) -> None:
    states = open_states(tmp_path, plan)
    save(states, plan, 0)
    with rejects("damaged-restart", "scores-1.npz", "missing", str(tmp_path)):
        states.total()
    (tmp_path / "scores-1.npz").write_bytes(b"nothing")
    with rejects("damaged-restart", "scores-1.npz"):
        states.load(1)
    with rejects("damaged-restart", "scores.npz", "other scores"):
        ScoreStates(tmp_path, "theirs", plan, UNITS).total()
