"""Accumulation over timesteps: states are instants, accumulations belong to the time before them.

Instants are thinned to every timestep. An accumulation, such as hourly precipitation, is summed (or
averaged) over the timestep that ends at the state: where the data has a value every hour and each
holds the hour that ends at its label, like in ERA5, the sum over 6 hours at t is that of the labels
t-5h, ..., t, and sums of successive states add up to the total.

total_precipitation_6hr is the sum over 6 hours in any case, computed where the data lacks it.

References:
    Hersbach et al., 2020, https://doi.org/10.1002/qj.3803; ERA5 data documentation, "Mean
    rates/fluxes and accumulations", https://confluence.ecmwf.int/display/CKB/ERA5
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.precision import at_least_single
from data_pipeline.preprocessing.config import AccumulateRule
from data_pipeline.preprocessing.derived import with_derived
from data_pipeline.sources.names import ACCUMULATED, parse_label

_HOUR = np.timedelta64(1, "h")
_SUMS = {"total_precipitation_6hr", "log_total_precipitation_6hr"}


class _Window(NamedTuple):
    """An accumulation over the ``length`` values that end at a state."""

    source: str
    length: int
    rule: AccumulateRule


def on_timestep(times: np.ndarray, timestep_hours: int) -> np.ndarray:
    """Mask of the times (datetime64) that are an integer number of timesteps after the first."""
    hours = (times - times[:1]) / _HOUR if len(times) else np.zeros(0)
    return hours % timestep_hours == 0


def usual_step(times: np.ndarray) -> float | None:
    """The most frequent step of times (datetime64) in hours, the smallest of several such."""
    steps, counts = np.unique(np.diff(times) / _HOUR, return_counts=True)
    return float(steps[np.argmax(counts)]) if len(steps) else None


def accumulate(
    dataset: xr.Dataset,
    variables: Sequence[str],
    rules: Mapping[str, AccumulateRule],
    timestep_hours: int,
    contains: Callable[[np.ndarray], np.ndarray],
    allow_gaps: bool,
    *,
    states: Callable[[np.ndarray], np.ndarray] | None = None,
) -> xr.Dataset:
    """The variables, derived ones too, with accumulations over the time before each state.

    Data without accumulations stays on its own times. Otherwise the result has the timesteps; the
    first ones are left out where the data does not reach back over their windows.

    ``rules`` are by variable: ``sum`` or ``mean`` over the timestep, or ``last``, the value as it
    is. ``contains`` masks the times (datetime64) that matter, ``states`` those that are states (if
    there are accumulations), by default every timestep from the first. With ``allow_gaps`` states
    whose window has gaps are left out.

    Raises:
        InputError: If a rule is for another variable or one that has no times to sum, an
            accumulation has no rule and would be thinned, or a window has gaps.
    """
    names = list(dict.fromkeys(parse_label(label)[0] for label in variables))
    dataset = with_derived(dataset, names)
    times = dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")
    step, steps = usual_step(times) or float(timestep_hours), np.diff(times) / _HOUR
    windows = _windows(dataset, step, names, rules, timestep_hours)
    if not windows:
        return dataset
    are_states = on_timestep(times, timestep_hours) if states is None else states(times)
    ends = np.flatnonzero(are_states & contains(times))
    count = max(window.length for window in windows.values())
    ends = ends[ends >= count - 1]
    # Number of steps before each time that are not the usual one.
    unusual = np.concatenate([[0], np.cumsum(steps != step)])
    gaps = unusual[ends] > unusual[ends - (count - 1)]
    if gaps.any() and not allow_gaps:
        end = int(ends[np.argmax(gaps)])
        odd = end - count + 2 + int(np.argmax(steps[end - count + 1 : end] != step))
        raise InputError(
            f"{list(windows)} at {times[end]} needs the last {count} values, every {step:g} h, and "
            f"{times[odd]} comes {steps[odd - 1]:g} h after the time before ({gaps.sum()} states "
            "in all); give complete data, or set data.allow_gaps=true to leave these states out",
            code="gap-in-time",
        )
    ends, accumulated = ends[~gaps], {}
    for name, window in windows.items():
        series = at_least_single(dataset[window.source])
        first, *others = (
            series.isel(time=ends - back).assign_coords(time=times[ends])
            for back in range(window.length)
        )
        total = sum(others, start=first)
        mean = total / window.length if window.rule == "mean" else total
        accumulated[name] = mean.astype(series.dtype).assign_attrs(series.attrs)
    return with_derived(dataset.isel(time=ends).assign(accumulated), names)


def _windows(
    dataset: xr.Dataset,
    step: float,
    names: Sequence[str],
    rules: Mapping[str, AccumulateRule],
    timestep_hours: int,
) -> dict[str, _Window]:
    canonical: dict[str, AccumulateRule] = {parse_label(n)[0]: rules[n] for n in rules}
    timed = {str(name) for name, array in dataset.data_vars.items() if "time" in array.dims}
    unknown = [name for name in canonical if name not in timed & set(names)]
    if unknown:
        raise InputError(
            f"data.accumulate has {unknown}, which data.prognostic and data.diagnostic ({names}) "
            "do not name or the data lacks; correct data.accumulate",
            code="bad-setting",
        )
    lost = [n for n in names if n in ACCUMULATED and n in dataset and n not in canonical]
    if lost and step < timestep_hours:  # thinning would lose the values between
        remedy = ", ".join(f"{name}: sum" for name in lost)
        raise InputError(
            f"{lost} are accumulated over {step:g} h each, states every {timestep_hours} h lose "
            f"some; set data.accumulate={{{remedy}}} (or mean, or last for the value alone)",
            code="accumulation-rule",
        )
    windows = {
        name: _Window(name, _count(name, timestep_hours, step), rule)
        for name, rule in canonical.items()
        if rule != "last"
    }
    missing = "total_precipitation_6hr" not in dataset and "total_precipitation" in dataset
    if missing and _SUMS & set(names):
        count = _count("total_precipitation_6hr", 6, step)
        windows["total_precipitation_6hr"] = _Window("total_precipitation", count, "sum")
    return windows


def _count(name: str, hours: int, step: float) -> int:
    count = round(hours / step)
    if count < 2 or not np.isclose(count * step, hours):
        raise InputError(
            f"{name} is a sum over {hours} h, which steps of {step:g} h of the data do not divide; "
            "give such data (hourly), or leave it out of data.accumulate if it is a sum already",
            code="timestep-mismatch",
        )
    return count
