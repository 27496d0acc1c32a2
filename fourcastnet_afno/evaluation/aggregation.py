"""Sums of statistics that can be merged in any order, so that scores do not depend on chunks."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class AggregationState:
    """Sums over initial times and their number.

    Args:
        sums: Sum of each statistic, without the axis of initial times.
        count: Number of initial times.
    """

    sums: Mapping[str, np.ndarray]
    count: int

    @classmethod
    def of(cls, statistics: Mapping[str, np.ndarray]) -> "AggregationState":
        """Sum statistics of shape (init_time, ...)."""
        count = len(next(iter(statistics.values())))
        return cls({name: values.sum(axis=0) for name, values in statistics.items()}, count)

    def __add__(self, other: "AggregationState") -> "AggregationState":
        sums = {name: self.sums[name] + other.sums[name] for name in self.sums}
        return AggregationState(sums, self.count + other.count)

    def means(self) -> dict[str, np.ndarray]:
        """Averages over initial times."""
        return {name: values / self.count for name, values in self.sums.items()}
