"""Statistics for normalization: area-weighted moments of parts of a series, merged exactly.

The moments of two parts A and B combine as (Chan, Golub and LeVeque, 1979)

    n = n_A + n_B,    mean = mean_A + d n_B / n,    M2 = M2_A + M2_B + d^2 n_A n_B / n,

with d = mean_B - mean_A and M2 the sum of squared deviations from the mean. No squares of large
numbers are subtracted, and parts may be computed anywhere, in any order.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Statistics(NamedTuple):
    """Area-weighted statistics of the training period, each of shape (channel,) and in its units.

    ``std`` and ``diff_std`` (of the change over one timestep) are about the mean over time and
    space. ``num_missing`` is the number of values that the source lacked.
    """

    mean: np.ndarray
    std: np.ndarray
    diff_std: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray
    num_missing: np.ndarray


class Moments(NamedTuple):
    """Moments of a part of a series by channel (channel,); see the module's header.

    ``squares`` is M2, the sum over states of the area-weighted mean squared deviation from the
    area-weighted ``mean``.
    """

    num_states: int
    mean: np.ndarray
    squares: np.ndarray
    minimum: np.ndarray
    maximum: np.ndarray

    @classmethod
    def empty(cls, num_channels: int) -> "Moments":
        """Moments of an empty series."""
        zero, inf = np.zeros(num_channels), np.full(num_channels, np.inf)
        return cls(0, zero, zero, inf, -inf)

    @classmethod
    def from_states(cls, states: np.ndarray, area_weights: np.ndarray) -> "Moments":
        """Moments of states (time, channel, latitude, longitude), with weights of mean 1."""
        result, weights = cls.empty(states.shape[1]), area_weights / area_weights.size
        for state in states:
            state = state.astype(np.float64)
            mean = np.einsum("cyx,yx->c", state, weights)
            squares = np.einsum("cyx,yx->c", (state - mean[:, None, None]) ** 2, weights)
            extremes = state.min(axis=(1, 2)), state.max(axis=(1, 2))
            result = result.merge(cls(1, mean, squares, *extremes))
        return result

    def merge(self, other: "Moments") -> "Moments":
        """Moments of both parts together."""
        count = self.num_states + other.num_states
        if count == 0:
            return self
        difference = other.mean - self.mean
        spread = difference**2 * (self.num_states * other.num_states / count)
        return Moments(
            count,
            self.mean + difference * (other.num_states / count),
            self.squares + other.squares + spread,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (channel,)."""
        return np.sqrt(self.squares / max(1, self.num_states))

    def to_json(self) -> list[object]:
        """Values for JSON; numbers keep every bit."""
        return [self.num_states, *(values.tolist() for values in self[1:])]

    @classmethod
    def from_json(cls, record: Sequence[object]) -> "Moments":
        """Inverse of ``to_json``."""
        count, *arrays = record
        assert isinstance(count, int)
        return cls(count, *(np.array(values, np.float64) for values in arrays))


def merge_all(moments: Sequence[Moments]) -> Moments:
    """Merge pairwise, so that rounding grows with the logarithm of the number of parts."""
    while len(moments) > 1:
        pairs = [a.merge(b) for a, b in zip(moments[::2], moments[1::2], strict=False)]
        moments = [*pairs, *moments[len(pairs) * 2 :]]
    return moments[0]
