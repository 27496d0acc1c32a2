"""Initial times and states of forecasts, and checks that the data suits the model."""

import re

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of
from data_pipeline.preprocessing.forcings import check_forcings
from data_pipeline.preprocessing.possible_values import PossibleValues
from data_pipeline.sources.canonical import SET_ASIDE
from data_pipeline.sources.left_out import reasons_left_out
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.forecaster import FieldSpec

DAY = Timestep.parse("1D")
_YEARS = np.datetime64("1678", "s"), np.datetime64("2262", "s")  # that datetime64[ns] has
_MOST_TIMES = 10_000_000
_RANGE = re.compile(r"(?P<first>[^./]+)\.\.(?P<last>[^./]+?)(?:/(?P<interval>.+))?")


def parse_init_times(text: str, interval: Timestep = DAY) -> np.ndarray:
    """Initial times of ``2020-01-01..2020-12-31/12h``, or of several such ranges and times.

    Args:
        text: Times and ranges, separated by commas. Both ends of a range belong to it; a date as
            its end includes that day.
        interval: Interval of ranges without one; others have one such as 30min, 12h or 1MS.

    Returns:
        datetime64[ns], increasing, each once.

    Raises:
        InputError: If an entry is neither a time nor a range.
    """
    times: list[np.ndarray] = []
    for entry in map(str.strip, text.split(",")):
        match = _RANGE.fullmatch(entry)
        ends = (entry, entry) if match is None else match.group("first", "last")
        try:
            first, last = (np.datetime64(end, "s") for end in ends)
            if not (_YEARS[0] <= first < _YEARS[1] and _YEARS[0] <= last < _YEARS[1]):
                raise ValueError("datetime64[ns] lacks these years")
        except ValueError as error:
            raise InputError(
                f"init_times has {entry!r}, expected a time such as 2020-01-01T12 or a range such "
                "as 2020-01-01..2020-12-31/12h, of years in 1678..2261",
                code="bad-setting",
            ) from error
        if match is None:
            times.append(np.array([first]))
            continue
        if "T" not in match["last"]:
            last = last + np.timedelta64(1, "D") - np.timedelta64(1, "s")
        stated = match["interval"]
        step = (
            Timestep.parse(stated, f"the interval of {entry!r} in init_times")
            if stated
            else interval
        )
        if last < first:
            raise InputError(
                f"the range {entry!r} of init_times holds no time; give start, end and an interval",
                code="bad-setting",
            )
        # In seconds, as int64 nanoseconds hold 292 years; months differ by days from their mean.
        count = int((last - first).astype(np.int64) * 1e9 / step.mean_nanoseconds) + 1
        if count + sum(map(len, times)) > _MOST_TIMES:
            raise InputError(
                f"init_times has {count:,} times in {entry!r}, expected at most {_MOST_TIMES:,}; "
                "give a longer interval or a shorter range",
                code="bad-setting",
            )
        steps = step.advance(first, np.arange(count + 1))
        times.append(steps[(first <= steps) & (steps <= last)].astype("datetime64[s]"))
    return np.unique(np.concatenate(times)).astype("datetime64[ns]")


def select_init_times(
    times: np.ndarray,
    spec: FieldSpec,
    num_history: int,
    *,
    interval: Timestep,
    num_following: int = 0,
) -> np.ndarray:
    """Initial times with a complete history and the truth of ``num_following`` lead times.

    Args:
        times: Times of the data (datetime64), increasing.
        spec: Sets the timestep.
        num_history: States that go in.
        interval: Time between initial times, counted from the first of ``times``, or from the first
            that qualifies where none of those does.
        num_following: States that the data must hold after each initial time.

    Raises:
        InputError: If no time qualifies, or the interval does not suit a timestep of months.
    """
    offsets = np.arange(1 - num_history, num_following + 1)
    complete = np.isin(spec.step.advance(times[:, None], offsets, times), times).all(axis=1)
    interval = interval.in_calendar(spec.step.calendar)
    if spec.step.months and not interval.months:
        if interval.mean_nanoseconds > spec.step.mean_nanoseconds:
            raise InputError(
                f"forecast.init_interval={interval} is a duration, the timestep is "
                f"{spec.step.label}; set it to calendar months such as {spec.step}",
                code="bad-setting",
            )
        interval = spec.step
    possible = complete & _are_dates(times, spec.step)
    selected = times[possible & interval.on_grid(times)]
    if not len(selected) and possible.any():  # a file or two of analyses
        selected = times[possible][interval.on_grid(times[possible])]
    if not len(selected):
        raise InputError(
            f"no initial time has {num_history} states of history and {num_following} of truth "
            f"every {spec.step.label}; {_describe(times)}; lower forecast.num_steps",
            code="no-times",
        )
    return selected


def check_init_times(
    init_times: np.ndarray, times: np.ndarray, spec: FieldSpec, num_history: int
) -> None:
    """Raise an ``InputError`` that names the first state of a history that the data lacks."""
    dates = _are_dates(init_times, spec.step)
    if not dates.all():
        raise InputError(
            f"the initial time {init_times[~dates][0].astype('datetime64[s]')} is no date of the "
            f"calendar {spec.step.calendar}, in which the forecaster counts its steps; choose "
            "others with --init-times",
            code="no-times",
        )
    needed = spec.step.advance(init_times[:, None], np.arange(1 - num_history, 1), times)
    present = np.isin(needed, times)
    if present.all():
        return
    init, offset = np.argwhere(~present)[0]
    history = ""
    if num_history > 1:
        history = f" of the {num_history} states every {spec.step.label} that it starts from"
    raise InputError(
        f"the initial time {init_times[init].astype('datetime64[s]')} needs the state at "
        f"{needed[init, offset].astype('datetime64[s]')}{history}, which the data lacks "
        f"({int((~present).any(axis=1).sum())} of {len(init_times)} initial times); "
        f"{_describe(times)}; choose others with --init-times",
        code="no-times",
    )


def _are_dates(times: np.ndarray, step: Timestep) -> np.ndarray:
    """Mask of the times that the calendar of a step has: ``noleap`` has no February 29."""
    return np.ones(len(times), bool) if step.months else step.advance(times, 0) == times


def _describe(times: np.ndarray) -> str:
    if not len(times):
        return "the data has 0 times"
    first, last = times[[0, -1]].astype("datetime64[s]")
    step = Timestep.of_axis(times)
    every = f" every {step.label}" if step is not None and step.on_grid(times).all() else ""
    return f"the data has {len(times)} times{every} from {first} to {last}"


def check_source(dataset: xr.Dataset, spec: FieldSpec, expected_by: str) -> None:
    """Reject data that does not suit a forecaster.

    Args:
        dataset: Canonical dataset.
        spec: Of the forecaster.
        expected_by: Name of the forecaster in messages, such as ``checkpoint best.safetensors``.

    Raises:
        InputError: If a variable, a level, a unit, a forcing or the grid differs; each kind of
            mismatch is named.
    """
    checks = (
        lambda: check_forcings(spec.forcings),
        lambda: check_channels(dataset, spec.channels, expected_by),
        lambda: spec.grid.require_same(grid_of(dataset), expected_by),
    )
    errors = []
    for check in checks:
        try:
            check()
        except InputError as error:
            errors.append(error)
    if errors:
        raise InputError("; also ".join(map(str, errors)), code=errors[0].code)


def check_channels(dataset: xr.Dataset, channels: Channels, expected_by: str) -> None:
    """Reject data that lacks channels with times, or has them in other units.

    Raises:
        InputError: If it does; the message starts with ``expected_by``.
    """
    names = dict.fromkeys(channel.name for channel in channels)
    missing = [name for name in names if name not in dataset]
    if missing:
        reasons = reasons_left_out(dataset)
        known = "; ".join(f"{name}: {reasons[name]}" for name in missing if name in reasons)
        raise InputError(
            f"{expected_by} expects the variables {missing}, the data has only "
            f"{_listed(dataset)}; {known or 'add them, or map names with --source.rename'}",
            code="missing-variable",
        )
    without_time = [name for name in names if "time" not in dataset[name].dims]
    if without_time:
        raise InputError(
            f"{without_time} have no times; give the time coordinate CF units such as "
            "'hours since 1900-01-01'",
            code="no-times",
        )
    units = {c.label: c.units for name in names for c in Channels.from_dataset(dataset, [name])}
    missing = [channel.label for channel in channels if channel.label not in units]
    if missing:
        raise InputError(
            f"{expected_by} expects the levels {missing}, the data has only {sorted(units)}",
            code="missing-level",
        )
    mismatches = [
        f"{channel.label} in {channel.units!r}, found {units[channel.label]!r}"
        for channel in channels
        if units[channel.label] != channel.units
    ]
    if mismatches:
        raise InputError(
            f"{expected_by} expects {'; '.join(mismatches)}; convert the data, or, where only the "
            "label is wrong, set --source.units",
            code="units-mismatch",
        )


def _listed(dataset: xr.Dataset) -> list[str]:
    """Names of the variables, and of those that were not wanted."""
    return sorted({*map(str, dataset.data_vars), *dataset.encoding.get(SET_ASIDE, ())})


class MissingValuesError(InputError):
    """Initial states have values that are not finite, in ``channels``."""

    def __init__(self, message: str, channels: list[Channel]) -> None:
        super().__init__(message, code="not-finite")
        self.channels = channels


class InitialStates:
    """States of a canonical dataset as input of a forecaster, on its device.

    Missing values become those of ``filled``, see ``Scales``.
    """

    def __init__(
        self,
        dataset: xr.Dataset,
        spec: FieldSpec,
        num_history: int,
        device: torch.device,
        filled: Float[Tensor, "channel lat lon"] | None = None,
    ) -> None:
        self._filled = None if filled is None else filled.cpu().numpy()
        self._dataset, self._spec, self._device = dataset, spec, device
        self._num_history, self._times = num_history, dataset["time"].values

    def before(self, times: np.ndarray, num_steps: int) -> np.ndarray:
        """Times (datetime64) some steps earlier, as the data labels them."""
        return self._spec.step.advance(times, -num_steps, self._times)

    def read(self, times: np.ndarray) -> Float[Tensor, "time history channel lat lon"]:
        """The history of each of ``times`` (datetime64), oldest state first.

        Raises:
            InputError: If a state is missing, or holds marks of missing values.
            MissingValuesError: If values are not finite.
        """
        check_init_times(times, self._times, self._spec, self._num_history)
        offsets = np.arange(1 - self._num_history, 1)
        needed = self._spec.step.advance(times[:, None], offsets, self._times)
        unique, inverse = np.unique(needed, return_inverse=True)
        channels = self._spec.channels
        fields = channels.stack(self._dataset.sel(time=unique)).values
        PossibleValues(channels, self._spec.grid, marks_only=True).check(fields, unique)
        if self._filled is not None:
            fields = np.where(np.isnan(fields), self._filled, fields)
        if description := channels.describe_not_finite(fields, unique):
            finite = np.all(np.isfinite(fields), axis=(0, 2, 3)).tolist()
            raise MissingValuesError(
                f"the initial states have {description}; fill them as in training, or start from "
                "the run's prepared data",
                [channel for channel, ok in zip(channels, finite, strict=True) if not ok],
            )
        states = torch.from_numpy(fields.astype(np.float32, copy=False))
        return states[torch.from_numpy(inverse.reshape(needed.shape))].to(self._device)
