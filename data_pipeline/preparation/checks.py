"""Checks of data against its configuration, before anything is written.

Each raises an ``InputError`` with a code; ``prepare`` stops at the first one, the doctor collects
them.
"""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.free_space import require_free_space
from data_pipeline.grids.grid import space_dims
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.accumulation import on_timestep
from data_pipeline.store.reader import PreparedStore

_HOUR = np.timedelta64(1, "h")


def check_same(config: DataConfig, store: PreparedStore) -> PreparedStore:
    """The store, if it was prepared from the same configuration and text of an equation.

    Raises:
        InputError: If it was not ("other-configuration").
    """
    before, now = store.attrs["settings"], config.store_settings()
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
            message += f"{' and '.join(space)} (and level); select one entry, or change its role"
            raise InputError(message, code="wrong-dimensions")


def select_times(times: np.ndarray, config: DataConfig) -> np.ndarray:
    """Indices of the times that a store holds: every timestep within the three periods.

    Raises:
        InputError: If a period holds fewer than two states ("no-times"), all further apart than
            the timestep ("timestep-mismatch"), or gaps that are not allowed, see ``check_gaps``.
    """
    hours = config.timestep_hours
    indices = np.flatnonzero(on_timestep(times, hours) & config.contains(times))
    for name in ("train", "validation", "test"):
        period = getattr(config, name)
        states = times[indices][period.contains(times[indices])]
        if len(states) < 2:
            extent = f"{times[0]} to {times[-1]}" if len(times) else "no time at all"
            message = (
                f"data.{name} ({period}) holds {len(states)} states every {hours} h, expected "
            )
            raise InputError(f"{message}at least 2; the data covers {extent}", code="no-times")
        steps = np.diff(states) / _HOUR
        if (steps > hours).all():
            message = f"data.{name} has no two states {hours} h apart; the smallest step is "
            message += f"{steps.min():g} h; set data.timestep_hours to the data's step"
            raise InputError(message, code="timestep-mismatch")
        if not config.allow_gaps:
            check_gaps(states, hours, name)
    return indices


def find_gaps(times: np.ndarray, timestep_hours: int) -> list[tuple[np.datetime64, np.datetime64]]:
    """Find the gaps between states: the last time before and the first after each."""
    wide = np.flatnonzero(np.diff(times) / _HOUR > timestep_hours)
    return [(times[index], times[index + 1]) for index in wide]


def check_gaps(times: np.ndarray, timestep_hours: int, name: str) -> None:
    """Reject gaps between the states of the period ``name``.

    Raises:
        InputError: With the code "gap-in-time", or "no-leap-day" where nothing else is missing.
    """
    gaps = find_gaps(times, timestep_hours)
    if not gaps:
        return
    step = np.timedelta64(timestep_hours, "h")
    missing = np.concatenate([np.arange(before + step, after, step) for before, after in gaps])
    before, after = (np.datetime_as_string(time, "m") for time in gaps[0])
    first = f"the first between {before} and {after}"
    remedy = "set data.allow_gaps=true to leave out the windows that cross them"
    if all(day.endswith("-02-29") for day in np.datetime_as_string(missing, "D")):
        message = f"data.{name} lacks {len(gaps)} leap days, {first}; fill them in, or {remedy}"
        raise InputError(message, code="no-leap-day")
    message = f"data.{name} lacks {len(missing)} states in {len(gaps)} gaps, {first}, expected a "
    message += f"state every {timestep_hours} h; give complete data, or {remedy}"
    raise InputError(message, code="gap-in-time")
