"""Statistics for normalization: one area-weighted pass over the training period."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """Area-weighted moments by channel, each float64 of shape (channel,), in the channel's units.

    ``std`` and ``diff_std`` are about the mean over time and space; ``diff_std`` is that of the
    change over one timestep.
    """

    mean: np.ndarray
    std: np.ndarray
    diff_std: np.ndarray


class _Moments:
    """Sums of values about a shift near their mean, where squares do not cancel."""

    def __init__(self, area_weights: np.ndarray) -> None:
        self._weights = area_weights / area_weights.size
        self._shift: np.ndarray | float = 0.0
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        if len(values) == 0:
            return
        if self._count == 0:
            self._shift = self._mean(values[:1].astype(np.float64))
        centered = values - np.asarray(self._shift)[..., None, None]
        self._count += len(values)
        self._sum = self._sum + len(values) * self._mean(centered)
        self._squares = self._squares + len(values) * self._mean(centered**2)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        return np.einsum("tcyx,yx->c", values, self._weights) / len(values)

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        offset = np.asarray(self._sum) / self._count
        variance = np.asarray(self._squares) / self._count - offset**2
        return self._shift + offset, np.sqrt(np.maximum(variance, 0))


def compute_statistics(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    area_weights: np.ndarray,
    timestep: np.timedelta64,
) -> Statistics:
    """Statistics of a series given block by block.

    Args:
        blocks: Pairs of increasing times (datetime64) and values (time, channel, latitude,
            longitude), in order.
        area_weights: Cell areas with mean 1, of shape (latitude, longitude).
        timestep: Only pairs of states this far apart count for ``diff_std``.
    """
    states, changes = _Moments(area_weights), _Moments(area_weights)
    last_time, last_state = None, None
    for times, block in blocks:
        values = block.astype(np.float64)
        states.add(values)
        if last_time is not None and last_state is not None:
            times = np.concatenate([last_time, times])
            values = np.concatenate([last_state, values])
        changes.add((values[1:] - values[:-1])[np.diff(times) == timestep])
        last_time, last_state = times[-1:], values[-1:]
    mean, std = states.mean_and_std()
    return Statistics(mean, std, changes.mean_and_std()[1])
