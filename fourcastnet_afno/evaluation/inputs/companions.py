"""Companions of scores: climatology and training years on the grid and in the units of truth.

Scores, baselines and thresholds take them as ``AlignedClimatology`` and ``AlignedYears``, which are
made here alone. What holds for forecasts holds for them: grids are compared by ``Grid.is_same``,
and where they differ the companion is averaged conservatively onto the grid of scores if
``evaluation.regrid`` allows it; units must be those of truth; every channel, level, hour of day and
day of the year that is scored must be there.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NewType

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.names import normalize_units
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.evaluation.inputs.align import Alignment, select_scored
from fourcastnet_afno.evaluation.inputs.climatologies import (
    Climatology,
    FieldsByTime,
    pick,
    training_times,
)
from fourcastnet_afno.evaluation.inputs.climatology_sources import prepared_store
from fourcastnet_afno.evaluation.inputs.truth import TruthFields, computed

_NUM_SEASONS = 12  # of a year, whose values are compared where units are missing
AlignedYears = NewType("AlignedYears", TruthFields)
"""Fields of training years on the grid of scores, from ``align_years``."""


@dataclass(frozen=True, kw_only=True)
class AlignedClimatology:
    """A climatology on the grid of scores and in the units of truth, from ``align_climatology``."""

    at: FieldsByTime
    mean: Callable[[Channel], np.ndarray]  # over the year, (latitude, longitude)
    description: str
    hours: list[int | float]  # of day that it tells apart
    thresholds: xr.Dataset | None  # variables next to the means; None where its grid was another


def align_climatology(
    climatology: Climatology, alignment: Alignment, regrid: str
) -> tuple[AlignedClimatology, list[str]]:
    """A climatology that can be compared with truth, and notes for people.

    Raises:
        InputError: If grid or units differ, or it lacks channels, hours or days that are scored.
    """
    valid = alignment.valid_times.unique
    valid = valid[np.isin(valid, alignment.truth.times)]  # others are not scored
    climatology.require_times(valid)
    coarsening, notes = _compare(climatology.dataset, "the climatology", alignment, regrid)
    at, mean, thresholds = climatology.at, climatology.mean, climatology.dataset
    if coarsening is not None:
        at, mean, thresholds = (*_coarsened(climatology, coarsening), None)
    notes += _missing_cells(at, alignment, valid)
    if climatology.times is not None:
        notes += _overlap("the climatology is", climatology.times, valid, "the climatology")
    aligned = AlignedClimatology(
        at=at,
        mean=mean,
        description=climatology.description,
        hours=climatology.hours,
        thresholds=thresholds,
    )
    return aligned, notes


def align_years(
    years: xr.Dataset, alignment: Alignment, regrid: str
) -> tuple[AlignedYears, list[str]]:
    """Training years that can be compared with truth, and notes for people.

    Raises:
        InputError: If grid or units differ, or they lack channels that are scored.
    """
    if years.sizes.get("time", 0) < 2:
        raise InputError(
            f"the training data have {years.sizes.get('time', 'no axis of')} times; give years of "
            "fields, not a table or a single state",
            code="no-times",
        )
    coarsening, notes = _compare(years, "the training data", alignment, regrid)
    valid = alignment.valid_times.unique
    times = years["time"].values
    notes += _overlap("the training data are", times, valid, "what is fitted to them")
    return AlignedYears(TruthFields(select_scored(years, alignment.channels), coarsening)), notes


def open_training(source: SourceConfig) -> xr.Dataset:
    """Training years: the training period of a prepared store, or all times of another source."""
    store = prepared_store(source)
    return open_source(source) if store is None else training_years(store)


def training_years(store: PreparedStore) -> xr.Dataset:
    """The fields of a prepared store's training period, NaN where the source had no value."""
    return store.observed().sel(time=training_times(store))


def _compare(
    dataset: xr.Dataset, name: str, alignment: Alignment, regrid: str
) -> tuple[Coarsening | None, list[str]]:
    """Means onto the grid of scores, if they are needed, and notes; errors name both sides."""
    notes = _compare_units(dataset, name, alignment)
    grid = grid_of(dataset)
    if alignment.grid.is_same(grid):
        return None, notes
    if regrid == "refuse":
        raise InputError(
            f"the grids differ: scores are on {alignment.grid}, {name} on {grid}; give one on the "
            "grid of scores, or set evaluation.regrid=forecast to average what differs onto it",
            code="grid-mismatch",
        )
    try:
        coarsening = Coarsening(grid, alignment.grid)
    except InputError as error:
        raise InputError(f"{name} cannot be averaged: {error}", code=error.code) from error
    notes.append(f"{name} is averaged from {grid} onto {alignment.grid}")
    return coarsening, notes


def _compare_units(dataset: xr.Dataset, name: str, alignment: Alignment) -> list[str]:
    channels = alignment.channels
    stated = {c.name: str(pick(dataset, c, name).attrs.get("units", "")) for c in channels}
    expected = {channel.name: channel.units for channel in channels}
    wrong = [
        f"{variable} of {name} is in {units!r}, truth in {expected[variable]!r}"
        for variable, units in stated.items()
        if units and expected[variable]
        and normalize_units(units) != normalize_units(expected[variable])
    ]  # fmt: skip
    if wrong:
        raise InputError(
            f"units differ: {'; '.join(wrong)}; convert one of them, or correct a wrong label with "
            "the option's .units",
            code="units-mismatch",
        )
    silent = [variable for variable, units in stated.items() if not units and expected[variable]]
    if not silent:
        return []
    for channel in channels:
        if channel.name in silent:
            _compare_values(pick(dataset, channel, name), name, channel, alignment.truth)
    return [f"{name} states no units of {', '.join(silent)}: they are taken to be truth's"]


def _compare_values(array: xr.DataArray, name: str, channel: Channel, truth: TruthFields) -> None:
    """Reject values without units that cannot be in those of truth."""
    axes = sorted(set(array.dims) - {*space_dims(array.dims)}, key=lambda dim: array.sizes[dim])
    indices: dict[Hashable, Any] = dict.fromkeys(axes, 0)
    if axes:
        last = array.sizes[axes[-1]] - 1
        indices[axes[-1]] = np.unique(np.linspace(0, last, _NUM_SEASONS).astype(int))
    ours, actual = computed(array.isel(indices)), truth.at(channel, truth.times[:1])
    ours, actual = ours[np.isfinite(ours)], actual[np.isfinite(actual)]
    if not ours.size or not actual.size or np.ptp(actual) == 0:
        return
    low, high, width = actual.min(), actual.max(), np.ptp(actual)
    if ours.max() < low - width or ours.min() > high + width:
        raise InputError(
            f"{channel.label} of {name} has values from {ours.min():.6g} to {ours.max():.6g} and "
            f"states no units, truth has values from {low:.6g} to {high:.6g} in {channel.units}; "
            "convert one of them and give it the attribute units",
            code="units-mismatch",
        )


def _coarsened(
    climatology: Climatology, coarsening: Coarsening
) -> tuple[FieldsByTime, Callable[[Channel], np.ndarray]]:
    def at(channel: Channel, times: np.ndarray) -> np.ndarray:
        return coarsening.apply(climatology.at(channel, times)).astype(float)

    def mean(channel: Channel) -> np.ndarray:
        return coarsening.apply(climatology.mean(channel)).astype(float)

    return at, mean


def _missing_cells(at: FieldsByTime, alignment: Alignment, valid: np.ndarray) -> list[str]:
    """A warning where truth has a value and the climatology none, at the first time of truth."""
    truth, channels = alignment.truth, alignment.channels
    first = valid[np.isin(valid, truth.times)][:1]
    missing = {}
    for channel in channels:
        fields = at(channel, first)
        if np.isinf(fields).any():
            raise InputError(
                f"the climatology is infinite in {channel.label}; mark such values as NaN",
                code="not-finite",
            )
        known = np.isfinite(truth.at(channel, first))
        missing[channel.label] = int((known & np.isnan(fields)).sum())
    text = ", ".join(f"{label} in {count} cells" for label, count in missing.items() if count)
    if not text:
        return []
    return [
        f"warning: the climatology lacks {text} that truth has: scores are over the cells that "
        "forecast, truth and climatology have"
    ]


def _overlap(name: str, times: np.ndarray, valid: np.ndarray, flattered: str) -> list[str]:
    """A warning where scored days are among those that a companion was made of."""
    days = np.unique(times.astype("datetime64[D]"))
    num_inside = int(np.isin(valid.astype("datetime64[D]"), days).sum())
    if not num_inside:
        return []
    return [
        f"warning: {name} of {days[0]} to {days[-1]}, which includes {num_inside} of the "
        f"{len(valid)} valid times that are scored: scores flatter {flattered}; give other years"
    ]
