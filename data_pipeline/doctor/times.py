"""Checks of the times, and of the periods that they are split into."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.doctor.findings import Finding, collect, finding, finding_from_error
from data_pipeline.errors import InputError
from data_pipeline.periods import SubsetConfig
from data_pipeline.preparation.checks import check_gaps, find_gaps, select_times
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.accumulation import on_timestep, usual_step
from data_pipeline.preprocessing.climatology import fit_climatology, hours_of_day

_HOUR = np.timedelta64(1, "h")
_PERIODS = ("train", "validation", "test")
_GAPS = {"gap-in-time": "time-gap", "no-leap-day": "time-leap-day"}  # by code of the error


def times_of(dataset: xr.Dataset) -> np.ndarray:
    """Times of a canonical dataset, none where it has no time."""
    return dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")


def _text(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]"))


def _split(times: np.ndarray, config: DataConfig) -> dict[str, np.ndarray]:
    """The states in each period."""
    states = times[on_timestep(times, config.timestep_hours)]
    return {name: states[getattr(config, name).contains(states)] for name in _PERIODS}


def describe_times(times: np.ndarray, config: DataConfig) -> dict[str, Any]:
    """Facts about the times of the source, and about those within each period."""
    if not len(times):
        return {"num_times": 0}
    periods = {}
    for name, states in _split(times, config).items():
        gaps = find_gaps(states, config.timestep_hours)
        periods[name] = {
            "num_states": len(states),
            "num_gaps": len(gaps),
            "longest_gap_hours": max((float((b - a) / _HOUR) for a, b in gaps), default=0.0),
        }
    return {
        "first": _text(times[0]),
        "last": _text(times[-1]),
        "num_times": len(times),
        "step_hours": usual_step(times),
        "hours_of_day": sorted(set(hours_of_day(times).tolist())),
        "periods": periods,
    }


def check_times(times: np.ndarray, states: np.ndarray, config: DataConfig) -> list[Finding]:
    """Check steps, gaps, leap days and hours of day, and collect the errors of ``prepare``.

    ``times`` are those of the source, ``states`` those that ``accumulate`` keeps.
    """
    findings = _check_regular(times, config)
    if not findings:
        for name, inside in _split(times, config).items():
            findings += _check_gaps(inside, name, config)
    if any(finding.severity == "error" for finding in findings):
        return findings
    with collect(findings, "prepare", "time"):
        states = states[select_times(states, config)]
        known = set[int]()
        for name, inside in _split(states, config).items():
            hours = set(hours_of_day(inside).tolist())
            known = known or hours  # those of training, which come first
            if hours - known:
                what = f"it has hours of day {sorted(hours - known)}, training {sorted(known)}"
                remedy = "Choose periods with the same ones, or a larger data.timestep_hours."
                findings.append(finding("time-hours", "error", what, f"data.{name}", remedy))
        training = states[config.train.contains(states)]
        with collect(findings, "climatology", "data.train"):
            zeros = np.zeros((len(training), 1))
            fit_climatology([(training, zeros)], config.climatology_harmonics)
    return findings


def _check_regular(times: np.ndarray, config: DataConfig) -> list[Finding]:
    step = usual_step(times)
    if step is None or step <= 0:
        return []
    phases = (times - times[0]) / _HOUR % step
    values, counts = np.unique(phases, return_counts=True)
    off = times[phases != values[np.argmax(counts)]]
    if not len(off):
        return []
    inside = off[config.contains(off)]
    severity = "error" if len(inside) and not config.allow_gaps else "warning"
    what = f"{len(off)} of {len(times)} times are off the usual steps of {step:g} h"
    where = _text((inside if len(inside) else off)[0])
    remedy = "Correct the times, or set data.allow_gaps=true to leave these states out."
    return [finding("time-irregular", severity, what, where, remedy)]


def _check_gaps(states: np.ndarray, name: str, config: DataConfig) -> list[Finding]:
    """Collect the gaps that ``prepare`` rejects, or leaves out where that is configured."""
    gaps = find_gaps(states, config.timestep_hours)
    if len(gaps) == len(states) - 1:  # the timestep is wrong, which select_times reports
        return []
    try:
        check_gaps(states, config.timestep_hours, name)
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
        forecast_steps: Steps of a forecast.
        interval_hours: Time between the initial times of forecasts.
    """

    history: int = 1
    training_steps: int = 1
    forecast_steps: int = 1
    interval_hours: int = 24


def check_periods(times: np.ndarray, config: DataConfig, needs: PeriodNeeds) -> list[Finding]:
    """Check that periods hold windows and forecasts, and how independent they are."""
    findings = []
    timestep_hours, periods = config.timestep_hours, _split(times, config)
    for name, inside in periods.items():
        steps, setting = needs.training_steps, "training.stages.num_steps"
        if name == "test":
            steps, setting = needs.forecast_steps, "forecast.num_steps"
        length = needs.history + steps
        subset = config.subset if name == "train" else SubsetConfig()
        starts = inside[: max(0, len(inside) - length + 1)]
        spans = (inside[len(inside) - len(starts) :] - starts) / _HOUR
        newest = inside[needs.history - 1 :][: len(starts)]
        if not ((spans == (length - 1) * timestep_hours) & subset.contains(newest)).any():
            within = "" if subset == SubsetConfig() else " whose newest input is in data.subset"
            what = f"it holds no {length} consecutive states every {timestep_hours} h{within}"
            remedy = f"Lengthen it, or lower {setting}."
            findings.append(finding("split-windows", "error", what, f"data.{name}", remedy))
    longest = needs.history + max(needs.training_steps, needs.forecast_steps)
    longest *= timestep_hours
    for before, after in pairwise(_PERIODS):
        first = periods[after][0]
        hours = (first - periods[before][-1]) / _HOUR
        if hours < longest:
            what = f"it starts {hours:g} h after data.{before}, and a window takes {longest} h"
            remedy = f"Leave out {longest / 24:.0f} days between periods for independent scores."
            where = f"data.{after}, {_text(first)}"
            findings.append(finding("split-adjacent", "info", what, where, remedy))
    overlap = needs.forecast_steps * timestep_hours / needs.interval_hours
    if overlap > 1:
        what = f"up to {int(np.ceil(overlap))} forecasts verify at the same time"
        remedy = "Where differences are small, raise forecast.init_interval_hours."
        findings.append(finding("forecast-overlap", "info", what, "data.test", remedy))
    return findings
