"""Training windows: consecutive states of a prepared store as tensors."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preprocessing.forcings import compute_forcings
from data_pipeline.store.packing import Packing
from data_pipeline.store.reader import PreparedStore
from data_pipeline.timestep import Timestep


class Sample(NamedTuple):
    """A batch of windows, in physical units.

    Attributes:
        state: History (batch, history, channel, latitude, longitude), oldest first.
        target: The following states (batch, step, channel, latitude, longitude).
        forcing: Forcings at the newest input of each step (batch, step, forcing, latitude,
            longitude); of a limited area followed by the state that the step leads to, see
            ``WindowDataset``.
        time: Time of the newest state in ``state``, in nanoseconds since 1970, (batch,).
        weight: Of each window in the mean over a global batch, (batch,): the mean of weight times
            loss over the rows of all ranks is the mean loss of the batch's windows. 1 on one rank;
            rows that only fill up a rank's slice have 0.
    """

    state: Tensor
    target: Tensor
    forcing: Tensor
    time: Tensor
    weight: Tensor


class Windows(NamedTuple):
    """Stored values of windows, on the host.

    Args:
        fields: Stored values (batch, history + step, channel, latitude, longitude).
        forcing: See ``Sample``.
        time: See ``Sample``.
    """

    fields: Tensor
    forcing: Tensor
    time: Tensor


def window_starts(
    times: np.ndarray,
    step: Timestep,
    period: Period,
    num_history: int,
    num_steps: int,
    subset: SubsetConfig | None = None,
) -> np.ndarray:
    """Indices of the first states of all windows of consecutive states within a period.

    Args:
        times: Of the states (datetime64), increasing.
        step: From a state to the next.
        period: Holds every state of a window.
        num_history: States that go in.
        num_steps: States that follow.
        subset: Selects windows by their newest input; all by default.

    Raises:
        InputError: If there is none.
    """
    length = num_history + num_steps
    # A window is complete where the state ``length - 1`` later is that many timesteps away.
    inside = np.where(period.contains(times), times, np.datetime64("NaT"))
    first, last = inside[: max(0, len(times) - length + 1)], inside[length - 1 :]
    starts = np.flatnonzero(step.steps_between(first, last) == length - 1)
    if subset is not None:
        starts = starts[subset.contains(times[starts + num_history - 1])][:: subset.stride]
    if not len(starts):
        of_subset = ""
        if subset is not None and subset != SubsetConfig():
            of_subset = f" whose newest input is in data.subset ({subset})"
        raise InputError(
            f"the period {period} holds no {length} consecutive states every {step.label} "
            f"(num_history {num_history} + num_steps {num_steps}){of_subset}; lengthen it or "
            "shorten the windows",
            code="no-times",
        )
    return starts


class WindowDataset:
    """All windows of ``num_history + num_steps`` consecutive states within a period.

    Args:
        store: Prepared data.
        period: Holds every state of a window.
        num_history: States that go in.
        num_steps: States that follow.
        forcings: Names of computed forcings.
        subset: Selects windows; all by default.
        state_channels: Channels of the store in a sample's history.
        target_channels: Channels of the store in its targets.
        is_driven: Whether the forcings of a step are followed by the state that it leads to, of
            which a limited area takes its boundary.

    Raises:
        InputError: If the period holds no window.
    """

    def __init__(
        self,
        store: PreparedStore,
        period: Period,
        num_history: int,
        num_steps: int,
        forcings: Sequence[str] = (),
        subset: SubsetConfig | None = None,
        *,
        state_channels: slice = slice(None),
        target_channels: slice = slice(None),
        is_driven: bool = False,
    ) -> None:
        self._is_driven = is_driven
        self._state_channels, self._target_channels = state_channels, target_channels
        self.store, self._forcings = store, tuple(forcings)
        self._num_history, self._num_steps = num_history, num_steps
        self.starts = window_starts(store.times, store.step, period, num_history, num_steps, subset)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def window_shape(self) -> tuple[int, ...]:
        """Shape (history + step, channel, latitude, longitude) of a window."""
        return (self._num_history + self._num_steps, *self.store.states.shape[1:])

    def new_buffer(self, num_windows: int) -> Tensor:
        """Memory for the stored values of some windows."""
        shape = num_windows, *self.window_shape  # by numpy, which asks for large pages
        return torch.from_numpy(np.empty(shape, self.store.packing.stored))

    def read_stored(self, indices: np.ndarray, buffer: Tensor) -> Windows:
        """Stored values of the windows at ``indices`` (batch,), in the memory of ``buffer``."""
        rows = self.starts[indices][:, None] + np.arange(self.window_shape[0])
        fields = buffer[: len(rows)]
        self.store.states.reader.read_into(fields.flatten(0, 1).numpy(), rows.ravel())
        newest = self.store.times[rows[:, self._num_history - 1 : -1]]
        forcing = compute_forcings(self._forcings, newest.ravel(), self.store.grid)
        forcing = forcing.reshape(*newest.shape, *forcing.shape[1:])
        time = torch.from_numpy(newest[:, 0].astype("int64"))
        return Windows(fields, torch.from_numpy(forcing), time)

    def sample(self, windows: Windows, fields: Tensor, weight: Tensor) -> Sample:
        """A batch of ``windows`` whose values are ``fields``."""
        states, forcing = fields[:, :, self._state_channels], windows.forcing
        if self._is_driven:
            forcing = torch.cat([forcing, states[:, self._num_history :]], dim=2)
        return Sample(
            state=states[:, : self._num_history],
            target=fields[:, self._num_history :, self._target_channels],
            forcing=forcing,
            time=windows.time,
            weight=weight,
        )

    def read(self, indices: np.ndarray) -> Sample:
        """The windows at ``indices`` (batch,) as one batch, in new memory."""
        windows = self.read_stored(indices, self.new_buffer(len(indices)))
        fields = Unpacking(self.store.packing)(windows.fields)
        return self.sample(windows, fields, torch.ones(len(indices)))


class Unpacking:
    """Stored values to float32 in physical units, on their device."""

    def __init__(self, packing: Packing) -> None:
        self._dtype = packing.dtype
        self._offset, self._scale = (
            torch.from_numpy(x.astype(np.float32))[:, None, None]
            for x in (packing.offset, packing.scale)
        )
        self._memory: dict[torch.device, Tensor] = {}

    def __call__(self, stored: Tensor) -> Tensor:
        """Values (..., channel, latitude, longitude); the next call overwrites them."""
        if self._dtype == "float32":
            return stored
        if self._dtype == "bfloat16":
            stored = stored.view(torch.bfloat16)
        device = stored.device
        memory = self._memory.get(device)
        if memory is None or memory.shape[1:] != stored.shape[1:] or len(memory) < len(stored):
            memory = self._memory[device] = torch.empty(stored.shape, device=device)
        values = memory[: len(stored)].copy_(stored)  # faster than a product of mixed types
        return values.mul_(self._scale.to(device)).add_(self._offset.to(device))
