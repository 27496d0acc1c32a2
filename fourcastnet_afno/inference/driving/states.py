"""Driving states of a limited area, for each step of its forecasts.

They come from analyses, by time, or from forecasts of a larger area, by initial and lead time:
those from the same initial time are taken, and of an ensemble the members in turn. Between the
times of a source they are interpolated linearly. Only the zone near the edges matters, see
``grids.relaxation``: values elsewhere are never looked at.
"""

import math
from typing import NamedTuple, Protocol

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of
from data_pipeline.grids.regions import RegionFields
from data_pipeline.grids.relaxation import zone_mask
from data_pipeline.timestep import Timestep, is_months, lead_label, lead_times_of
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Scales
from fourcastnet_afno.inference.initial_states import InitialStates, check_channels

_BLOCK_BYTES = 64 * 2**20


class DrivingFields(NamedTuple):
    """Fields that drive a limited area.

    Args:
        dataset: Canonical dataset of analyses, or forecasts with the axes of ``open_forecast``.
        interval: Longest time between two states that are interpolated; by default none are.
        given_by: Name of the dataset in messages.
    """

    dataset: xr.Dataset
    interval: Timestep | None = None
    given_by: str = "the data, without --boundary,"


class _Source(Protocol):
    """Fields of a region along an axis of time."""

    @property
    def known(self) -> np.ndarray:
        """Positions on the axis, increasing integers."""
        ...

    def wanted(self, init_times: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Positions (forecast, step) of the states that steps lead to, counted from 1."""
        ...

    def read(self, init_times: np.ndarray, members: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Fields (forecast or 1, index, channel, lat, lon) at some of the known positions."""
        ...

    def describe(self, init_time: str, position: int) -> str:
        """A position, for people."""
        ...


class _Analyses:
    """States by time."""

    def __init__(self, dataset: xr.Dataset, spec: FieldSpec, region: RegionFields) -> None:
        self._dataset, self._spec, self._region = region.select(dataset), spec, region
        self._times = dataset["time"].values
        self.known = self._times.astype("datetime64[ns]").astype(np.int64)

    def wanted(self, init_times: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Valid times."""
        valid = self._spec.step.advance(init_times[:, None], steps, self._times)
        return valid.astype(np.int64)

    def read(self, init_times: np.ndarray, members: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """The same for all forecasts."""
        states = self._spec.channels.stack(self._dataset.isel(time=indices))
        return self._region(states.values)[None]

    def describe(self, init_time: str, position: int) -> str:
        """The valid time."""
        return str(np.datetime64(position, "ns").astype("datetime64[s]"))


class _Forecasts:
    """Forecasts by initial time, [member] and lead time, which start from ``start``."""

    def __init__(
        self, dataset: xr.Dataset, spec: FieldSpec, region: RegionFields, start: InitialStates
    ) -> None:
        self._dataset, self._spec, self._region = region.select(dataset), spec, region
        self._start, self._init_times = start, dataset["init_time"].values
        leads = lead_times_of(dataset["lead_time"])
        if is_months(leads) != is_months(spec.timestep):
            raise InputError(
                f"the driving forecasts have lead times of {lead_label(leads[0])} and on, the "
                f"forecaster steps {spec.step.label}; give forecasts in steps of "
                f"{'months' if spec.step.months else 'hours'}",
                code="timestep-mismatch",
            )
        self.known = np.concatenate([[0], leads.astype(spec.timestep.dtype).astype(np.int64)])

    def wanted(self, init_times: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Lead times."""
        if (absent := ~np.isin(init_times, self._init_times)).any():
            known = self._init_times[[0, -1]].astype("datetime64[s]")
            raise InputError(
                f"the driving forecasts have none from "
                f"{init_times[absent][0].astype('datetime64[s]')}, they have "
                f"{len(self._init_times)} from {known[0]} to {known[1]}; choose among these with "
                "--init-times",
                code="no-times",
            )
        leads = (steps * self._spec.timestep).astype(np.int64)
        return np.broadcast_to(leads, (len(init_times), len(steps)))

    def read(self, init_times: np.ndarray, members: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Fields of the forecasts from the same time, [member in turn]."""
        starts, of_start = np.unique(init_times, return_inverse=True)
        rows = np.searchsorted(self._init_times, starts)
        chosen = self._dataset.isel(init_time=rows, lead_time=indices[indices > 0] - 1)
        has_members = "realization" in chosen.dims
        count = chosen.sizes["realization"] if has_members else 1
        numbers, of_member = np.unique(members % count, return_inverse=True)
        chosen = chosen.isel(realization=numbers) if has_members else chosen
        stacked = self._spec.channels.stack(chosen)
        if not has_members:
            stacked = stacked.expand_dims("realization")
        stacked = stacked.transpose("init_time", "realization", "lead_time", ...)
        fields = self._region(stacked.values[of_start, of_member])
        if not indices[0]:
            newest = self._start.read(init_times)[:, -1:].cpu().numpy()
            fields = np.concatenate([newest, fields], axis=1)
        return fields

    def describe(self, init_time: str, position: int) -> str:
        """The initial and the lead time."""
        unit = np.datetime_data(self._spec.timestep.dtype)[0]
        lead = lead_label(np.timedelta64(position, unit))
        return f"{lead} after {init_time}"


class _Bracket(NamedTuple):
    """Indices of the known positions around each wanted one, and the share of the later one."""

    lower: np.ndarray
    upper: np.ndarray
    share: np.ndarray
    is_known: np.ndarray  # neither outside nor between positions too far apart


class DrivingStates:
    """Driving states out of a dataset, checked before the first step.

    Args:
        boundary: Dataset that they come from.
        spec: Of the limited area.
        scales: Of its forecaster: their device, and the values at points that have none.
        start: The states that its forecasts start from.

    Raises:
        InputError: If the dataset lacks channels, has other units, or does not cover the area.
    """

    def __init__(
        self,
        boundary: DrivingFields,
        spec: FieldSpec,
        scales: Scales,
        start: InitialStates,
    ) -> None:
        dataset, interval, given_by = boundary
        is_forecast = "lead_time" in dataset.dims
        axis = {"lead_time": "time"} if is_forecast else {}
        check_channels(dataset.rename(axis), spec.channels, f"the model that {given_by} drives")
        region = RegionFields(grid_of(dataset), spec.grid, given_by)
        self._source: _Source = (
            _Forecasts(dataset, spec, region, start)
            if is_forecast
            else _Analyses(dataset, spec, region)
        )
        self._spec, self._given_by, self._device = spec, given_by, scales.mean.device
        self._zone = zone_mask(spec.grid, spec.boundary_width, "data.boundary.width")
        self._filled = None if scales.filled is None else scales.filled.cpu().numpy()
        self.values_of_state = len(spec.channels) * math.prod(spec.grid.shape)
        self._longest = 0
        if interval is not None:
            self._longest = interval.months if spec.step.months else interval.nanoseconds

    def check(self, init_times: np.ndarray, num_steps: int) -> None:
        """Check that each step of forecasts has driving states.

        Raises:
            InputError: If one has none; the first is named.
        """
        wanted = self._source.wanted(init_times, np.arange(1, num_steps + 1))
        self._bracket(init_times, wanted)

    def of(
        self, init_times: np.ndarray, members: np.ndarray, num_steps: int
    ) -> "DrivingStatesOfForecasts":
        """Driving states of some forecasts, given the initial time and the member of each."""
        return DrivingStatesOfForecasts(self, init_times, members, num_steps)

    def read(
        self, init_times: np.ndarray, members: np.ndarray, steps: np.ndarray
    ) -> Float[Tensor, "step forecast channel lat lon"]:
        """The driving states at the end of some steps, counted from 1; 0 outside of the zone.

        Raises:
            InputError: If one is missing or has values in the zone that are not finite.
        """
        wanted = self._source.wanted(init_times, steps)
        lower, upper, share, _ = self._bracket(init_times, wanted)
        needed, positions = np.unique(np.stack([lower, upper]), return_inverse=True)
        fields = self._source.read(init_times, members, needed)
        if self._filled is not None:
            fields = np.where(np.isnan(fields), self._filled, fields)
        fields = np.where(self._zone, fields, np.float32(0))
        if not np.isfinite(fields).all():
            forecast, index, channel, *_ = np.argwhere(~np.isfinite(fields))[0].tolist()
            place = self._describe(init_times, forecast, int(self._source.known[needed[index]]))
            raise InputError(
                f"{self._given_by} has values that are not finite near the edges of the area, the "
                f"first in {self._spec.channels.labels[channel]} at {place}; give complete fields",
                code="not-finite",
            )
        before, after = positions.reshape(2, *wanted.shape)
        forecasts = np.arange(len(wanted))[:, None] % len(fields)
        result = torch.from_numpy(fields[forecasts, before])
        if share.any():
            weight = torch.from_numpy(share)[..., None, None, None].float()
            result = torch.lerp(result, torch.from_numpy(fields[forecasts, after]), weight)
        return result.transpose(0, 1).to(self._device)

    def _bracket(self, init_times: np.ndarray, wanted: np.ndarray) -> _Bracket:
        """The known positions around wanted ones.

        Raises:
            InputError: If there are none.
        """
        result = bracket(self._source.known, wanted, self._longest)
        if not result.is_known.all():
            forecast, step = np.argwhere(~result.is_known)[0].tolist()
            missing, first, last = (
                self._describe(init_times, forecast, position)
                for position in (int(wanted[forecast, step]), *self._source.known[[0, -1]].tolist())
            )
            raise InputError(
                f"{self._given_by} has no driving state {missing}, which a step needs; it has "
                f"states from {first} to {last}; give others, fewer steps, or the time between its "
                "states as data.boundary.interval, between which they are interpolated",
                code="no-times",
            )
        return result

    def _describe(self, init_times: np.ndarray, forecast: int, position: int) -> str:
        return self._source.describe(str(init_times[forecast].astype("datetime64[s]")), position)


def bracket(known: np.ndarray, wanted: np.ndarray, longest: int) -> _Bracket:
    """The ``known`` positions, increasing, around each of the ``wanted`` ones.

    Those at most ``longest`` apart can be interpolated.
    """
    upper = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    exact = known[upper] == wanted
    lower = np.where(exact, upper, np.maximum(upper - 1, 0))
    gap = known[upper] - known[lower]
    between = (known[lower] < wanted) & (wanted < known[upper]) & (gap <= longest)
    share = np.where(between, (wanted - known[lower]) / np.maximum(gap, 1), 0.0)
    return _Bracket(lower, upper, share, exact | between)


class DrivingStatesOfForecasts:
    """The driving state that each step of some forecasts leads to, read in blocks of steps.

    Args:
        states: Those of all forecasts.
        init_times: Initial time of each forecast.
        members: Member of each.
        num_steps: Steps of the forecasts.
    """

    def __init__(
        self, states: DrivingStates, init_times: np.ndarray, members: np.ndarray, num_steps: int
    ) -> None:
        self._states, self._forecasts, self._num_steps = states, (init_times, members), num_steps
        self._step_bytes = 4 * len(members) * states.values_of_state
        self._first, self._block = 0, torch.zeros(0)

    def __call__(self, step: int) -> Float[Tensor, "forecast channel lat lon"]:
        """The state that a step leads to, counted from 0; beyond the last, that of the last."""
        step = min(step, self._num_steps - 1)
        if not self._first <= step < self._first + len(self._block):
            length = max(1, _BLOCK_BYTES // self._step_bytes)
            steps = np.arange(step, min(step + length, self._num_steps)) + 1
            self._first, self._block = step, self._states.read(*self._forecasts, steps)
        return self._block[step - self._first]
