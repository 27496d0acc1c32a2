"""Checks of the times, and of the periods that they are split into."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.doctor.findings import Finding, collect, finding, finding_from_error
from data_pipeline.errors import InputError
from data_pipeline.loading.windows import window_starts
from data_pipeline.preparation.checks import check_gaps, find_gaps, select_times
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.climatology import fit_climatology, hours_of_day
from data_pipeline.timestep import Timestep, lead_label

_HOUR = np.timedelta64(1, "h")
_PERIODS = ("train", "validation", "test")
_GAPS = {"gap-in-time": "time-gap", "no-leap-day": "time-leap-day"}  # by code of the error


def times_of(dataset: xr.Dataset) -> np.ndarray:
    """Times of a canonical dataset, none where it has no time."""
    return dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")


def _text(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]"))


def _split(times: np.ndarray, config: DataConfig, step: Timestep) -> dict[str, np.ndarray]:
    """The states in each period."""
    states = times[step.on_grid(times)]
    return {name: states[getattr(config, name).contains(states)] for name in _PERIODS}


def describe_times(times: np.ndarray, config: DataConfig, step: Timestep) -> dict[str, Any]:
    """Facts about the times of the source, and about those within each period.

    The ``step`` is that of the configuration in the calendar of the source.
    """
    if not len(times):
        return {"num_times": 0}
    periods, own = {}, Timestep.of_axis(times, step.calendar)
    for name, states in _split(times, config, step).items():
        gaps = find_gaps(states, step)
        periods[name] = {
            "num_states": len(states),
            "num_gaps": len(gaps),
            "longest_gap_hours": max((float((b - a) / _HOUR) for a, b in gaps), default=0.0),
        }
    return {
        "first": _text(times[0]),
        "last": _text(times[-1]),
        "num_times": len(times),
        "step": own and own.label,
        "step_hours": own.nanoseconds / 3.6e12 if own and not own.months else None,
        "calendar": step.calendar,
        "trajectories": step.trajectories and step.trajectories.attrs,
        "hours_of_day": sorted(set(hours_of_day(times).tolist())),
        "periods": periods,
    }


def check_times(
    times: np.ndarray, states: np.ndarray, config: DataConfig, step: Timestep
) -> list[Finding]:
    """Check steps, gaps, leap days and hours of day, and collect the errors of ``prepare``.

    ``times`` are those of the source, ``states`` those that ``accumulate`` keeps.
    """
    findings = _check_regular(times, config, step.calendar)
    if not findings:
        for name, inside in _split(times, config, step).items():
            findings += _check_gaps(inside, name, config, step)
    if any(finding.severity == "error" for finding in findings):
        return findings
    with collect(findings, "prepare", "time"):
        states, together = states[select_times(states, config, step.calendar)], step.months > 0
        known = set[float]()
        for name, inside in _split(states, config, step).items():
            hours = set(hours_of_day(inside, together=together).tolist())
            known = known or hours  # those of training, which come first
            if hours - known:
                what = f"it has hours of day {sorted(hours - known)}, training {sorted(known)}"
                remedy = "Choose periods with the same ones, or a larger data.timestep."
                findings.append(finding("time-hours", "error", what, f"data.{name}", remedy))
        training = states[config.train.contains(states)]
        with collect(findings, "climatology", "data.train"):
            zeros = np.zeros((len(training), 1))
            count = config.climatology_harmonics
            fit_climatology([(training, zeros)], count, together=together)
    return findings


def _check_regular(times: np.ndarray, config: DataConfig, calendar: str) -> list[Finding]:
    step = Timestep.of_axis(times, calendar)
    if step is None:
        return []
    phases = step.phase(times)
    values, counts = np.unique(phases, return_counts=True)
    off = times[phases != values[np.argmax(counts)]]
    if not len(off):
        return []
    inside = off[config.contains(off)]
    severity = "error" if len(inside) and not config.allow_gaps else "warning"
    what = f"{len(off)} of {len(times)} times are off the usual steps of {step.label}"
    where = _text((inside if len(inside) else off)[0])
    remedy = "Correct the times, or set data.allow_gaps=true to leave these states out."
    return [finding("time-irregular", severity, what, where, remedy)]


def _check_gaps(states: np.ndarray, name: str, config: DataConfig, step: Timestep) -> list[Finding]:
    """Collect the gaps that ``prepare`` rejects, or leaves out where that is configured."""
    gaps = find_gaps(states, step)
    trajectories = step.trajectories if config.allow_gaps else None
    if trajectories is not None and all(trajectories.separate(*gap) for gap in gaps):
        return []
    if len(gaps) == len(states) - 1:  # the timestep is wrong, which select_times reports
        return []
    try:
        check_gaps(states, step, name, getattr(config, name))
    except InputError as error:
        where = f"data.{name}, {_text(gaps[0][0])}"
        gap = finding_from_error(_GAPS[error.code], error, where)
        remedy = "Nothing, where this is known: data.allow_gaps leaves out windows that cross it."
        return [replace(gap, severity="info", remedy=remedy) if config.allow_gaps else gap]
    return []


@dataclass(frozen=True, kw_only=True)
class PeriodNeeds:
    """Lengths that training and forecasts need of the periods.

    Args:
        history: States that go in.
        training_steps: Steps of the longest rollout that is trained.
        validation_steps: Steps of the rollouts that are scored during training; 0 is none.
        forecast_steps: Steps of a forecast.
        interval_hours: Time between the initial times of forecasts, at least a timestep.
    """

    history: int = 1
    training_steps: int = 1
    validation_steps: int = 0
    forecast_steps: int = 1
    interval_hours: int = 24


def check_periods(
    times: np.ndarray, config: DataConfig, needs: PeriodNeeds, step: Timestep
) -> list[Finding]:
    """Check that periods hold windows and forecasts, and how independent they are."""
    findings = []
    periods = _split(times, config, step)
    windows = [
        ("train", needs.training_steps, "training.stages.num_steps"),
        ("validation", needs.training_steps, "training.stages.num_steps"),
        ("validation", needs.validation_steps, "training.validation.num_steps"),
        ("test", needs.forecast_steps, "forecast.num_steps"),
    ]
    for name, steps, setting in windows:
        if steps == 0:
            continue
        period, subset = getattr(config, name), config.subset if name == "train" else None
        try:
            window_starts(periods[name], step, period, needs.history, steps, subset)
        except InputError as error:
            what, remedy = str(error).rpartition("; ")[0], f"Lengthen it, or lower {setting}."
            findings.append(finding("split-windows", "error", what, f"data.{name}", remedy))
    longest = needs.history + max(needs.training_steps, needs.forecast_steps)
    for before, after in pairwise(_PERIODS):
        first = periods[after][0]
        steps = float(step.steps_between(periods[before][-1], first))
        if steps < longest:
            apart = step.delta * int(steps) if step.months else first - periods[before][-1]
            taken = lead_label(longest * step.delta)
            what = f"it starts {lead_label(apart)} after data.{before}, and a window takes {taken}"
            remedy = f"Leave out {taken} between periods for independent scores."
            where = f"data.{after}, {_text(first)}"
            findings.append(finding("split-adjacent", "info", what, where, remedy))
    mean_hours = step.mean_nanoseconds / 3.6e12
    overlap = needs.forecast_steps * mean_hours / max(needs.interval_hours, mean_hours)
    if overlap > 1:
        what = f"up to {int(np.ceil(overlap))} forecasts verify at the same time"
        remedy = "Where differences are small, raise forecast.init_interval."
        findings.append(finding("forecast-overlap", "info", what, "data.test", remedy))
    return findings
