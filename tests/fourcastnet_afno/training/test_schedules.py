import itertools
import json
import math
from dataclasses import asdict
from functools import reduce

import pytest

from fourcastnet_afno.training.schedules import Plateau, ScheduleConfig


class Schedule:
    """Rates of a stage with the peak 2."""

    def __init__(self, num_steps: int = 100, **options: object) -> None:
        self.config = ScheduleConfig(**options)  # type: ignore[arg-type]
        self.num_steps = num_steps

    def __call__(self, step: int, plateau: Plateau | None = None) -> float:
        return self.config.learning_rate(2.0, step, self.num_steps, plateau or Plateau())


def test_cosine_by_hand() -> None:
    schedule = Schedule(12, warmup_fraction=1 / 3, final_fraction=0.1)
    assert [schedule(step) for step in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert schedule(8) == pytest.approx(2 * (0.1 + 0.9 / 2))
    assert schedule(12) == pytest.approx(0.2)
    assert schedule(1000) == schedule(12)


def test_warmup_stable_decay_by_hand() -> None:
    schedule = Schedule(20, kind="wsd", warmup_fraction=0.1, decay_fraction=0.2)
    assert [schedule(step) for step in (0, 1, 2, 10, 16)] == [1.0, 2.0, 2.0, 2.0, 2.0]
    assert [schedule(step) for step in (17, 18, 19, 20)] == [1.5, 1.0, 0.5, 0.0]


def test_constant_by_hand() -> None:
    schedule = Schedule(10, kind="constant", warmup_fraction=0.2)
    assert [schedule(step) for step in range(4)] == [1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("kind", ["cosine", "wsd", "constant", "plateau"])
@pytest.mark.parametrize("fractions", [(0.0, 0.2), (0.05, 0.2), (0.5, 0.5)])
def test_joints_are_continuous(kind: str, fractions: tuple[float, float]) -> None:
    """A step changes the rate by no more than the steepest of the parts does."""
    num_steps, (warmup, decay) = 1000, fractions
    schedule = Schedule(
        num_steps, kind=kind, warmup_fraction=warmup, decay_fraction=decay, final_fraction=0.1
    )
    rates = [schedule(step) for step in range(num_steps + 1)]
    first = max(1, round(warmup * num_steps))
    steepest = max(
        1 / first if first > 1 else 0,
        math.pi / 2 / (num_steps - first),
        1 / (decay * num_steps),
    )
    assert all(abs(b - a) <= 2.0 * steepest + 1e-12 for a, b in itertools.pairwise(rates))
    assert max(rates) == 2.0
    if kind in ("cosine", "wsd"):
        assert rates[-1] == pytest.approx(0.2)


def test_plateau_by_hand() -> None:
    options = {"plateau_patience": 2, "plateau_factor": 0.5, "plateau_threshold": 0.01}
    schedule = Schedule(kind="plateau", warmup_fraction=0.0, final_fraction=0.2, **options)
    plateau, rates = Plateau(), []
    for loss in (1.0, 0.9, 0.895, math.nan, 0.8, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        plateau = schedule.config.after_validation(plateau, loss)
        rates.append(schedule(50, plateau))
    assert rates == [2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.4, 0.4, 0.4]


def test_a_plateau_resumes_exactly() -> None:
    schedule = ScheduleConfig(kind="plateau", plateau_patience=2)
    losses = [1.0, 0.9, 0.95, 0.93, 0.92, 0.5, 0.7, math.inf, 0.6]
    whole = reduce(schedule.after_validation, losses, Plateau())
    for stop in range(len(losses)):
        stopped = reduce(schedule.after_validation, losses[:stop], Plateau())
        resumed = Plateau(**json.loads(json.dumps(asdict(stopped), allow_nan=False)))
        assert reduce(schedule.after_validation, losses[stop:], resumed) == whole


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_fraction": 1.5}, r"warmup_fraction must lie in 0\.\.1, got 1\.5"),
        ({"final_fraction": -0.1}, "final_fraction"),
        ({"kind": "wsd", "warmup_fraction": 0.9}, "must add up to at most 1"),
        ({"plateau_factor": 1.0}, "plateau_factor must be below 1"),
        ({"plateau_patience": 0}, "plateau_patience must be at least 1"),
    ],
)
def test_wrong_settings_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleConfig(**options)
