"""Blocks: what is done to a span of times between the source and the store, anywhere.

A block is read, filled, checked, coarsened, packed and written by one task, which also takes its
part of the statistics from what was written. Tasks share nothing, so that threads, processes and
machines give the same store.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.atomic import writing_to
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.preprocessing.climatology import fit_climatology
from data_pipeline.preprocessing.filling import Filling
from data_pipeline.preprocessing.statistics import Moments, Statistics, merged
from data_pipeline.store.states import States
from data_pipeline.store.writer import StoreWriter

BlockRecord = Mapping[str, Any]
SERIES_BYTES = 2 * 2**20  # of states that are fitted at a time


@dataclass(frozen=True)
class BlockPipeline:
    """What all blocks of a store need.

    Args:
        layout: The store.
        filling: What stands for missing values.
        coarsening: To the grid of the store, if it is another than the source's.
        training: Which times (time,) are seen by the statistics.
        timestep: Between the states of a change.
    """

    layout: StoreWriter
    filling: Filling
    coarsening: Coarsening | None
    training: np.ndarray
    timestep: np.timedelta64

    def checked(self, values: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Source values (time, channel, latitude, longitude) filled, checked and coarsened."""
        values = np.array(values, np.float32)
        self.filling.apply(values, times)
        check_finite(values, self.layout.channels, times)
        return self.coarsening.apply(values) if self.coarsening else values


def process_block(recipe: BlockPipeline, values: np.ndarray, start: int) -> dict[str, Any]:
    """Write the block from index ``start``.

    Args:
        recipe: What all blocks need.
        values: Of the source (time, channel, latitude, longitude).
        start: Index of the first time; blocks start at a shard.

    Returns:
        What the ledger keeps: checksums of the shards, number of values that were missing, moments
        of the training states and their changes, mean squared error of storing.
    """
    layout, index = recipe.layout, slice(start, start + len(values))
    times, training = layout.times[index], recipe.training[index]
    missing = np.isnan(values[training]).sum(axis=(0, 2, 3))
    wanted = recipe.checked(values, times)
    stored = layout.packing.pack(wanted, layout.channels.labels)
    checksums = _write(layout, start, stored)
    weights = layout.grid.area_weights()
    kept = layout.packing.unpack(stored)
    error = Moments.of(kept - wanted, weights)
    return {
        "checksums": checksums,
        "missing": missing.tolist(),
        "states": Moments.of(kept[training], weights).to_json(),
        "changes": _changes(kept, times, training, recipe).to_json(),
        "rounding": (error.squares + error.num_states * error.mean**2).tolist(),
    }


def _write(layout: StoreWriter, start: int, stored: np.ndarray) -> list[str]:
    try:
        with writing_to(layout.path):
            return layout.write(start, stored)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise TransferError(
            f"the disk of {layout.path.resolve()} is full; make room and run the same command "
            "again, finished blocks are kept",
            code="disk-full",
        ) from error


def _changes(
    states: np.ndarray, times: np.ndarray, training: np.ndarray, recipe: BlockPipeline
) -> Moments:
    pairs = (np.diff(times) == recipe.timestep) & training[1:] & training[:-1]
    weights, result = recipe.layout.grid.area_weights(), Moments.empty(states.shape[1])
    for index in np.flatnonzero(pairs):
        change = states[index + 1].astype(np.float64) - states[index]
        result = result.merge(Moments.of(change[None], weights))
    return result


def summarize(
    recipe: BlockPipeline, records: Mapping[int, BlockRecord]
) -> tuple[Statistics, np.ndarray, np.ndarray]:
    """Statistics, root mean square error of storing by channel, and the checksums of the shards.

    Args:
        recipe: What all blocks had.
        records: Of every block, by its start.
    """
    starts = sorted(records)
    states = merged([Moments.from_json(records[s]["states"]) for s in starts])
    within = [Moments.from_json(records[s]["changes"]) for s in starts]
    changes = merged([*within, *_between(recipe, starts)])
    missing = np.sum([records[s]["missing"] for s in starts], axis=0)
    squares = np.sum([records[s]["rounding"] for s in starts], axis=0)
    statistics = Statistics(
        mean=states.mean,
        std=states.std,
        diff_std=changes.std,
        minimum=states.minimum,
        maximum=states.maximum,
        num_missing=missing.astype(np.float64),
    )
    checksums = [int(each, 16) for s in starts for each in records[s]["checksums"]]
    rounding = np.sqrt(squares / len(recipe.layout.times))
    return statistics, rounding, np.array(checksums, np.uint64)


def _between(recipe: BlockPipeline, starts: Sequence[int]) -> Iterator[Moments]:
    """Moments of the change from the last state of each block to the first of the next."""
    states = recipe.layout.states()
    for start in starts[1:]:
        pair = slice(start - 1, start + 1)
        times, training = recipe.layout.times[pair], recipe.training[pair]
        if training.all() and times[1] - times[0] == recipe.timestep:
            yield _changes(states.at(np.arange(start - 1, start + 1)), times, training, recipe)


def fit_channels(recipe: BlockPipeline, channels: slice, num_harmonics: int) -> np.ndarray:
    """Fit and write the climatology of some channels from the store.

    Returns:
        The hours of day that occur.
    """
    states = recipe.layout.states(channels)
    hours, coefficients = fit_climatology(_training_blocks(recipe, states), num_harmonics)
    for index, channel in enumerate(range(len(recipe.layout.channels))[channels]):
        recipe.layout.write_climatology(channel, coefficients[:, :, index])
    return hours


def _training_blocks(
    recipe: BlockPipeline, states: States
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    done, times = 0, recipe.layout.times[recipe.training]
    length = max(1, SERIES_BYTES // (8 * int(np.prod(states.shape[1:]))))
    for block in states.blocks(recipe.training, length):
        yield times[done : done + len(block)], block
        done += len(block)


def check_finite(values: np.ndarray, channels: Channels, times: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Raises:
        InputError: With the channels, how many and the first, and how to fill them.
    """
    wrong = channels.describe_not_finite(values, times)
    if not wrong:
        return
    complete = np.all(np.isfinite(values), axis=(0, 2, 3)).tolist()
    bad = [channel for channel, good in zip(channels, complete, strict=True) if not good]
    rules = ", ".join(f"{name}: climatology" for name in dict.fromkeys(c.name for c in bad))
    raise InputError(
        f"{', '.join(c.label for c in bad)} has {wrong}; complete the data if it is still being "
        f"written or lacks chunks, set data.fill={{{rules}}} (or a number for each), or leave them "
        "out",
        code="not-finite",
    )
