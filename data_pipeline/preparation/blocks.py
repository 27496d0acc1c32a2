"""Blocks: the path of a span of times from the source to the store, on any machine.

A block is read, filled, checked, coarsened, packed and written by one task, which also takes its
part of the statistics from what was written. Tasks share nothing, so that threads, processes and
machines give the same store.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.atomic import writing_to
from data_pipeline.files.work_folder import disk_full_as_transfer_error
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.preprocessing.climatology import fit_climatology
from data_pipeline.preprocessing.filling import Filling
from data_pipeline.preprocessing.statistics import Moments, Statistics, merge_all
from data_pipeline.store.writer import StoreWriter

BlockRecord = Mapping[str, Any]
SERIES_BYTES = 2 * 2**20  # of states that the climatology is fitted to at a time


@dataclass(frozen=True)
class BlockPipeline:
    """The work on every block of the store ``layout``.

    Args:
        filling: Values in place of missing ones.
        coarsening: To the grid of the store, if it differs from the source's.
        training: Mask (time,) of the times that the statistics see.
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

    def change_moments(self, states: np.ndarray, index: slice) -> Moments:
        """Moments of the changes between training states at some times, a timestep apart."""
        times, training = self.layout.times[index], self.training[index]
        pairs = (np.diff(times) == self.timestep) & training[1:] & training[:-1]
        weights, result = self.layout.grid.area_weights(), Moments.empty(states.shape[1])
        for first in np.flatnonzero(pairs):
            change = states[first + 1].astype(np.float64) - states[first]
            result = result.merge(Moments.from_states(change[None], weights))
        return result


def process_block(pipeline: BlockPipeline, values: np.ndarray, start: int) -> dict[str, Any]:
    """Write source values (time, channel, latitude, longitude) as the block from time ``start`` on.

    Returns:
        The record of the ledger: checksums of the shards, number of values that were missing,
        moments of the training states and their changes, mean squared error of storing.

    Raises:
        TransferError: If the disk is full.
    """
    layout, index = pipeline.layout, slice(start, start + len(values))
    training = pipeline.training[index]
    missing = np.isnan(values[training]).sum(axis=(0, 2, 3))
    exact = pipeline.checked(values, layout.times[index])
    packed = layout.packing.pack(exact, layout.channels.labels)
    with writing_to(layout.path), disk_full_as_transfer_error(layout.path):
        checksums = layout.write(start, packed)
    weights, states = layout.grid.area_weights(), layout.packing.unpack(packed)
    rounding = Moments.from_states(states - exact, weights)
    return {
        "checksums": checksums,
        "missing": missing.tolist(),
        "states": Moments.from_states(states[training], weights).to_json(),
        "changes": pipeline.change_moments(states, index).to_json(),
        "rounding": (rounding.squares + rounding.num_states * rounding.mean**2).tolist(),
    }


def summarize(
    pipeline: BlockPipeline, records: Mapping[int, BlockRecord]
) -> tuple[Statistics, np.ndarray, np.ndarray]:
    """Merge the records of all blocks, which are listed by start.

    Returns:
        Statistics, root mean square error of storing by channel, and the checksums of the shards.
    """
    starts = sorted(records)
    states = merge_all([Moments.from_json(records[s]["states"]) for s in starts])
    changes = [Moments.from_json(records[s]["changes"]) for s in starts]
    written = pipeline.layout.states()
    for start in starts[1:]:  # from the last state of a block to the first of the next
        pair = slice(start - 1, start + 1)
        times, training = pipeline.layout.times[pair], pipeline.training[pair]
        if training.all() and times[1] - times[0] == pipeline.timestep:
            values = written.read(np.arange(start - 1, start + 1))
            changes.append(pipeline.change_moments(values, pair))
    missing = np.sum([records[s]["missing"] for s in starts], axis=0)
    squares = np.sum([records[s]["rounding"] for s in starts], axis=0)
    statistics = Statistics(
        mean=states.mean,
        std=states.std,
        diff_std=merge_all(changes).std,
        minimum=states.minimum,
        maximum=states.maximum,
        num_missing=missing.astype(np.float64),
    )
    checksums = [int(digits, 16) for s in starts for digits in records[s]["checksums"]]
    rounding = np.sqrt(squares / len(pipeline.layout.times))
    return statistics, rounding, np.array(checksums, np.uint64)


def fit_channels(pipeline: BlockPipeline, channels: slice, num_harmonics: int) -> np.ndarray:
    """Fit and write the climatology of some channels from the store.

    Returns:
        The hours of day that occur.
    """
    layout = pipeline.layout
    states = layout.states(channels)
    length = max(1, SERIES_BYTES // (8 * int(np.prod(states.shape[1:]))))

    def training_blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done, times = 0, layout.times[pipeline.training]
        for block in states.blocks(pipeline.training, length):
            yield times[done : done + len(block)], block
            done += len(block)

    hours, coefficients = fit_climatology(training_blocks(), num_harmonics)
    for index, channel in enumerate(range(len(layout.channels))[channels]):
        layout.write_climatology(channel, coefficients[:, :, index])
    return hours


def check_finite(values: np.ndarray, channels: Channels, times: np.ndarray) -> None:
    """Reject NaN and infinity, with their channels and number, the first, and how to fill them."""
    finite = np.isfinite(values)
    if finite.all():
        return
    complete = np.all(finite, axis=(0, 2, 3)).tolist()
    incomplete = [channel for channel, good in zip(channels, complete, strict=True) if not good]
    rules = ", ".join(f"{name}: climatology" for name in dict.fromkeys(c.name for c in incomplete))
    remedy = f"complete the data, set data.fill={{{rules}}} (or a number for each)"
    if np.isinf(values).any():  # which rules do not fill
        remedy = "replace the infinite values in the data"
    labels, wrong = [c.label for c in incomplete], channels.describe_not_finite(values, times)
    message = f"{', '.join(labels)} has {wrong}; {remedy}, or leave them out"
    raise InputError(message, code="not-finite")
