"""Checks of data against its configuration, before anything is written.

Each raises an ``InputError`` with a code; ``prepare`` stops at the first one, the doctor collects
them.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.calendars import STANDARD
from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.free_space import require_free_space
from data_pipeline.grids.grid import space_dims
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.redaction import without_secrets
from data_pipeline.store.reader import PreparedStore
from data_pipeline.timestep import Timestep


def check_same(config: DataConfig, store: PreparedStore) -> PreparedStore:
    """The store, if it was prepared from the same configuration and text of an equation.

    Raises:
        InputError: If it was not ("other-configuration").
    """
    before, now = without_secrets(store.attrs["settings"]), config.store_settings()
    keys = sorted(before.keys() | now.keys())
    differing = [f"data.{key}" for key in keys if before.get(key) != now.get(key)]
    if differing:
        message = f"{store.path} was prepared with other values of {', '.join(differing)}; give "
        message += "another --output or data.store, or delete that folder to prepare it again"
        raise InputError(message, code="other-configuration")
    text = config.pde.fingerprint() if config.pde else ""  # empty if the file is gone
    if config.pde and text and text != (store.attrs.get("equation_fingerprint") or text):
        message = f"{store.path} was prepared with another text of {config.pde.files[0]}; give "
        message += "another --output or data.store, or delete the run folder to start over"
        raise InputError(message, code="other-configuration")
    return store


def check_free_space(path: Path, needed: int) -> None:
    """Reject a disk that is too small ("disk-full"), less what an interrupted call has written."""
    written = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    remedy = "give data.store on another disk, or take fewer variables, levels or years"
    require_free_space(path.parent, needed - written, "the store", remedy)


def check_dims(dataset: xr.Dataset, channels: Channels) -> None:
    """Reject predicted variables with other axes than time, level and those of space."""
    space = space_dims(dataset.dims)
    allowed = {"time", "level", *space}
    for name in dict.fromkeys(channel.name for channel in channels):
        dims = set(map(str, dataset[name].dims))
        if dims - allowed or not {"time", *space} <= dims:
            message = (
                f"the predicted variable {name} has dimensions {sorted(dims)}, expected time, "
            )
            message += f"{' and '.join(space)} (and level); "
            for axis in sorted(dims - allowed)[:1]:
                message += f"choose one entry with data.source.select={{{axis}: ...}}, or "
            raise InputError(message + "change its role", code="wrong-dimensions")


def select_times(times: np.ndarray, config: DataConfig, calendar: str = STANDARD) -> np.ndarray:
    """Indices of the times that a store holds: every timestep within the three periods.

    ``times`` are those of the data, counted in the calendar.

    Raises:
        InputError: If a period holds fewer than two states ("no-times"), all further apart than
            the timestep ("timestep-mismatch"), or gaps that are not allowed, see ``check_gaps``.
    """
    step = config.step.in_calendar(calendar)
    on_grid = times[step.on_grid(times)]
    for name in ("train", "validation", "test"):
        period = getattr(config, name)
        within = np.flatnonzero(period.contains(on_grid))
        states = on_grid[within]
        if len(states) < 2:
            extent = f"{times[0]} to {times[-1]}" if len(times) else "no time at all"
            message = f"data.{name} ({period}) holds {len(states)} states every {step.label}, "
            message += f"expected at least 2, and the data covers {extent}"
            remedy = f"; correct data.{name}, or give data that covers it"
            raise InputError(message + (_own_step(times, step) or remedy), code="no-times")
        if not (step.steps_between(states[:-1], states[1:]) == 1).any():
            message = f"data.{name} has no two states {step.label} apart"
            raise InputError(message + _own_step(times, step), code="timestep-mismatch")
        if not config.allow_gaps:
            own = Timestep.of_axis(times, calendar)
            if own is not None and own.months and not step.months:
                message = f"states every {step.label} are not those of calendar months"
                raise InputError(message + _own_step(times, step), code="timestep-mismatch")
            around = on_grid[max(0, within[0] - 1) : within[-1] + 2]
            check_gaps(around, step, name, period)
    return np.flatnonzero(step.on_grid(times) & config.contains(times))


def describe_uncovered(states: np.ndarray, config: DataConfig, step: Timestep) -> list[str]:
    """Remarks about periods that start before the first state, or end after the last one.

    Trajectories take the start of a period alone, which is no remark.
    """
    remarks = list[str]()
    for name in ("train", "validation", "test") if step.trajectories is None else ():
        period = getattr(config, name)
        for end, following, verb in ((states[0], -1, "starts"), (states[-1], 1, "ends")):
            lacking = step.advance(end, following)
            if period.contains(np.array([end, lacking])).all():
                word = "before" if following < 0 else "after"
                text = f"data.{name} ({period}) {verb} {word} the data does, which {verb} at "
                remarks.append(f"{text}{np.datetime_as_string(end, 'm')}")
    return remarks


def _own_step(times: np.ndarray, step: Timestep) -> str:
    """Describe the step of the data, before it is thinned, where it does not suit."""
    own = Timestep.of_axis(times, step.calendar)
    if own is None or step.multiple_of(own) is not None:
        return ""
    return f"; the data has a time every {own.label}: set data.timestep={own} or a multiple of it"


def find_gaps(times: np.ndarray, step: Timestep) -> list[tuple[np.datetime64, np.datetime64]]:
    """Find the gaps between states: the last time before and the first after each."""
    wide = np.flatnonzero(step.steps_between(times[:-1], times[1:]) > 1)
    return [(times[index], times[index + 1]) for index in wide]


def check_gaps(times: np.ndarray, step: Timestep, name: str, period: Period) -> None:
    """Reject gaps between the states of the period ``name``.

    ``times`` may have a state before the period and one after it: where data continues there, what
    lacks at an end of the period is a gap too.

    Raises:
        InputError: With the code "gap-in-time", or "no-leap-day" where nothing else is missing.
    """
    gaps, lacking = [], []
    for gap in find_gaps(times, step):
        count = int(np.ceil(step.steps_between(*gap))) - 1
        between = step.advance(gap[0], 1 + np.arange(count))
        inside = period.contains(np.array(gap)).all() | period.contains(between)
        if inside.any():
            gaps.append(gap)
            lacking.append(between[inside])
    if not gaps:
        return
    missing = np.concatenate(lacking)
    before, after = (np.datetime_as_string(time, "m") for time in gaps[0])
    first = f"the first between {before} and {after}"
    remedy = "set data.allow_gaps=true to leave out the windows that cross them"
    if all(day.endswith("-02-29") for day in np.datetime_as_string(missing, "D")):
        message = f"data.{name} lacks {len(gaps)} leap days, {first}; fill them in, or {remedy}"
        raise InputError(message, code="no-leap-day")
    if nameless := int(np.isnat(missing).sum()):
        message = (
            f"{nameless} dates of data.{name} in the calendar {step.calendar} have no date in "
        )
        message += f"the standard calendar, {first}; take monthly means, or {remedy}"
        raise InputError(message, code="gap-in-time")
    message = f"data.{name} lacks {len(missing)} states in {len(gaps)} gaps, {first}, expected a "
    message += f"state every {step.label}; give complete data, or {remedy}"
    raise InputError(message, code="gap-in-time")
