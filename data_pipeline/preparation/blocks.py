"""Blocks: the path of a span of times from the source to the store, on any machine.

A block is read, checked, filled, coarsened, packed and written by one task, which also takes its
part of the statistics from what was written. Tasks share nothing, so that threads, processes and
machines give the same store. A state in which a channel has no value at all is a gap.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.atomic import writing_to
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.preprocessing.climatology import fit_climatology
from data_pipeline.preprocessing.filling import Filling
from data_pipeline.preprocessing.possible_values import PossibleValues, flat_fields
from data_pipeline.preprocessing.statistics import Moments, Statistics, merge_all
from data_pipeline.sources.join import UNKNOWN_ORIGINS, Origins
from data_pipeline.store.format import FULL
from data_pipeline.store.writer import StoreWriter
from data_pipeline.timestep import Timestep

BlockRecord = Mapping[str, Any]
SERIES_BYTES = 2 * 2**20  # of states that the climatology is fitted to at a time


class CheckedStates(NamedTuple):
    """States of a block on the grid of the store.

    Args:
        values: Float32 (time, channel, latitude, longitude), without missing values; the offset of
            the packing where ``empty``.
        empty: Mask (time,) of the gaps.
        filled: Share of each cell that was filled, of 255, uint8 (time, filled channel, ...).
        missing: Number of missing values (time, channel).
        flat: Mask (time, channel) of the fields of a source with a single value.
    """

    values: np.ndarray
    empty: np.ndarray
    filled: np.ndarray
    missing: np.ndarray
    flat: np.ndarray


@dataclass(frozen=True)
class BlockPipeline:
    """The work on every block of the store ``layout``.

    Args:
        filling: Values in place of missing ones.
        coarsening: To the grid of the store, if it differs from the source's.
        training: Mask (time,) of the times that the statistics see.
        timestep: Between the states of a change.
        possible: Check of the source's values; None for those that are simulated.
        allow_gaps: Whether states without values are left out; otherwise they are an error.
    """

    layout: StoreWriter
    filling: Filling
    coarsening: Coarsening | None
    training: np.ndarray
    timestep: Timestep
    possible: PossibleValues | None = None
    allow_gaps: bool = False

    def checked(self, values: np.ndarray, times: np.ndarray) -> CheckedStates:
        """Check, fill and coarsen source values (time, channel, latitude, longitude)."""
        values, channels = np.array(values, np.float32), self.layout.channels
        flat, origins = np.zeros(values.shape[:2], bool), UNKNOWN_ORIGINS
        if self.possible is not None:
            self.possible.check(values, times)
            origins = self.possible.origins
            if self.possible.grid.on_sphere:
                fields = [flat_fields(values[:, i], c) for i, c in enumerate(channels)]
                flat = np.stack(fields, axis=1)
        missing = np.isnan(values)
        counts = missing.sum(axis=(2, 3))
        empty = (counts == missing[0, 0].size).any(axis=1)
        if not self.allow_gaps:
            none = counts == missing[0, 0].size
            check_states(none, channels, times, self.filling.indices, origins)
        self.filling.apply(values, times)
        usable = values if not empty.any() else values[~empty]
        check_finite(usable, channels, times[~empty], origins)
        shares = missing[:, self.filling.indices].astype(np.float32)
        if self.coarsening:
            values, shares = (self.coarsening.apply(fields) for fields in (values, shares))
        values[empty] = self.layout.packing.offset[:, None, None]
        whole = shares > 1 - 1e-5  # the rounding of a mean over cells
        filled = np.where(whole, FULL, np.minimum(np.rint(FULL * shares), FULL - 1))
        return CheckedStates(values, empty, filled.astype(np.uint8), counts, flat)

    def change_moments(
        self, states: np.ndarray, times: np.ndarray, training: np.ndarray
    ) -> Moments:
        """Moments of the changes between training states (time,), a timestep apart."""
        apart = self.timestep.steps_between(times[:-1], times[1:])
        pairs = (apart == 1) & training[1:] & training[:-1]
        weights, result = self.layout.grid.area_weights(), Moments.empty(states.shape[1])
        for first in np.flatnonzero(pairs):
            change = states[first + 1].astype(np.float64) - states[first]
            result = result.merge(Moments.from_states(change[None], weights))
        return result


def process_block(pipeline: BlockPipeline, values: np.ndarray, start: int) -> dict[str, Any]:
    """Write source values (time, channel, latitude, longitude) as the block from time ``start`` on.

    Returns:
        The record of the ledger: checksums of the shards, indices of the gaps, number of values
        that were missing, indices (time, channel) of fields with a single value, moments of the
        training states and their changes, and of the errors of storing.

    Raises:
        TransferError: If the disk is full.
    """
    layout, index = pipeline.layout, slice(start, start + len(values))
    times = layout.times[index]
    exact = pipeline.checked(values, times)
    training = pipeline.training[index] & ~exact.empty
    packed = layout.packing.pack(exact.values, layout.channels.labels)
    with writing_to(layout.path):
        checksums = layout.write(start, packed)
        layout.write_filled(start, exact.filled)
    weights, states = layout.grid.area_weights(), layout.packing.unpack(packed)
    rounding = Moments.from_states(states - exact.values, weights)
    return {
        "checksums": checksums,
        "empty": np.flatnonzero(exact.empty).tolist(),
        "missing": exact.missing[training].sum(axis=0).tolist(),
        "flat": np.argwhere(exact.flat).tolist(),
        "states": Moments.from_states(states[training], weights).to_json(),
        "changes": pipeline.change_moments(states, times, training).to_json(),
        "rounding": (rounding.squares + rounding.num_states * rounding.mean**2).tolist(),
    }


def without_gaps(
    pipeline: BlockPipeline, records: Mapping[int, BlockRecord]
) -> tuple[BlockPipeline, np.ndarray]:
    """The pipeline whose training leaves out the gaps that blocks have found, and their mask."""
    empty = np.zeros(len(pipeline.layout.times), bool)
    for start, record in records.items():
        empty[start + np.array(record.get("empty", []), int)] = True
    return replace(pipeline, training=pipeline.training & ~empty), empty


def describe_flat(pipeline: BlockPipeline, records: Mapping[int, BlockRecord]) -> list[str]:
    """Remarks about fields with a single value, which chunks that are lacking have, by channel."""
    origins = pipeline.possible.origins if pipeline.possible else UNKNOWN_ORIGINS
    flat: dict[int, list[int]] = {}
    for start in sorted(records):
        for time, channel in records[start].get("flat", []):
            flat.setdefault(channel, []).append(start + time)
    remarks = []
    for index, found in sorted(flat.items()):
        channel, first = pipeline.layout.channels.channels[index], pipeline.layout.times[found[0]]
        remarks.append(
            f"{channel.label}{origins.phrase(channel.name, first)} has a single value everywhere "
            f"in {len(found)} of {len(pipeline.layout.times)} states, the first at "
            f"{np.datetime_as_string(first, 'm')}; parts of the source may be lacking"
        )
    return remarks


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
        if training.all() and pipeline.timestep.steps_between(times[0], times[1]) == 1:
            values = written.read(np.arange(start - 1, start + 1))
            changes.append(pipeline.change_moments(values, times, training))
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

    hours, coefficients = fit_climatology(
        training_blocks(), num_harmonics, together=pipeline.timestep.months > 0
    )
    for index, channel in enumerate(range(len(layout.channels))[channels]):
        layout.write_climatology(channel, coefficients[:, :, index])
    return hours


def check_states(
    empty: np.ndarray,
    channels: Channels,
    times: np.ndarray,
    filled: Sequence[int] = (),
    origins: Origins = UNKNOWN_ORIGINS,
) -> None:
    """Reject states in which a channel has no value (time, channel), with their number and times.

    Raises:
        InputError: With the code "gap-in-time" if one of the channels is ``filled`` (indices),
            otherwise "not-finite".
    """
    states = empty.any(axis=1)
    if not states.any():
        return
    labels = [channels.labels[i] for i in np.flatnonzero(empty.any(axis=0))]
    channel = channels.channels[int(np.argmax(empty[states][0]))]
    origin = origins.phrase(channel.name, times[states][0])
    first, *others = np.datetime_as_string(times[states], "m").tolist()
    until = f" to {others[-1]}" if others else ""
    raise InputError(
        f"{', '.join(labels)}{origin} has no value at all in {len(others) + 1} of the {len(times)} "
        f"states from {times[0].astype('datetime64[m]')} to {times[-1].astype('datetime64[m]')}, "
        f"at {first}{until}, and such states are gaps; give complete data, leave the variable out, "
        "or set data.allow_gaps=true to leave these states out",
        code="gap-in-time" if empty[:, list(filled)].any() else "not-finite",
    )


def check_finite(
    values: np.ndarray,
    channels: Channels,
    times: np.ndarray,
    origins: Origins = UNKNOWN_ORIGINS,
) -> None:
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
    time, index = np.argwhere(~finite)[0][:2]
    origin = origins.phrase(channels.channels[index].name, times[time])
    message = f"{', '.join(labels)} has {wrong}{origin}; {remedy}, or leave them out"
    raise InputError(message, code="not-finite")
