"""Checks of the times, and of the periods that they are split into."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.doctor.findings import Finding, Severity, finding, finding_from_error
from data_pipeline.errors import InputError
from data_pipeline.periods import SubsetConfig
from data_pipeline.preparation.checks import select_times
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.accumulation import usual_step
from data_pipeline.preprocessing.climatology import fit_climatology, hours_of_day

_HOUR = np.timedelta64(1, "h")
_PERIODS = ("train", "validation", "test")
_LEFT_OUT = "Nothing, where this is known: data.allow_gaps leaves out windows that cross it."


def describe_times(times: np.ndarray, config: DataConfig) -> dict[str, Any]:
    """Facts about the times of the source, and about those within each period."""
    if not len(times):
        return {"num_times": 0}
    facts: dict[str, Any] = {
        "first": _text(times[0]),
        "last": _text(times[-1]),
        "num_times": len(times),
        "step_hours": usual_step(times),
        "hours_of_day": sorted(set(hours_of_day(times).tolist())),
        "periods": {},
    }
    kept = times[(times - times[0]) / _HOUR % config.timestep_hours == 0]
    for name in _PERIODS:
        inside = kept[getattr(config, name).contains(kept)]
        gaps = _gaps(inside, config.timestep_hours)
        facts["periods"][name] = {
            "num_states": len(inside),
            "num_gaps": len(gaps),
            "longest_gap_hours": max((float((b - a) / _HOUR) for a, b in gaps), default=0.0),
        }
    return facts


def times_of(dataset: xr.Dataset) -> np.ndarray:
    """Times of a canonical dataset, none where it has no time."""
    return dataset["time"].values if "time" in dataset.dims else np.zeros(0, "datetime64[ns]")


def _text(time: np.datetime64) -> str:
    return str(time.astype("datetime64[m]"))


def _gaps(times: np.ndarray, timestep_hours: int) -> list[tuple[np.datetime64, np.datetime64]]:
    wide = np.flatnonzero(np.diff(times) / _HOUR > timestep_hours)
    return [(times[index], times[index + 1]) for index in wide]


def check_times(times: np.ndarray, states: np.ndarray, config: DataConfig) -> list[Finding]:
    """Irregular steps, gaps, leap days, hours of day, and what ``prepare`` would refuse.

    Args:
        times: Of the source.
        states: Of these, those of states, see ``resampling.resample``; or all.
        config: Timestep and periods.
    """
    findings = _check_regular(times, config) or _check_gaps(times, config)
    if any(finding.severity == "error" for finding in findings):
        return findings
    try:
        kept = states[select_times(states, config)]
    except InputError as error:
        return [*findings, finding_from_error("prepare", error, "time")]
    return [*findings, *_check_hours(kept, config), *_check_climatology(kept, config)]


def _severity(config: DataConfig) -> Severity:
    return "info" if config.allow_gaps else "error"


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
    first = (inside if len(inside) else off)[0]
    severity = "error" if len(inside) and not config.allow_gaps else "warning"
    return [
        finding(
            "time-irregular",
            severity,
            f"{len(off)} of {len(times)} times are off the usual steps of {step:g} h",
            _text(first),
            "Correct the times, or take the data at regular times; with data.allow_gaps=true these "
            "states are left out.",
        )
    ]


def _check_gaps(times: np.ndarray, config: DataConfig) -> list[Finding]:
    kept = times[(times - times[:1]) / _HOUR % config.timestep_hours == 0]
    findings = []
    for name in _PERIODS:
        inside = kept[getattr(config, name).contains(kept)]
        gaps = _gaps(inside, config.timestep_hours)
        if gaps and len(gaps) < len(inside) - 1:  # otherwise the timestep is wrong
            findings.append(_gap_finding(f"data.{name}", gaps, config))
    return findings


def _gap_finding(
    where: str, gaps: Sequence[tuple[np.datetime64, np.datetime64]], config: DataConfig
) -> Finding:
    step = np.timedelta64(config.timestep_hours, "h")
    missing = [np.arange(first + step, end, step) for first, end in gaps]
    first, end = gaps[0]
    span = f"the first between {_text(first)} and {_text(end)}"
    place = f"{where}, {_text(first)}"
    if all(_is_leap_day(times).all() for times in missing):
        return finding(
            "time-leap-day",
            _severity(config),
            f"{len(gaps)} leap days are missing, {span}",
            place,
            _LEFT_OUT
            if config.allow_gaps
            else "Set data.allow_gaps=true: windows that cross them are left out; or fill them in.",
        )
    return finding(
        "time-gap",
        _severity(config),
        f"{sum(map(len, missing))} states are missing in {len(gaps)} gaps, {span}",
        place,
        _LEFT_OUT
        if config.allow_gaps
        else "Give complete data, or set data.allow_gaps=true: windows across a gap are left out.",
    )


def _is_leap_day(times: np.ndarray) -> np.ndarray:
    months = times.astype("datetime64[M]")
    day = (times.astype("datetime64[D]") - months).astype(int) + 1
    return (months.astype(int) % 12 == 1) & (day == 29)


def _check_hours(times: np.ndarray, config: DataConfig) -> list[Finding]:
    known = set(hours_of_day(times[config.train.contains(times)]).tolist())
    findings = []
    for name in _PERIODS[1:]:
        others = set(hours_of_day(times[getattr(config, name).contains(times)]).tolist())
        if others - known:
            findings.append(
                finding(
                    "time-hours",
                    "error",
                    f"the hours of day {sorted(others - known)} occur here, not in training, which "
                    f"has {sorted(known)}",
                    f"data.{name}",
                    "Choose periods with the same hours of day, or a larger data.timestep_hours.",
                )
            )
    return findings


def _check_climatology(times: np.ndarray, config: DataConfig) -> list[Finding]:
    training = times[config.train.contains(times)]
    try:
        fit_climatology([(training, np.zeros((len(training), 1)))], config.climatology_harmonics)
    except InputError as error:
        return [finding_from_error("climatology", error, "data.train")]
    return []


@dataclass(frozen=True, kw_only=True)
class PeriodNeeds:
    """What training and forecasts ask of the periods.

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


def check_periods(times: np.ndarray, config: DataConfig, asked: PeriodNeeds) -> list[Finding]:
    """Whether periods hold windows and forecasts, and how independent they are.

    Args:
        times: Of the states in the periods, one every timestep but for gaps.
        config: The periods.
        asked: Lengths of windows and forecasts.
    """
    findings = []
    lengths = {
        "train": (asked.training_steps, "training.stages.num_steps"),
        "validation": (asked.training_steps, "training.stages.num_steps"),
        "test": (asked.forecast_steps, "forecast.num_steps"),
    }
    for name, (steps, setting) in lengths.items():
        inside = times[getattr(config, name).contains(times)]
        length = asked.history + steps
        subset = config.subset if name == "train" else SubsetConfig()
        if not _holds_window(inside, length, asked.history, config.timestep_hours, subset):
            some = "" if subset == SubsetConfig() else " whose newest input is in data.subset"
            findings.append(
                finding(
                    "split-windows",
                    "error",
                    f"it holds no {length} consecutive states every {config.timestep_hours} h"
                    f"{some}",
                    f"data.{name}",
                    f"Lengthen it, or lower {setting}.",
                )
            )
    longest = max(asked.training_steps, asked.forecast_steps)
    findings += _check_borders(times, config, (asked.history + longest) * config.timestep_hours)
    overlap = asked.forecast_steps * config.timestep_hours / asked.interval_hours
    if overlap > 1:
        findings.append(
            finding(
                "forecast-overlap",
                "info",
                f"up to {int(np.ceil(overlap))} forecasts verify at the same time",
                "data.test",
                "Take it into account where differences are small, or raise "
                "forecast.init_interval_hours.",
            )
        )
    return findings


def _holds_window(
    times: np.ndarray, length: int, history: int, timestep_hours: int, subset: SubsetConfig
) -> bool:
    if len(times) < length:
        return False
    spans = (times[length - 1 :] - times[: len(times) - length + 1]) / _HOUR
    newest = times[history - 1 : history - 1 + len(spans)]
    return bool(((spans == (length - 1) * timestep_hours) & subset.contains(newest)).any())


def _check_borders(times: np.ndarray, config: DataConfig, needed: int) -> list[Finding]:
    findings = []
    for before, after in pairwise(_PERIODS):
        last, first = (
            times[getattr(config, name).contains(times)][end]
            for name, end in ((before, -1), (after, 0))
        )
        hours = (first - last) / _HOUR
        if hours < needed:
            findings.append(
                finding(
                    "split-adjacent",
                    "info",
                    f"data.{after} starts {hours:g} h after the last state of data.{before}; a "
                    f"forecast or training window takes {needed} h",
                    f"data.{after}, {_text(first)}",
                    f"Leave out {needed / 24:.0f} days between the periods for independent scores.",
                )
            )
    return findings
