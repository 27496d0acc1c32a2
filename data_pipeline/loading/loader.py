"""Loading: windows as batches, in an order that depends on seed and epoch alone.

New memory for every batch would cost more than reading, since the system clears it page by page.
Threads therefore read ahead into buffers that are reused; copies run without Python's lock. Values
of 16 bits are copied to the device unchanged and become float32 there.
"""

import multiprocessing
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipeline.loading.windows import Sample, Unpacking, WindowDataset, Windows


class RankSlice(NamedTuple):
    """The windows (row,) of a global batch that one rank reads, and their ``Sample.weight``."""

    indices: np.ndarray
    weights: np.ndarray


def rank_slice(batch: np.ndarray, rank: int, world_size: int) -> RankSlice:
    """A rank's contiguous slice of a global batch, filled up by repeated windows of weight 0."""
    num_rows = -(-len(batch) // world_size)
    padded = num_rows * world_size
    indices = np.resize(batch, padded)
    weights = np.where(np.arange(padded) < len(batch), padded / len(batch), 0.0)
    rows = slice(rank * num_rows, (rank + 1) * num_rows)
    return RankSlice(indices[rows], weights[rows].astype(np.float32))


class Loader:
    """Batches of windows, epoch by epoch.

    The order of the windows is a permutation by seed and epoch, cut into global batches; every rank
    reads its slice of each, so that neither ranks nor threads change a global batch.

    Args:
        dataset: Windows.
        batch_size: Windows in a global batch, over all ranks; the last of an epoch may hold fewer.
        seed: With the epoch it decides the order.
        shuffle: Whether the order is random; otherwise it is that of time.
        device: Device of the batches.
        read_ahead: Batches that are read while one is in use.
        rank: Of this process.
        world_size: Number of processes that share each batch.
        workers: Threads, or spawned processes, which help where reading needs Python's lock.
        unpack: Whether 16-bit values become float32 in physical units; otherwise batches hold the
            stored values.
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
        workers: Literal["threads", "processes"] = "threads",
        unpack: bool = True,
    ) -> None:
        self.dataset, self.batch_size = dataset, batch_size
        self.seed, self.shuffle = seed, shuffle
        self.rank, self.world_size = rank, world_size
        self._device, self._read_ahead = device or torch.device("cpu"), read_ahead
        rows = -(-min(batch_size, len(dataset)) // world_size)
        if workers == "threads":
            pinned = self._device.type == "cuda"
            self._readers = ThreadReaders(dataset, rows, read_ahead, pinned=pinned)
        else:
            self._readers = ProcessReaders(dataset, rows, read_ahead)
        self._unpacking = Unpacking(dataset.store.packing) if unpack else None

    @property
    def num_batches(self) -> int:
        """Batches in an epoch."""
        return -(-len(self.dataset) // self.batch_size)

    def rank_slices(self, epoch: int, first_sample: int = 0) -> Iterator[RankSlice]:
        """This rank's slice of each batch of an epoch, after ``first_sample`` windows."""
        order = np.arange(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.seed, epoch]).permutation(order)
        for start in range(first_sample, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield rank_slice(batch, self.rank, self.world_size)

    def epoch(self, epoch: int, first_sample: int = 0) -> Generator[Sample, None, None]:
        """The batches of an epoch, without the first ``first_sample`` windows of its order.

        A batch's tensors are overwritten once the next one is requested: clone to keep them.
        """
        slices = self.rank_slices(epoch, first_sample)
        with self._readers.running() as submit:
            waiting = deque((s, submit(s.indices)) for s in islice(slices, self._read_ahead + 1))
            while waiting:
                current, reading = waiting.popleft()
                windows = reading.result()
                moved = Windows(*(x.to(self._device, non_blocking=True) for x in windows))
                fields = self._unpacking(moved.fields) if self._unpacking else moved.fields
                weight = torch.from_numpy(current.weights).to(self._device)
                copied = torch.cuda.Event() if self._device.type == "cuda" else None
                if copied is not None:
                    copied.record()
                yield self.dataset.sample(moved, fields, weight)
                if copied is not None:
                    copied.synchronize()
                reading.release()
                waiting.extend((s, submit(s.indices)) for s in islice(slices, 1))


class Reading(NamedTuple):
    """A batch that is being read: ``result`` waits for it, ``release`` returns its memory."""

    result: Callable[[], Windows]
    release: Callable[[], None]


class ThreadReaders:
    """Threads that read into buffers of this process, ``pinned`` if a GPU copies from them."""

    def __init__(
        self, dataset: WindowDataset, num_rows: int, read_ahead: int, *, pinned: bool = False
    ) -> None:
        self._dataset, self._num_rows = dataset, num_rows
        self._num_threads, self._pinned = max(1, read_ahead), pinned
        self._free: list[Tensor] = []

    @contextmanager
    def running(self) -> Iterator[Callable[[np.ndarray], Reading]]:
        """While the block runs: a function that starts to read the windows at some indices."""
        pool, lent = ThreadPoolExecutor(self._num_threads, "loader"), dict[int, Tensor]()

        def submit(indices: np.ndarray) -> Reading:
            if self._free:
                buffer = self._free.pop()
            else:
                buffer = self._dataset.new_buffer(self._num_rows)
                buffer = buffer.pin_memory() if self._pinned else buffer
            lent[id(buffer)] = buffer
            future = pool.submit(self._dataset.read_stored, indices, buffer)
            return Reading(future.result, lambda: self._free.append(lent.pop(id(buffer))))

        try:
            yield submit
        finally:
            pool.shutdown(cancel_futures=True)
            self._free += lent.values()


class ProcessReaders:
    """Spawned processes that read into memory they share with this one.

    They start with the first epoch, open the store anew, and end with the loader.
    """

    def __init__(self, dataset: WindowDataset, num_rows: int, read_ahead: int) -> None:
        buffers = [dataset.new_buffer(num_rows).share_memory_() for _ in range(read_ahead + 1)]
        self._buffers = buffers
        self._pool = ProcessPoolExecutor(
            max(1, read_ahead),
            multiprocessing.get_context("spawn"),
            _open_in_process,
            (dataset, buffers),
        )

    @contextmanager
    def running(self) -> Iterator[Callable[[np.ndarray], Reading]]:
        """See ``ThreadReaders``."""
        pending, free = list[Future[tuple[np.ndarray, np.ndarray]]](), [*range(len(self._buffers))]

        def submit(indices: np.ndarray) -> Reading:
            slot = free.pop()
            future = self._pool.submit(_read_in_process, slot, indices)
            pending.append(future)

            def result() -> Windows:
                forcing, time = (torch.from_numpy(array) for array in future.result())
                pending.remove(future)
                return Windows(self._buffers[slot][: len(indices)], forcing, time)

            return Reading(result, lambda: free.append(slot))

        try:
            yield submit
        finally:
            for future in pending:
                if not future.cancel():
                    future.exception()  # the buffers must be at rest before they are used again


_in_process: tuple[WindowDataset, list[Tensor]]


def _open_in_process(dataset: WindowDataset, buffers: list[Tensor]) -> None:
    global _in_process
    _in_process = dataset, buffers


def _read_in_process(slot: int, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    dataset, buffers = _in_process
    windows = dataset.read_stored(indices, buffers[slot])
    return windows.forcing.numpy(), windows.time.numpy()
