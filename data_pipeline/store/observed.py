"""The fields of a training store as the source had them: NaN where values were filled."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_pipeline.store.format import FULL
from data_pipeline.store.indexing import Selection
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

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:  # noqa: ANN401
        """Values by the rules of numpy, see ``States``."""
        selection = Selection.from_key(key, self.shape)
        times, span = selection.times, selection.channels
        never = self._never[span]
        missing = np.repeat(never[None], len(times), axis=0)
        for index, channel in enumerate(range(span.start, span.stop)):
            if channel in self._places:
                missing[:, index] |= self._filled(self._places[channel], times) > FULL // 2
        return np.where(missing[selection.key], np.float32(np.nan), self._states[key])
