"""What forecasts and truth have in common: times, channels, units and the grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import grid_of
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.inputs.fields import DatasetFields, coarsening_between
from fourcastnet_afno.evaluation.inputs.open import (
    DimensionNames,
    canonical_forecast,
    open_with_layouts,
)
from fourcastnet_afno.evaluation.inputs.truth import TruthFields


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Forecasts and truth, ready to be compared.

    Args:
        channels: In the order of truth's variables.
        grid: The common grid.
        init_times: Of all forecasts.
        lead_times: Of any forecast.
        forecasts: Fields by name.
        datasets: The canonical datasets behind them.
        truth: Fields of truth.
        coarsening: What truth and its climatology go through, if anything.
        notes: What was left out, in sentences for people.
    """

    channels: Channels
    grid: Grid
    init_times: np.ndarray
    lead_times: np.ndarray
    forecasts: Mapping[str, DatasetFields]
    datasets: Mapping[str, xr.Dataset]
    truth: TruthFields
    coarsening: Coarsening | None
    notes: Sequence[str]


def align(
    forecasts: Mapping[str, xr.Dataset | str],
    truth: xr.Dataset,
    config: EvaluationConfig,
    layouts: Mapping[str, DimensionNames] | None = None,
) -> Alignment:
    """Find what can be compared.

    Args:
        forecasts: By name, in any layout that ``forecasts.canonical_forecast`` knows, or where
            it lies.
        truth: Canonical dataset.
        config: Channels to score, and whether to regrid.
        layouts: Of truth's variables, where they lie in a local store.

    Raises:
        InputError: If they have no time, variable or level in common, or units or grids differ.
    """
    if not forecasts:
        raise InputError("there is no forecast to score; give at least one")
    opened = {name: _ready(given, name) for name, given in forecasts.items()}
    ready = {name: dataset for name, (dataset, _) in opened.items()}
    notes: list[str] = []
    channels = _common_channels(ready, truth, config.channels, notes)
    _check_units(ready, truth, channels)
    init_times = _common_init_times(ready, notes)
    lead_times = np.unique(np.concatenate([d["lead_time"].values for d in ready.values()]))
    _note_missing(ready, lead_times, init_times, truth, notes)
    grid, coarsening, by_forecast = _common_grid(ready, truth, config.regrid)
    series = scored(truth, channels)
    if series.sizes.get("level") != truth.sizes.get("level"):
        layouts = {}  # they are of all levels
    return Alignment(
        channels=channels,
        grid=grid,
        init_times=init_times,
        lead_times=lead_times,
        forecasts={
            name: DatasetFields(dataset, by_forecast[name], own)
            for name, (dataset, own) in opened.items()
        },
        datasets=ready,
        truth=TruthFields(series, coarsening, layouts),
        coarsening=coarsening,
        notes=notes,
    )


def _ready(given: xr.Dataset | str, name: str) -> tuple[xr.Dataset, dict[str, DimensionNames]]:
    """Canonical, with increasing times, and where the arrays lie if they may be mapped."""
    if isinstance(given, str):
        dataset, layouts = open_with_layouts(given)
    else:
        source = str(given.encoding.get("source", f"forecast {name}"))
        dataset, layouts = canonical_forecast(given, source), {}
    for axis in ("init_time", "lead_time"):
        values = dataset[axis].values
        if len(np.unique(values)) < len(values):
            raise InputError(
                f"the forecast {name} has {axis} values more than once; remove the repeats with "
                f'.drop_duplicates("{axis}")'
            )
        if (np.diff(values) < np.timedelta64(0)).any():
            dataset, layouts = dataset.sortby(axis), {}
    return dataset, layouts


def _common_channels(
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    wanted: Sequence[str],
    notes: list[str],
) -> Channels:
    # A zarr store lists its variables alphabetically: the order is truth's.
    held = {name: set(map(str, dataset.data_vars)) for name, dataset in forecasts.items()}
    any_of_them = set().union(*held.values())
    common = [str(n) for n in truth.data_vars if all(n in names for names in held.values())]
    if not common:
        raise InputError(
            f"truth and forecasts have no variable in common: truth holds "
            f"{sorted(map(str, truth.data_vars))}, the forecasts {sorted(any_of_them)}"
            "; map names with data.source.rename"
        )
    left_out = sorted(any_of_them - set(common))
    if left_out and not wanted:
        notes.append(f"not scored, as not everywhere: {', '.join(left_out)}")
    first = next(iter(forecasts.values()))
    labels = Channels.from_dataset(first, list(wanted) or common).labels
    for name, dataset in {"truth": truth, **forecasts}.items():
        found = Channels.from_dataset(dataset, [n for n in common if n in dataset]).labels
        missing = [label for label in labels if label not in found]
        if missing:
            raise InputError(
                f"{name} lacks the channels {missing}, it has {found}; choose those that all have "
                "with evaluation.channels"
            )
    every = {channel.label: channel for channel in Channels.from_dataset(truth, common)}
    return Channels(tuple(every[label] for label in labels))


def scored(dataset: xr.Dataset, channels: Channels) -> xr.Dataset:
    """The variables and levels that are scored."""
    picked = dataset[list(dict.fromkeys(channel.name for channel in channels))]
    levels = sorted({channel.level for channel in channels if channel.level is not None})
    if "level" not in picked.dims or picked["level"].values.tolist() == levels:
        return picked
    return picked.sel(level=levels)


def _check_units(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, channels: Channels
) -> None:
    wrong = []
    for name, dataset in forecasts.items():
        for variable in dict.fromkeys(channel.name for channel in channels):
            ours = str(dataset[variable].attrs.get("units", ""))
            theirs = str(truth[variable].attrs.get("units", ""))
            if ours and theirs and ours != theirs:
                wrong.append(f"{variable} of {name} is in {ours!r}, truth in {theirs!r}")
    if wrong:
        raise InputError(f"units differ: {'; '.join(wrong)}; convert one of them")


def _common_init_times(forecasts: Mapping[str, xr.Dataset], notes: list[str]) -> np.ndarray:
    times = {name: dataset["init_time"].values for name, dataset in forecasts.items()}
    common = next(iter(times.values()))
    for other in times.values():
        common = np.intersect1d(common, other)
    if not len(common):
        spans = "; ".join(f"{n}: {t.min()} to {t.max()}" for n, t in times.items() if len(t))
        raise InputError(
            f"the forecasts have no initial time in common ({spans}); give forecasts of the same "
            "period"
        )
    for name, own in times.items():
        if len(own) > len(common):
            notes.append(
                f"{len(own) - len(common)} of {len(own)} initial times of {name} are left out, as "
                "another forecast lacks them"
            )
    return common


def _note_missing(
    forecasts: Mapping[str, xr.Dataset],
    lead_times: np.ndarray,
    init_times: np.ndarray,
    truth: xr.Dataset,
    notes: list[str],
) -> None:
    for name, dataset in forecasts.items():
        lacking = len(lead_times) - dataset.sizes["lead_time"]
        if lacking:
            notes.append(f"{name} lacks {lacking} of {len(lead_times)} lead times")
    valid = init_times[:, None] + lead_times[None, :]
    known = np.isin(valid, truth["time"].values)
    if not known.any():
        times = truth["time"].values
        span = f"{times[0]} to {times[-1]}" if len(times) else "no time at all"
        raise InputError(
            f"truth and forecasts have no time in common: truth has {span}, the forecasts are "
            f"valid from {valid.min()} to {valid.max()}; give truth of the same period"
        )
    if not known.all():
        first = valid[~known].min()
        notes.append(
            f"{int((~known).sum())} of {known.size} pairs of initial and lead time are left out, "
            f"as truth lacks their valid time, the first {first}"
        )


def _common_grid(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, regrid: str
) -> tuple[Grid, Coarsening | None, dict[str, Coarsening | None]]:
    """The grid of scores, what truth goes through, and what each forecast goes through."""
    own = grid_of(truth)
    grids = {name: grid_of(dataset) for name, dataset in forecasts.items()}
    target = next(iter(grids.values())) if regrid == "truth" else own
    differ = {name: grid for name, grid in grids.items() if not target.is_same(grid)}
    if differ and regrid != "forecast":
        described = "; ".join(f"{name}: {grid}" for name, grid in differ.items())
        raise InputError(
            f"the grids differ: scores are on {target}, but {described}; set "
            "evaluation.regrid=forecast to average forecasts onto truth's grid, or "
            "evaluation.regrid=truth to average truth onto the forecasts' common grid"
        )
    by_forecast = {name: coarsening_between(grid, target) for name, grid in grids.items()}
    return target, coarsening_between(own, target), by_forecast
