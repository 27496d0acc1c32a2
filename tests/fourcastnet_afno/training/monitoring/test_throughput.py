"""Rates of training."""

import pytest
import torch

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.monitoring.throughput import Meter, flops_per_window, peak_flops
from fourcastnet_afno.training.objectives import RolloutLoss
from tests.builders.experiments import make_forecaster, make_states


def test_operations_are_those_of_all_steps() -> None:
    forecaster = make_forecaster()
    objective = RolloutLoss(forecaster, build_loss(LossConfig(), forecaster))
    counts = []
    for num_steps in (1, 2, 4):
        forcing = torch.zeros(3, num_steps, 1, *forecaster.spec.grid.shape)
        state, target = make_states(forecaster, 3, 1), make_states(forecaster, 3, num_steps)
        sample = Sample(state, target, forcing, torch.zeros(3, dtype=torch.int64), torch.ones(3))
        counts.append(flops_per_window(objective, sample))
    assert counts[0] > 0
    assert counts[1:] == [2 * counts[0], 4 * counts[0]]


def test_the_peak_of_a_processor_is_unknown() -> None:
    assert peak_flops(torch.device("cpu"), "float32") is None


def test_rates_by_hand() -> None:
    clock = [0.0]
    meter = Meter(lambda: clock[0])

    def slow(count: int):  # noqa: ANN202
        for item in range(count):
            clock[0] += 0.5  # Each item takes as long to come as
            yield item

    for _ in meter.measure_wait(slow(4)):
        clock[0] += 1.5  # a third of the step that uses it.
        meter.count(8)
    assert meter.rates() == pytest.approx((4.0, 0.25))
