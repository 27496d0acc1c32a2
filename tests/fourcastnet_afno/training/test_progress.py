"""The progress of a run."""

import json
import math
import random

import pytest

from fourcastnet_afno.training.progress import Position
from fourcastnet_afno.training.schedules import ScheduleConfig
from tests.builders.errors import rejects


def test_progress_of_another_version_is_rejected() -> None:
    record = Position(step=3).to_json()
    assert Position.from_json(json.loads(json.dumps(record))) == Position(step=3)
    del record["num_worse"]
    with rejects("other-version", "--output"):
        Position.from_json(record)


def test_losses_of_an_epoch_are_counted_once() -> None:
    position, losses, sample = Position(), [], 0
    generator = random.Random(0)
    while sample < 1000:
        windows = min(3, 1000 - sample)
        losses.append(generator.random())
        skipped = len(losses) % 7 == 0
        position = position.after_step(losses[-1], windows=windows, total=1000, skipped=skipped)
        sample += windows
    counted = [loss for index, loss in enumerate(losses, start=1) if index % 7]
    assert len(position.loss_sums) == 50
    assert sum(position.loss_counts) == len(counted)
    assert position.mean_loss == pytest.approx(sum(counted) / len(counted))
    assert position.num_skipped == len(losses) - len(counted)


@pytest.mark.parametrize("missing", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_never_the_best(missing: float) -> None:
    position = Position()
    for loss, best, num_worse in ((missing, math.inf, 1), (0.5, 0.5, 0), (missing, 0.5, 1)):
        position = position.after_validation(loss, ScheduleConfig())
        assert (position.best, position.num_worse) == (best, num_worse)
        assert not Position(recent_losses=(0.5,) * 20).is_spike(math.nan, factor=2.0)
