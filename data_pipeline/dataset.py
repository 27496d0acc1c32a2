"""Training windows: consecutive states of a prepared store as tensors.

The order of the windows is a pure function of seed and epoch, so a run can go on at any batch.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.forcings import compute_forcings
from data_pipeline.prepare import Period
from data_pipeline.store import PreparedStore


class Sample(NamedTuple):
    """A batch of windows, in physical units.

    Args:
        state: History (batch, history, channel, latitude, longitude), oldest first.
        target: The following states (batch, step, channel, latitude, longitude).
        forcing: Forcings at the newest input of each step (batch, step, forcing, latitude,
            longitude).
        time: Time of the newest state in ``state``, in nanoseconds since 1970, (batch,).
    """

    state: Tensor
    target: Tensor
    forcing: Tensor
    time: Tensor


class WindowDataset:
    """All windows of ``num_history + num_steps`` consecutive states within a period.

    Args:
        store: Prepared data.
        period: Where every state of a window lies.
        num_history: States that go in.
        num_steps: States that follow.
        forcings: Names of computed forcings.

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
    ) -> None:
        self._store, self._forcings = store, tuple(forcings)
        self._num_history, self._num_steps = num_history, num_steps
        length = num_history + num_steps
        # A window is complete where the state ``length - 1`` later is that many timesteps away.
        times = np.where(period.contains(store.times), store.times, np.datetime64("NaT"))
        spans = times[length - 1 :] - times[: len(times) - length + 1]
        self.starts = np.flatnonzero(spans == (length - 1) * store.timestep)
        if not len(self.starts):
            raise InputError(
                f"the period {period} holds no {length} consecutive states (num_history "
                f"{num_history} + num_steps {num_steps}); lengthen it, or shorten the windows"
            )

    def __len__(self) -> int:
        return len(self.starts)

    def read(self, indices: np.ndarray) -> Sample:
        """The windows at ``indices`` as one batch."""
        length = self._num_history + self._num_steps
        rows = self.starts[indices][:, None] + np.arange(length)
        fields = torch.empty(*rows.shape, *self._store.states.shape[1:])
        self._store.states.read_into(fields.flatten(0, 1).numpy(), rows.ravel())
        newest = self._store.times[rows[:, self._num_history - 1 : -1]]
        grid = self._store.grid
        forcing = compute_forcings(self._forcings, newest.ravel(), grid)
        forcing = forcing.reshape(*newest.shape, len(self._forcings), *grid.shape)
        return Sample(
            state=fields[:, : self._num_history],
            target=fields[:, self._num_history :],
            forcing=torch.from_numpy(forcing),
            time=torch.from_numpy(newest[:, 0].astype("int64")),
        )


class Loader:
    """Batches of windows, epoch by epoch.

    Args:
        dataset: Windows.
        batch_size: Windows in a batch; the last batch of an epoch may hold fewer.
        seed: With the epoch it decides the order.
        shuffle: Whether the order is random; otherwise it is that of time.
    """

    def __init__(
        self, dataset: WindowDataset, batch_size: int, *, seed: int, shuffle: bool
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.seed, self.shuffle = seed, shuffle

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def epoch(self, epoch: int, first_batch: int = 0) -> Iterator[Sample]:
        """The batches of an epoch, from ``first_batch`` on."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        for start in range(first_batch * self.batch_size, len(order), self.batch_size):
            yield self.dataset.read(order[start : start + self.batch_size])
