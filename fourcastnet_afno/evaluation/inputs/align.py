"""Alignment of forecasts and truth: common times, channels, units and the grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import xarray as xr

from data_pipeline.calendars import calendar_of
from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid, space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.grids.regions import cut_out
from data_pipeline.timestep import is_months, lead_label, lead_times_of, valid_times
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.inputs.compared_units import compare_units
from fourcastnet_afno.evaluation.inputs.fields import DatasetFields, coarsening_between
from fourcastnet_afno.evaluation.inputs.mapped import MappedVariable
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast, open_with_layouts
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Forecasts and truth on a common grid, ready to be compared."""

    channels: Channels  # in the order of truth's variables
    grid: Grid
    valid_times: ValidTimes  # NaT where forecasts differ, or have no date
    forecasts: Mapping[str, DatasetFields]
    datasets: Mapping[str, xr.Dataset]  # canonical, behind the forecasts
    truth: TruthFields
    coarsening: Coarsening | None  # means of truth and its climatology onto the common grid
    trajectories: TrajectoryTimes | None  # where times are those of an equation
    notes: Sequence[str]  # sentences on what was left out

    @property
    def init_times(self) -> np.ndarray:
        """Initial times that all forecasts have."""
        return self.valid_times.init_times

    @property
    def lead_times(self) -> np.ndarray:
        """Lead times that any forecast has."""
        return self.valid_times.lead_times


def align(
    forecasts: Mapping[str, xr.Dataset | str],
    truth: xr.Dataset,
    channels: Sequence[str] = (),
    regrid: str = "refuse",
    mapped: Mapping[str, MappedVariable] | None = None,
) -> Alignment:
    """Find what can be compared.

    Forecasts are in any layout that ``open.canonical_forecast`` knows, or paths; truth is
    canonical, and some of its variables may be mapped. For the channels and ``regrid`` see
    ``EvaluationConfig``.

    Raises:
        InputError: If they have no time, variable or level in common, or units or grids differ.
    """
    if not forecasts:
        raise InputError("there is no forecast to score; give at least one", code="no-forecast")
    opened = {name: _open_ordered(forecast, name) for name, forecast in forecasts.items()}
    if regrid != "refuse":
        opened = _cut_to_area(opened, truth, regrid)
    datasets = {name: dataset for name, (dataset, _) in opened.items()}
    notes = [note for dataset in datasets.values() for note in dataset.encoding["notes"]]
    _require_known_axes(truth)
    common = _common_channels(datasets, truth, channels, notes)
    times = _common_times(datasets, truth, notes)
    grid, coarsening, by_forecast = _common_grid(datasets, truth, regrid)
    series = select_scored(truth, common)
    if series.sizes.get("level") != truth.sizes.get("level"):
        mapped = {}  # with all levels
    return Alignment(
        channels=common,
        grid=grid,
        valid_times=times,
        forecasts={
            name: DatasetFields(dataset, by_forecast[name], variables)
            for name, (dataset, variables) in opened.items()
        },
        datasets=datasets,
        truth=TruthFields(series, coarsening, mapped),
        coarsening=coarsening,
        trajectories=next(filter(None, map(_trajectories_of, (truth, *datasets.values()))), None),
        notes=notes,
    )


def _trajectories_of(dataset: xr.Dataset) -> TrajectoryTimes | None:
    return TrajectoryTimes.of(dataset.attrs)


def _open_ordered(
    forecast: xr.Dataset | str, name: str
) -> tuple[xr.Dataset, dict[str, MappedVariable]]:
    """Canonical, with increasing times, and the variables that can be mapped."""
    if isinstance(forecast, str):
        dataset, mapped = open_with_layouts(forecast)
    else:
        source = str(forecast.encoding.get("source", f"forecast {name}"))
        dataset, mapped = canonical_forecast(forecast, source), {}
    for axis in ("init_time", "lead_time"):
        values = dataset[axis].values
        if len(np.unique(values)) < len(values):
            raise InputError(
                f"the forecast {name} has {axis} values more than once; remove the repeats with "
                f'.drop_duplicates("{axis}")',
                code="repeated-times",
            )
        if (np.diff(values) < np.timedelta64(0)).any():
            notes = dataset.encoding["notes"]
            dataset, mapped = dataset.sortby(axis), {}
            dataset.encoding["notes"] = notes
    return dataset, mapped


def _require_known_axes(truth: xr.Dataset) -> None:
    known = {"time", "level", *space_dims(truth.dims)}
    wrong = sorted({str(dim) for dim in truth.dims} - known)
    if wrong:
        sizes = ", ".join(f"{dim} ({truth.sizes[dim]})" for dim in wrong)
        raise InputError(
            f"truth has the axes {sizes} in addition to time, level and space; take one entry with "
            f"--truth.select '{{{wrong[0]}: ...}}', or average over it",
            code="wrong-dimensions",
        )


def _common_channels(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, chosen: Sequence[str], notes: list[str]
) -> Channels:
    # A zarr store lists its variables alphabetically: the order is truth's.
    variables = {name: set(map(str, dataset.data_vars)) for name, dataset in forecasts.items()}
    any_of_them = set().union(*variables.values())
    common = [str(n) for n in truth.data_vars if all(n in names for names in variables.values())]
    if not common:
        raise InputError(
            "truth and forecasts have no variable in common: truth holds "
            f"{sorted(map(str, truth.data_vars))}, the forecasts {sorted(any_of_them)}; map names "
            "of truth with --truth.rename, or correct those of the forecasts in the files",
            code="missing-variable",
        )
    left_out = sorted(any_of_them - set(common))
    if left_out and not chosen:
        notes.append(f"not scored, as not everywhere: {', '.join(left_out)}")
    first = next(iter(forecasts.values()))
    labels = Channels.from_dataset(first, list(chosen) or common).labels
    for name, dataset in {"truth": truth, **forecasts}.items():
        present = Channels.from_dataset(dataset, [n for n in common if n in dataset]).labels
        missing = [label for label in labels if label not in present]
        if missing:
            raise InputError(
                f"{name} lacks the channels {missing}, it has {present}; choose those that all "
                "have with evaluation.channels",
                code="channels-mismatch",
            )
    every = {channel.label: channel for channel in Channels.from_dataset(truth, common)}
    channels = Channels(tuple(every[label] for label in labels))
    notes += compare_units(forecasts, truth, channels)
    return channels


def select_scored(dataset: xr.Dataset, channels: Channels) -> xr.Dataset:
    """The variables and levels that are scored."""
    picked = dataset[list(dict.fromkeys(channel.name for channel in channels))]
    levels = sorted({channel.level for channel in channels if channel.level is not None})
    if "level" not in picked.dims or picked["level"].values.tolist() == levels:
        return picked
    return picked.sel(level=levels)


def _common_times(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, notes: list[str]
) -> ValidTimes:
    """Valid times of the initial times that all forecasts have, and of all lead times."""
    common, lead_times = _common_init_times(forecasts, notes), _all_lead_times(forecasts, notes)
    valid, *others = (
        valid_times(common, lead_times, calendar, truth["time"].values)
        for calendar in dict.fromkeys(map(calendar_of, forecasts.values()))
    )
    undated = np.isnat(valid)
    for other in others:
        undated |= other != valid
    valid = np.where(undated, np.datetime64("NaT"), valid)
    if undated.any():
        notes.append(
            f"{int(undated.sum())} of {undated.size} pairs of initial and lead time are left out, "
            "as their valid time is no date, or another one for another forecast, by their "
            "calendars"
        )
    known = np.isin(valid, truth["time"].values)
    if not known.any():
        times = truth["time"].values
        span = f"{times[0]} to {times[-1]}" if len(times) else "no time at all"
        raise InputError(
            f"truth and forecasts have no time in common: truth has {span}, the forecasts are "
            f"valid from {np.nanmin(valid)} to {np.nanmax(valid)}; give truth of the same period",
            code="no-common-times",
        )
    lacking = ~known & ~undated
    if lacking.any():
        notes.append(
            f"{int(lacking.sum())} of {known.size} pairs of initial and lead time are left out, "
            f"as truth lacks their valid time, the first {valid[lacking].min()}"
        )
    return ValidTimes(common, lead_times, valid)


def _common_init_times(forecasts: Mapping[str, xr.Dataset], notes: list[str]) -> np.ndarray:
    """Initial times (datetime64) that all forecasts have."""
    times = {name: dataset["init_time"].values for name, dataset in forecasts.items()}
    common = reduce(np.intersect1d, times.values())
    if not len(common):
        spans = "; ".join(f"{n}: {t.min()} to {t.max()}" for n, t in times.items() if len(t))
        raise InputError(
            f"the forecasts have no initial time in common ({spans}); give some of one period",
            code="no-common-times",
        )
    for name, inits in times.items():
        if len(inits) > len(common):
            notes.append(
                f"{len(inits) - len(common)} of {len(inits)} initial times of {name} are left out, "
                "as another forecast lacks them"
            )
    return common


def _all_lead_times(forecasts: Mapping[str, xr.Dataset], notes: list[str]) -> np.ndarray:
    """Lead times (timedelta64) that any forecast has."""
    leads = {name: lead_times_of(dataset["lead_time"]) for name, dataset in forecasts.items()}
    if len({is_months(each) for each in leads.values()}) > 1:
        kinds = ", ".join(f"{n}: {lead_label(each[0])}, ..." for n, each in leads.items())
        raise InputError(
            f"some forecasts have lead times in calendar months, others in days or hours ({kinds});"
            " score them one by one, or give both the same",
            code="units-mismatch",
        )
    lead_times = np.unique(np.concatenate(list(leads.values())))
    for name, own in leads.items():
        num_missing = len(lead_times) - len(own)
        if num_missing:
            notes.append(f"{name} lacks {num_missing} of {len(lead_times)} lead times")
    return lead_times


def _cut_to_area(
    opened: Mapping[str, tuple[xr.Dataset, dict[str, MappedVariable]]],
    truth: xr.Dataset,
    regrid: str,
) -> dict[str, tuple[xr.Dataset, dict[str, MappedVariable]]]:
    """Forecasts of a larger area that have the points of the grid of scores, on that grid."""
    first = next(iter(opened.values()))[0]
    target, result = grid_of(first if regrid == "truth" else truth), dict(opened)
    for name, (dataset, _) in opened.items():
        grid = grid_of(dataset)
        if not grid.same_domain(target):
            cut = cut_out(dataset, grid, target)
            if cut is not dataset:
                result[name] = cut, {}  # variables that are mapped are complete
    return result


def _common_grid(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, regrid: str
) -> tuple[Grid, Coarsening | None, dict[str, Coarsening | None]]:
    """The grid of scores, and the means onto it for truth and for each forecast."""
    truth_grid = grid_of(truth)
    grids = {name: grid_of(dataset) for name, dataset in forecasts.items()}
    target = next(iter(grids.values())) if regrid == "truth" else truth_grid
    differ = {name: grid for name, grid in grids.items() if not target.is_same(grid)}
    if differ and regrid != "forecast":
        described = "; ".join(f"{name}: {grid}" for name, grid in differ.items())
        raise InputError(
            f"the grids differ: scores are on {target}, but {described}; set "
            "evaluation.regrid=forecast to average forecasts onto truth's grid, or "
            "evaluation.regrid=truth to average truth onto the forecasts' common grid",
            code="grid-mismatch",
        )
    by_forecast = {name: coarsening_between(grid, target) for name, grid in grids.items()}
    return target, coarsening_between(truth_grid, target), by_forecast
