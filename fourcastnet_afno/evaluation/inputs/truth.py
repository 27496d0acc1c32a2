"""Truth: fields of a series by channel and time."""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from threading import Event, Lock
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.calendars import calendar_of
from data_pipeline.channels import Channel
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.precision import at_least_single, computing_dtype
from fourcastnet_afno.evaluation.inputs.mapped import MappedVariable, as_slice, level_index

_READ_BYTES, _ALL_READ_BYTES = 128 * 2**20, 192 * 2**20
_MEAN_BYTES = 64 * 2**20
_NUM_PARTS = 16  # of the times of a variable, which threads read in turn


class TruthFields:
    """Fields of truth by channel and time, in float64.

    All channels of some times are read at once where they fit into memory, because stores hold them
    together, and kept for the next channel. Threads that need the same ones read them together.
    The dataset is canonical; variables that are mapped have all its times and levels.
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        coarsening: Coarsening | None = None,
        mapped: Mapping[str, MappedVariable] | None = None,
    ) -> None:
        self._dataset, self._coarsening, self._mapped = dataset, coarsening, mapped or {}
        self._reads: OrderedDict[bytes, _SharedRead] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes read for themselves."""
        return type(self), (self._dataset, self._coarsening, self._mapped)

    def at(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Fields (time, latitude, longitude) at times that truth has."""
        order = np.searchsorted(self.times, times)
        level = level_index(self._dataset, channel)
        if self._fit_together(times):
            values = self._together(times, order)[channel.name]
            values = values if level is None else values[:, level]
        else:
            picked = self._dataset[channel.name].isel(time=as_slice(order))
            values = computed(picked if level is None else picked.isel(level=level))
        if self._coarsening is not None:
            values = self._coarsening.apply(values)
        return values.astype(np.float64)

    def read_ahead(self, times: np.ndarray) -> None:
        """Read the fields at times that truth has, where ``at`` will read all channels at once."""
        if len(times) and self._fit_together(times):
            self._together(times, np.searchsorted(self.times, times))

    def _fit_together(self, times: np.ndarray) -> bool:
        """Whether all channels at some times are read at once."""
        return self._dataset.nbytes // max(1, len(self.times)) * len(times) <= _READ_BYTES

    def _together(self, times: np.ndarray, order: np.ndarray) -> dict[str, np.ndarray]:
        """All variables with all levels at some times."""
        key = times.tobytes()
        with self._lock:
            if key not in self._reads:
                self._reads[key] = self._shared_read(order)
                nbytes = sum(shared.nbytes for shared in self._reads.values())
                while len(self._reads) > 2 and nbytes > _ALL_READ_BYTES:
                    nbytes -= self._reads.popitem(last=False)[1].nbytes
            self._reads.move_to_end(key)
            shared = self._reads[key]
        return shared.result()

    def _shared_read(self, order: np.ndarray) -> "_SharedRead":
        """Reads of all variables with all levels at some indices of time."""
        values, reads = {}, deque()
        for name in map(str, self._dataset.data_vars):
            variable = self._dataset[name]
            dtype = computing_dtype(variable.dtype)
            values[name] = np.empty((len(order), *variable.shape[1:]), dtype)
            length = int((variable.encoding.get("preferred_chunks") or {}).get("time", 1))
            length *= max(1, len(order) // (_NUM_PARTS * length))
            edges = np.flatnonzero(np.diff(order // length)) + 1  # chunks are read once
            for indices in np.split(np.arange(len(order)), edges):
                chunk = slice(int(indices[0]), int(indices[-1]) + 1)
                reads.append(partial(self._read, name, order[chunk], values[name][chunk]))
        return _SharedRead(values, reads)

    def _read(self, name: str, order: np.ndarray, values: np.ndarray) -> None:
        if name in self._mapped:
            self._mapped[name].states(order, values)
        else:
            values[...] = computed(self._dataset[name].isel(time=as_slice(order)))

    def mean(self, channel: Channel, times: np.ndarray) -> np.ndarray:
        """Mean over times that truth has, (latitude, longitude), block by block."""
        length = max(1, _MEAN_BYTES // self.at(channel, times[:1]).nbytes)
        sums = (
            self.at(channel, times[start : start + length]).sum(axis=0)
            for start in range(0, len(times), length)
        )
        return np.sum(list(sums), axis=0) / len(times)

    @property
    def calendar(self) -> str:
        """The calendar that the times are counted in."""
        return calendar_of(self._dataset)

    @cached_property
    def times(self) -> np.ndarray:
        """Times of truth."""
        return self._dataset["time"].values

    @property
    def dtype(self) -> np.dtype:
        """Precision in which fields as they are stored are computed with."""
        return computing_dtype(next(iter(self._dataset.data_vars.values())).dtype)


class _SharedRead:
    """Arrays that all threads which need them fill together, by reads of some times each."""

    def __init__(self, values: dict[str, np.ndarray], reads: deque[Callable[[], None]]) -> None:
        self._values, self._reads, self._left = values, reads, len(reads)
        self.nbytes = sum(array.nbytes for array in values.values())
        self._lock, self._done = Lock(), Event()
        self._error: BaseException | None = None

    def result(self) -> dict[str, np.ndarray]:
        """The arrays, once they are complete."""
        while not self._done.is_set():
            with self._lock:
                read = self._reads.popleft() if self._reads else None
            if read is None:
                break
            try:
                read()
            except BaseException as error:
                self._error = error
                self._done.set()
                raise
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._done.set()
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._values


def computed(array: xr.DataArray) -> np.ndarray:
    """Values in float32 or float64, without threads of dask: a reader has threads of its own."""
    return at_least_single(array.compute(scheduler="synchronous").values)
