"""Rates of training: windows per second, waiting for data, and operations."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch
from torch.utils.flop_counter import FlopCounterMode

from data_pipeline.loading.windows import Sample
from fourcastnet_afno.training.config import Precision
from fourcastnet_afno.training.objectives import Objective

_Item = TypeVar("_Item")

_RECENT_SECONDS = 20.0
# Dense peak of matrix products in 1e12 operations per second, from NVIDIA's data sheets: with 16
# bits, with TF32, with float32.
_PEAKS = {
    "B200": (2250, 1100, 80),
    "H200": (989, 494, 67),
    "H100": (989, 494, 67),
    "GH200": (989, 494, 67),
    "A100": (312, 156, 19.5),
    "L40S": (362, 183, 91.6),
    "A40": (149.7, 74.8, 37.4),
    "V100": (125, 15.7, 15.7),
}


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """Peak operations per second of a device, where it is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    column = {"tf32": 1, "float32": 2}.get(precision, 0)
    return next((1e12 * peaks[column] for key, peaks in _PEAKS.items() if key in name), None)


def flops_per_window(objective: Objective, sample: Sample) -> float:
    """Operations of a training step on one window: three times those of the forward pass.

    Recomputation of activations does not count, as in the usual model FLOP utilization. Products
    and sums of matrix products and convolutions are counted, as ``torch.utils.flop_counter`` does.
    """
    window = [tensor[:1] for tensor in (sample.state, sample.forcing, sample.target)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        objective(*window)
    return 3.0 * counter.get_total_flops()


class Meter:
    """Rates over the last seconds: windows per second, and the share of time that data took."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Forget the past, for example after a validation."""
        self._steps: deque[tuple[float, int, float]] = deque([(self._clock(), 0, 0.0)])
        self._waited = 0.0

    def measure_wait(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Iterate, and count the time until each item is there as waiting."""
        iterator = iter(items)
        while True:
            started = self._clock()
            item = next(iterator, None)
            self._waited += self._clock() - started
            if item is None:
                return
            yield item

    def count(self, windows: int) -> None:
        """Count a finished step with this many windows, over all processes."""
        now = self._clock()
        self._steps.append((now, windows, self._waited))
        self._waited = 0.0
        while len(self._steps) > 2 and now - self._steps[0][0] > _RECENT_SECONDS:
            self._steps.popleft()

    def rates(self) -> tuple[float, float]:
        """Windows per second, over all processes, and share of the time waiting for data."""
        first, *steps = self._steps
        seconds = max(1e-9, self._steps[-1][0] - first[0])
        return sum(n for _, n, _ in steps) / seconds, sum(wait for _, _, wait in steps) / seconds
