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

from data_pipeline.calendars import calendar_of
from data_pipeline.errors import InputError
from data_pipeline.precision import at_least_single
from data_pipeline.preprocessing.config import AccumulateRule
from data_pipeline.preprocessing.derived import with_derived
from data_pipeline.sources.names import ACCUMULATED, parse_label
from data_pipeline.timestep import Timestep, lead_label

_SIX_HOURS = Timestep.parse("6h")
_SUMS = {"total_precipitation_6hr", "log_total_precipitation_6hr"}


class _Window(NamedTuple):
    """An accumulation over the ``length`` values that end at a state."""

    source: str
    length: int
    rule: AccumulateRule


def accumulate(
    dataset: xr.Dataset,
    variables: Sequence[str],
    rules: Mapping[str, AccumulateRule],
    timestep: Timestep,
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
    timestep = timestep.in_calendar(calendar_of(dataset))
    step = Timestep.of_axis(times, timestep.calendar) or timestep
    windows = _windows(dataset, step, names, rules, timestep)
    if not windows:
        return dataset
    are_states = timestep.on_grid(times) if states is None else states(times)
    ends = np.flatnonzero(are_states & contains(times))
    count = max(window.length for window in windows.values())
    ends = ends[ends >= count - 1]
    # Number of steps before each time that are not the usual one.
    steps = step.steps_between(times[:-1], times[1:])
    unusual = np.concatenate([[0], np.cumsum(steps != 1)])
    gaps = unusual[ends] > unusual[ends - (count - 1)]
    if gaps.any() and not allow_gaps:
        end = int(ends[np.argmax(gaps)])
        odd = end - count + 2 + int(np.argmax(steps[end - count + 1 : end] != 1))
        raise InputError(
            f"{list(windows)} at {times[end]} needs the last {count} values, every {step.label}, "
            f"and {times[odd]} comes {lead_label(times[odd] - times[odd - 1])} after the time "
            f"before ({gaps.sum()} states "
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
    step: Timestep,
    names: Sequence[str],
    rules: Mapping[str, AccumulateRule],
    timestep: Timestep,
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
    if (
        lost and step.mean_nanoseconds < timestep.mean_nanoseconds
    ):  # thinning would lose the values between
        remedy = ", ".join(f"{name}: sum" for name in lost)
        raise InputError(
            f"{lost} are accumulated over {step.label} each, states every {timestep.label} "
            f"lose some; set data.accumulate={{{remedy}}} (or mean, or last for the value alone)",
            code="accumulation-rule",
        )
    windows = {
        name: _Window(name, _count(name, timestep, step), rule)
        for name, rule in canonical.items()
        if rule != "last"
    }
    missing = "total_precipitation_6hr" not in dataset and "total_precipitation" in dataset
    if missing and _SUMS & set(names):
        count = _count("total_precipitation_6hr", _SIX_HOURS, step)
        windows["total_precipitation_6hr"] = _Window("total_precipitation", count, "sum")
    return windows


def _count(name: str, period: Timestep, step: Timestep) -> int:
    count = period.multiple_of(step)
    if count is None or count < 2:
        finer = "monthly sums" if period.months else "data with a step that does, such as hourly"
        raise InputError(
            f"{name} is a sum over {period.label}, which steps of {step.label} of the data do not "
            f"divide; give {finer}, or leave it out of data.accumulate if it is a sum already",
            code="timestep-mismatch",
        )
    return count
