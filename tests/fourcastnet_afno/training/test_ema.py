"""The moving average of the weights."""

import pytest
import torch

from fourcastnet_afno.training.ema import MovingAverage


def test_moving_average_by_hand() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    (weight,) = module.parameters()
    with torch.no_grad():
        weight.fill_(1.0)
        average = MovingAverage(module, 0.25)
        weight.fill_(2.0)
        average.update(1)  # d = 2 / 11
        weight.fill_(3.0)
        average.update(100)  # d = 1 / 4
    expected = 0.25 * (2 / 11 + 2 * 9 / 11) + 0.75 * 3
    with average.applied():
        assert weight.item() == pytest.approx(expected, rel=1e-6)
    assert weight.item() == 3.0
