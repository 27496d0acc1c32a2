"""Training windows: consecutive states of a prepared store as tensors.

The order of the windows is a pure function of seed and epoch, so a run can go on at any batch.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
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
        weight: Of each window in the mean over a global batch, (batch,): the mean of weight times
            loss over the rows of all ranks is the mean loss of the batch's windows. 1 on one rank;
            rows that only fill a rank's share up have 0.
    """

    state: Tensor
    target: Tensor
    forcing: Tensor
    time: Tensor
    weight: Tensor


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

    @property
    def window_shape(self) -> tuple[int, ...]:
        """Shape (history + step, channel, latitude, longitude) of a window."""
        return (self._num_history + self._num_steps, *self._store.states.shape[1:])

    def read(self, indices: np.ndarray, buffer: Tensor | None = None) -> Sample:
        """The windows at ``indices`` as one batch.

        Args:
            indices: Of shape (batch,).
            buffer: Where their states go, at least ``batch`` windows; new memory by default.
        """
        length = self.window_shape[0]
        rows = self.starts[indices][:, None] + np.arange(length)
        fields = torch.empty(len(rows), *self.window_shape) if buffer is None else buffer
        fields = fields[: len(rows)]
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
            weight=torch.ones(len(rows)),
        )


class Share(NamedTuple):
    """What one rank reads of a global batch.

    Args:
        indices: Windows (row,); all ranks have as many.
        weights: See ``Sample.weight``.
    """

    indices: np.ndarray
    weights: np.ndarray


def share_of(batch: np.ndarray, rank: int, world_size: int) -> Share:
    """A rank's contiguous part of a global batch; what is missing repeats windows with weight 0."""
    num_rows = -(-len(batch) // world_size)
    padded = num_rows * world_size
    indices = np.resize(batch, padded)
    weights = np.where(np.arange(padded) < len(batch), padded / len(batch), 0.0)
    mine = slice(rank * num_rows, (rank + 1) * num_rows)
    return Share(indices[mine], weights[mine].astype(np.float32))


class Loader:
    """Batches of windows, epoch by epoch, read ahead by threads into memory that is used again.

    The order of the windows is a permutation by seed and epoch, cut into global batches; every rank
    reads its share of each, so that neither the ranks nor the threads change what a batch holds.

    New memory for every batch would cost more than reading: the system clears it page by page.
    Threads suffice, as copies run without Python's lock; processes would copy twice.

    Args:
        dataset: Windows.
        batch_size: Windows in a global batch, over all ranks; the last batch of an epoch may hold
            fewer.
        seed: With the epoch it decides the order.
        shuffle: Whether the order is random; otherwise it is that of time.
        device: Where the batches are wanted.
        read_ahead: Batches that are read while one is in use.
        rank: Of this process.
        world_size: Number of processes that share each batch.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        device: torch.device | None = None,
        read_ahead: int = 2,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.seed, self.shuffle = seed, shuffle
        self.rank, self.world_size = rank, world_size
        self._device, self._read_ahead = device or torch.device("cpu"), read_ahead
        self._free: list[Tensor] = []

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def shares(self, epoch: int, first_sample: int = 0) -> Iterator[Share]:
        """What this rank reads in an epoch, batch by batch, after ``first_sample`` windows."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        for start in range(first_sample, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield share_of(batch, self.rank, self.world_size)

    def epoch(self, epoch: int, first_sample: int = 0) -> Iterator[Sample]:
        """The batches of an epoch, without the first ``first_sample`` windows of its order.

        A batch's tensors are overwritten after the next one is asked for: clone what is to stay.
        """
        shares = self.shares(epoch, first_sample)
        with ThreadPoolExecutor(max(1, self._read_ahead), "loader") as pool:
            waiting = deque(
                self._submit(pool, share) for share in islice(shares, self._read_ahead + 1)
            )
            try:
                while waiting:
                    buffer, future = waiting.popleft()
                    sample, copied = self._moved(future.result())
                    yield sample
                    if copied is not None:
                        copied.synchronize()
                    self._free.append(buffer)
                    waiting.extend(self._submit(pool, share) for share in islice(shares, 1))
            finally:
                for buffer, future in waiting:
                    future.cancel()
                    self._free.append(buffer)

    def _submit(self, pool: ThreadPoolExecutor, share: Share) -> tuple[Tensor, Future[Sample]]:
        buffer = self._free.pop() if self._free else self._new_buffer()
        return buffer, pool.submit(self._read, share, buffer)

    def _read(self, share: Share, buffer: Tensor) -> Sample:
        sample = self.dataset.read(share.indices, buffer)
        return sample._replace(weight=torch.from_numpy(share.weights))

    def _new_buffer(self) -> Tensor:
        rows = -(-min(self.batch_size, len(self.dataset)) // self.world_size)
        shape = (rows, *self.dataset.window_shape)
        return torch.empty(shape, pin_memory=self._device.type == "cuda")

    def _moved(self, sample: Sample) -> tuple[Sample, torch.cuda.Event | None]:
        """The sample on the device, and the end of its copy."""
        if self._device.type == "cpu":
            return sample, None
        moved = Sample(*(tensor.to(self._device, non_blocking=True) for tensor in sample))
        if self._device.type != "cuda":
            return moved, None
        copied = torch.cuda.Event()
        copied.record()
        return moved, copied
