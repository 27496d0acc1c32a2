"""Exponential moving average of a module's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class MovingAverage:
    """Moving average a of weights w: after step n, a <- d a + (1 - d) w.

    The decay d = min(decay, (1 + n) / (10 + n)) is smaller in the first steps, so that the random
    initial weights are forgotten.

    Args:
        module: Module whose weights are averaged, or their shards where they are sharded.
        decay: Largest decay; 0 is off, and the average is the weights themselves.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay, self.is_on = decay, decay > 0  # Otherwise the average is the weights.
        self._parameters = list(module.parameters()) if self.is_on else []
        self.reset()

    def reset(self) -> None:
        """Start from the present weights."""
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the present weights into the average, ``step`` steps after the start."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.lerp_(parameter.detach(), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged weights while the block runs; no second module is needed."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            present = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(present)
