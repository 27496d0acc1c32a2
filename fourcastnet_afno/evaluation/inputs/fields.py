"""Sources of a forecast's fields: stores, functions of the valid time, the initial state."""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid
from data_pipeline.sources.valid_times import STARTS, STEPS
from data_pipeline.timestep import lead_times_of
from fourcastnet_afno.evaluation.inputs.climatologies import FieldsByTime
from fourcastnet_afno.evaluation.inputs.mapped import MappedVariable, as_slice, level_index
from fourcastnet_afno.evaluation.inputs.truth import TruthFields, computed
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes


@runtime_checkable
class FieldSource(Protocol):
    """Fields of one forecast."""

    num_members: int
    at: FieldsByTime | None
    """Fields by valid time, where the forecast depends on it alone."""

    @property
    def lead_times(self) -> np.ndarray:
        """Increasing timedelta64."""
        ...

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """Fields in blocks of one or more successive initial times.

        Blocks have shape (init_time, lead_time, realization, latitude, longitude). One may be
        written over when the next is taken. ``leads`` are indices of ``lead_times``.
        """
        ...


class DatasetFields:
    """Fields of a canonical dataset, see ``open``, some of whose variables may be mapped."""

    at: FieldsByTime | None = None

    def __init__(
        self,
        dataset: xr.Dataset,
        coarsening: Coarsening | None = None,
        mapped: Mapping[str, MappedVariable] | None = None,
    ) -> None:
        self._dataset, self.coarsening, self._mapped = dataset, coarsening, mapped or {}
        self.lead_times = lead_times_of(dataset["lead_time"])
        self.num_members = dataset.sizes.get("realization", 1)

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``."""
        order = np.searchsorted(self._dataset["init_time"].values, inits)
        if channel.name in self._mapped:
            mapped = self._mapped[channel.name]
            blocks = mapped.blocks(order, leads, level_index(self._dataset, channel))
        else:
            fields = self._dataset[channel.name].isel(init_time=as_slice(order), lead_time=leads)
            if channel.level is not None:
                fields = fields.isel(level=level_index(self._dataset, channel))
            values = computed(fields)
            blocks = iter([values if "realization" in fields.dims else values[:, :, None]])
        return _coarsened(blocks, self.coarsening)


class HeldFields:
    """Fields in memory, those of some initial and lead times at a time.

    They have members, lead times and grid of the dataset ``like``, which has no values of its own.
    """

    at: FieldsByTime | None = None

    def __init__(self, like: DatasetFields) -> None:
        self.lead_times, self.num_members = like.lead_times, like.num_members
        self._coarsening = like.coarsening
        self._fields: Mapping[str, np.ndarray] = {}

    def hold(self, fields: Mapping[str, np.ndarray]) -> None:
        """Hold fields (init_time, lead_time, realization, latitude, longitude) by channel's label.

        They are those of the initial and lead times that are read next.
        """
        self._fields = fields

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``."""
        fields = self._fields[channel.label]
        assert fields.shape[:2] == (len(inits), leads.stop - leads.start)
        return _coarsened(iter([fields]), self._coarsening)


class PersistenceFields:
    """The state at the initial time, for every lead time."""

    at: FieldsByTime | None = None
    num_members = 1

    def __init__(self, truth: TruthFields, lead_times: np.ndarray) -> None:
        self._truth, self.lead_times = truth, lead_times

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``; NaN where truth has no state at the initial time."""
        count = leads.stop - leads.start
        known = np.isin(inits, self._truth.times)
        states = self._truth.at(channel, inits[known]) if known.any() else np.zeros((0, 1, 1))
        position = 0
        for is_known in known:
            state = states[position] if is_known else np.full(states.shape[1:], np.nan)
            position += int(is_known)
            yield np.broadcast_to(state, (1, count, 1, *state.shape))


class ValidTimeFields:
    """A function of unique valid times, such as a climatology."""

    num_members = 1

    def __init__(self, function: FieldsByTime, valid_times: ValidTimes) -> None:
        self.at: FieldsByTime | None = function
        self._function, self._valid = function, valid_times
        self.lead_times = valid_times.lead_times

    def read(self, channel: Channel, inits: np.ndarray, leads: slice) -> Iterator[np.ndarray]:
        """See ``FieldSource``."""
        valid = self._valid.at(inits, leads)
        times, positions = np.unique(valid, return_inverse=True)
        fields = self._function(channel, times)
        return (fields[row][None, :, None] for row in positions.reshape(valid.shape))


def _coarsened(blocks: Iterator[np.ndarray], coarsening: Coarsening | None) -> Iterator[np.ndarray]:
    if coarsening is None:
        return blocks
    return (coarsening.apply(fields[None]) for block in blocks for fields in block)


def coarsening_between(source: Grid, target: Grid) -> Coarsening | None:
    """Conservative means from one grid to another; ``None`` where they are the same."""
    return None if source.is_same(target) else Coarsening(source, target)


def chunk_lengths(dataset: xr.Dataset) -> tuple[int, int]:
    """Largest chunks of a store along initial and lead times; 1 where there are none."""
    lengths = [1, 1]
    for variable in dataset.data_vars.values():
        chunks = variable.encoding.get("preferred_chunks") or {}
        for position, names in enumerate(((*STARTS, "time"), STEPS)):
            sizes = [int(chunks[name]) for name in names if name in chunks]
            lengths[position] = max(lengths[position], *sizes, 1)
    return lengths[0], lengths[1]


def holds_levels_together(dataset: xr.Dataset) -> bool:
    """Whether chunks hold several levels, so that reading one decodes others."""
    chunks = (v.encoding.get("preferred_chunks") or {} for v in dataset.data_vars.values())
    return any(int(sizes.get("level", 1)) > 1 for sizes in chunks)
