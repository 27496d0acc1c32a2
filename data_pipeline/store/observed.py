"""The fields of a training store as the source had them: NaN where values were filled."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_pipeline.store.format import FULL
from data_pipeline.store.states import States


class ObservedStates:
    """States as an array with NaN where the source had no value.

    Args:
        states: Filled fields.
        never: Points that count as missing at all times (channel, latitude, longitude).
        places: Place in ``filled`` of the channels (by index) that were filled.
        filled: Gives, for a place and some indices of time, the filled share of each cell, of 255
            (index, latitude, longitude); more than half counts as missing.
    """

    dtype, ndim = States.dtype, States.ndim

    def __init__(
        self,
        states: States,
        never: np.ndarray,
        places: Mapping[int, int],
        filled: Callable[[int, np.ndarray], np.ndarray],
    ) -> None:
        self._states, self._never, self._places, self._filled = states, never, places, filled

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, channel, latitude, longitude)."""
        return self._states.shape

    def __getitem__(self, key: tuple[Any, ...]) -> np.ndarray:
        """Values of a tuple of slices, integers or lists, one for each axis; see ``States``."""
        indices, channels = (np.arange(n)[k] for n, k in zip(self.shape, key[:2], strict=False))
        missing = np.zeros((indices.size, *self.shape[1:]), bool)
        for channel in np.unique(channels).tolist():
            missing[:, channel] = self._never[channel]
            if channel in self._places:
                shares = self._filled(self._places[channel], indices.reshape(-1))
                missing[:, channel] |= shares > FULL // 2
        missing = missing.reshape(*indices.shape, *missing.shape[1:])
        missing = missing[(..., channels, slice(None), slice(None))][(..., *key[2:])]
        return np.where(missing, np.float32(np.nan), self._states[key])
