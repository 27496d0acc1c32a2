"""A plan before a preparation: bytes in, bytes out, time, and chunks that do not suit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.grids.grid import Grid, space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.preparation.config import DataConfig
from data_pipeline.store.packing import StorageConfig

_WASTEFUL = 1.5
_GIB = 2**30


@dataclass(frozen=True)
class Lengths:
    """Time steps in a shard file, and in a block, which is a number of shards."""

    shard: int
    block: int


def choose_lengths(step_bytes: int, shard_bytes: int, source_steps: int, num_times: int) -> Lengths:
    """Shards of about ``shard_bytes``, and blocks that read each chunk of the source once.

    ``step_bytes`` is the size of a state in the store, ``source_steps`` are the states in a chunk.
    """
    fitting = max(1, shard_bytes // step_bytes)
    if source_steps <= fitting:
        shard = min(fitting - fitting % source_steps, num_times)
        return Lengths(shard, shard)
    shard = max(n for n in range(1, fitting + 1) if source_steps % n == 0)
    return Lengths(min(shard, num_times), min(source_steps, -(-num_times // shard) * shard))


@dataclass(frozen=True)
class PreparationPlan:
    """Amounts that a preparation reads and writes.

    Args:
        bytes_needed: Size of the source's values that go into the store.
        bytes_read: Size of the chunks that hold them; a chunk counts as often as it is read.
        bytes_written: Size of the fields in the store, uncompressed.
        block_bytes: Memory that a block takes, about.
        num_times: Number of states, in ``num_blocks`` blocks.
        chunks: Remarks about chunks of the source that do not suit.
        seconds: Estimate of the time of reading, or ``None`` if it was not measured.
        remarks: About units that are converted, and periods that the data does not cover.
    """

    bytes_needed: int
    bytes_read: int
    bytes_written: int
    block_bytes: int
    num_times: int
    num_blocks: int
    chunks: tuple[str, ...]
    seconds: float | None = None
    remarks: tuple[str, ...] = ()

    def describe(self) -> str:
        """A few lines for a person."""
        amounts = (self.bytes_read, self.bytes_written, self.block_bytes)
        read, written, memory = (f"{amount / _GIB:.2f} GiB" for amount in amounts)
        text = f"{self.num_times} states in {self.num_blocks} blocks: reads {read} (uncompressed), "
        lines = [f"{text}writes {written}, {memory} of memory a block"]
        if self.seconds is not None and self.seconds > 60:
            hours, minutes = divmod(round(self.seconds / 60), 60)
            lines.append(f"about {hours} h {minutes} min at the rate of the first state")
        return "\n".join([*lines, *(f"note: {text}" for text in (*self.chunks, *self.remarks))])


def state_bytes(storage: StorageConfig, channels: Channels, grid: Grid) -> int:
    """Size of a state in a store, uncompressed."""
    value = 4 if storage.dtype == "float32" else 2
    return value * len(channels) * grid.shape[0] * grid.shape[1]


def plan_store(
    dataset: xr.Dataset, channels: Channels, indices: np.ndarray, config: DataConfig, grid: Grid
) -> tuple[PreparationPlan, Lengths]:
    """Plan a store of at least two times of a lazy dataset by its chunks, without reading."""
    step_bytes = state_bytes(config.storage, channels, grid)
    source_bytes = state_bytes(StorageConfig(), channels, grid_of(dataset))
    shard_bytes = int(config.storage.shard_mib * 2**20)
    chunk = max(_chunk(dataset[channel.name], "time") for channel in channels)
    chunk = max(1, chunk // int(np.median(np.diff(indices))))
    lengths = choose_lengths(step_bytes, shard_bytes, chunk, len(indices))
    return make_plan(dataset, channels, indices, lengths, (source_bytes, step_bytes)), lengths


def make_plan(
    dataset: xr.Dataset,
    channels: Channels,
    indices: np.ndarray,
    lengths: Lengths,
    step_bytes: tuple[int, int],
) -> PreparationPlan:
    """Plan the reading of some times of a lazy dataset.

    ``step_bytes`` are the sizes of a state as float32 on the source's grid, and in the store.
    """
    levels: dict[str, list[int | None]] = {}
    for channel in channels:
        levels.setdefault(channel.name, []).append(channel.level)
    blocks = [indices[s : s + lengths.block] for s in range(0, len(indices), lengths.block)]
    source_bytes, stored_bytes = step_bytes
    bytes_needed = bytes_read = 0
    block_bytes = lengths.block * (3 * source_bytes + 3 * stored_bytes)
    notes = []
    for name, of_variable in levels.items():
        variable = dataset[name]
        needed = len(indices) * len(of_variable) * _plane_bytes(variable)
        read = _bytes_read(variable, of_variable, blocks)
        bytes_needed, bytes_read = bytes_needed + needed, bytes_read + read
        block_bytes += _bytes_read(variable, of_variable, blocks[:1])
        if read > _WASTEFUL * needed:
            shape = ", ".join(f"{d} {_chunk(variable, str(d))}" for d in variable.dims)
            note = f"{name} is stored in chunks of ({shape}): {read / needed:.1f} times the bytes "
            note += "that are needed are read; a source with a level and a time step a chunk, or a "
            notes.append(note + "larger data.storage.shard_mib, reads less")
    return PreparationPlan(
        bytes_needed=bytes_needed,
        bytes_read=bytes_read,
        bytes_written=len(indices) * stored_bytes,
        block_bytes=block_bytes,
        num_times=len(indices),
        num_blocks=len(blocks),
        chunks=tuple(notes),
    )


def _bytes_read(
    variable: xr.DataArray, levels: Sequence[int | None], blocks: Sequence[np.ndarray]
) -> int:
    """Bytes of the chunks that hold some times and levels, chunk by chunk, block by block."""
    per_chunk = _chunk(variable, "time")
    steps = sum(len(np.unique(block // per_chunk)) for block in blocks) * per_chunk
    if "level" not in variable.dims:
        return steps * _plane_bytes(variable)
    known, size = variable["level"].values.tolist(), _chunk(variable, "level")
    touched = {known.index(level) // size for level in levels}
    return steps * len(touched) * size * _plane_bytes(variable)


def _plane_bytes(variable: xr.DataArray) -> int:
    rows, columns = (variable.sizes[axis] for axis in space_dims(variable.dims))
    return variable.dtype.itemsize * rows * columns


def _chunk(variable: xr.DataArray, dim: str) -> int:
    """Length of the source's chunks; 1 where single values can be read."""
    if variable.encoding.get("contiguous") or not variable.chunksizes:
        return 1
    return max(variable.chunksizes[dim])
