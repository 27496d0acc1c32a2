"""The view of a training in a terminal."""

import io
import math

import torch
from rich.console import Console

from fourcastnet_afno.training.monitoring.record import Rates
from fourcastnet_afno.training.monitoring.terminal import LiveView, sparkline
from tests.builders.logs import make_step_record


def test_the_view_shows_everything() -> None:
    rates = Rates(samples_per_second=2.0, data_wait=0.01, memory_gib=1.5, flop_utilization=0.42)
    record = make_step_record(7, samples_left=7200, loss=0.125, learning_rate=1e-3, rates=rates)
    for terminal in (True, False):
        text = io.StringIO()
        console = Console(file=text, force_terminal=terminal, width=200)
        view = LiveView(console)
        view.show(record)
        view.close()
        shown = ["Stage 1 epoch 2/3", "0.125", "1.00e-03", "1.0%", "1.50 GiB", "42.0%", "1:00:00"]
        assert all(word in text.getvalue() for word in shown)
    LiveView(None).show(record)


def test_a_sparkline_by_hand() -> None:
    assert sparkline([1.0, math.e, math.e**7]) == "▁▂█"
    assert sparkline([0.0, math.nan]) == ""
    assert len(sparkline(torch.rand(500).add(1).tolist(), width=40)) == 40
