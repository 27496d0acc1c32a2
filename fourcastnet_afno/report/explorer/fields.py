"""Fields that the explorer shows, read from stores one after another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import Grid, space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.timestep import lead_times_of
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes, valid_times_of
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes

_BLOCK_BYTES = 64 * 2**20  # of the members of a few lead times
Points = tuple[np.ndarray, np.ndarray]
"""Positions of rows and of columns of a grid."""
FieldReader = Callable[[Channel, int, np.ndarray, Points], np.ndarray]
"""Fields (lead_time, row, column) of a channel, from the position of an initial time, at positions
of lead times and of points."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Fields of one origin.

    Args:
        name: For people.
        read: Its fields.
        kind: Values of the channel, those of a member of an ensemble, or the spread of the members
            whose mean is the view ``mean``.
        mean: The name of that view.
        forecast: The name of the forecast whose color it has; by default its own.
    """

    name: str
    read: FieldReader
    kind: Literal["values", "member", "spread"] = "values"
    mean: str = ""
    forecast: str = ""


@dataclass(frozen=True, kw_only=True)
class Explored:
    """Fields by channel, initial time, view and lead time.

    Args:
        channels: What is shown.
        init_times: datetime64 (init_time,).
        lead_times: Of all views.
        grid: Of all fields.
        views: With different names; the first ones are truth, if it is known, and a forecast.
        land: Land fraction on the grid, whose coast is drawn.
        notes: Sentences on what is not shown.
    """

    channels: Channels
    init_times: np.ndarray
    lead_times: LeadTimes
    grid: Grid
    views: Sequence[View]
    land: np.ndarray | None = None
    notes: Sequence[str] = field(default=())

    def field(self, channel: int, init: int, view: int, lead: int) -> np.ndarray:
        """One field (row, column), float32, NaN where there is no value."""
        return self.fields(channel, init, view, np.array([lead]))[0]

    def series(self, channel: int, init: int, view: int, row: int, column: int) -> np.ndarray:
        """The values (lead_time,) at one point."""
        leads, point = np.arange(len(self.lead_times.values)), (np.array([row]), np.array([column]))
        return self.fields(channel, init, view, leads, point)[:, 0, 0]

    def fields(
        self, channel: int, init: int, view: int, leads: np.ndarray, points: Points | None = None
    ) -> np.ndarray:
        """Fields (lead_time, row, column) at positions of lead times, of all points or of some."""
        if points is None:
            points = np.arange(self.grid.shape[0]), np.arange(self.grid.shape[1])
        read = self.views[view].read
        return read(self.channels.channels[channel], init, leads, points).astype(np.float32)


def explore_forecasts(
    truth: xr.Dataset | None,
    forecasts: Mapping[str, xr.Dataset],
    baselines: BaselineFields | None = None,
    *,
    max_members: int = 3,
) -> Explored | None:
    """Truth, forecasts on its grid, and baselines, at the initial times of the first forecast.

    Args:
        truth: Canonical dataset; without it forecasts are shown alone.
        forecasts: By name, as opened, see ``evaluation.inputs.open``.
        baselines: In the units of truth; those on another grid are left out. Persistence is shown
            in any case where truth is known.
        max_members: So many members of an ensemble are views of their own, next to their mean and
            spread.

    Returns:
        ``None`` where no forecast is on truth's grid and has its variables.
    """
    like = canonical_forecast(next(iter(forecasts.values()))) if truth is None else truth
    grid, notes, fitting = grid_of(like), [], {}
    for name, opened in forecasts.items():
        forecast = canonical_forecast(opened)
        shared = [str(v) for v in forecast.data_vars if v in like]
        if shared and grid.is_same(grid_of(forecast)):
            fitting[name] = forecast[shared]
        else:
            notes.append(f"{name} is on another grid than truth, or has none of its variables")
    if not fitting:
        return None
    first = next(iter(fitting.values()))
    times = valid_times_of(first, None if truth is None else truth["time"].values)
    views = [] if truth is None else [View(name="truth", read=series_reader(truth, times))]
    for name, forecast in fitting.items():
        views += _forecast_views(name, forecast, times, max_members)
    if truth is not None and "persistence" not in forecasts:
        views.append(View(name="persistence", read=_persistence_reader(truth, times)))
    names = [] if baselines is None else [n for n in baselines.sources if n != "persistence"]
    if baselines is not None and grid.is_same(baselines.grid):
        views += [View(name=n, read=_baseline_reader(baselines, n, times)) for n in names]
    else:
        notes += [f"{name} is on another grid than truth" for name in names]
    trajectories = TrajectoryTimes.of(like.attrs) or TrajectoryTimes.of(first.attrs)
    land = None if truth is None else truth.get("land_sea_mask")
    if land is not None:
        land = land.isel(time=0) if "time" in land.dims else land
        land = land.transpose(*space_dims(land.dims)).values
    return Explored(
        channels=Channels.from_dataset(first, list(map(str, first.data_vars))),
        init_times=times.init_times, lead_times=LeadTimes(times.lead_times, trajectories),
        grid=grid, views=views, land=land, notes=notes,
    )  # fmt: skip


def _picked(dataset: xr.Dataset, channel: Channel, points: Points) -> xr.DataArray | None:
    """A channel at some points, lazily; ``None`` if the dataset lacks it."""
    if channel.name not in dataset:
        return None
    array = dataset[channel.name]
    if channel.level is not None:
        if "level" not in array.dims or channel.level not in array["level"].values:
            return None
        array = array.sel(level=channel.level, drop=True)
    dims = space_dims(array.dims)
    array = array.isel(dict(zip(dims, points, strict=True)))
    return array.transpose(..., *dims)


def _missing(leads: np.ndarray, points: Points) -> np.ndarray:
    return np.full((len(leads), *map(len, points)), np.nan, np.float32)


def _at_times(
    dataset: xr.Dataset, channel: Channel, times: np.ndarray, points: Points
) -> np.ndarray:
    """Fields (time, row, column) of a series at times; NaN where it has none."""
    array, fields = _picked(dataset, channel, points), _missing(times, points)
    known = np.isin(times, dataset["time"].values)
    if array is not None and known.any():
        fields[known] = array.sel(time=times[known]).values
    return fields


def series_reader(truth: xr.Dataset, valid: ValidTimes) -> FieldReader:
    """Fields of a series (time, ...) at valid times, NaN where it has none."""

    def read(channel: Channel, init: int, leads: np.ndarray, points: Points) -> np.ndarray:
        return _at_times(truth, channel, valid.table[init, leads], points)

    return read


def _persistence_reader(truth: xr.Dataset, valid: ValidTimes) -> FieldReader:
    def read(channel: Channel, init: int, leads: np.ndarray, points: Points) -> np.ndarray:
        start = _at_times(truth, channel, valid.init_times[[init]], points)
        return np.repeat(start, len(leads), axis=0)

    return read


def _baseline_reader(baselines: BaselineFields, name: str, valid: ValidTimes) -> FieldReader:
    def read(channel: Channel, init: int, leads: np.ndarray, points: Points) -> np.ndarray:
        fields, shown = _missing(leads, points), (valid.init_times[init], valid.lead_times[leads])
        for positions, block in baselines.blocks(name, channel, *shown):
            fields[positions] = block[:, points[0][:, None], points[1]]
        return fields

    return read


def _forecast_views(
    name: str, forecast: xr.Dataset, times: ValidTimes, max_members: int
) -> list[View]:
    """A forecast; of an ensemble mean, spread and the first members."""
    if "realization" not in forecast.dims:
        return [View(name=name, read=_reader(forecast, times))]
    mean, spread = f"{name}, mean", _reader(forecast, times, "std")
    views = [
        View(name=mean, read=_reader(forecast, times, "mean"), forecast=name),
        View(name=f"{name}, spread", read=spread, kind="spread", mean=mean, forecast=name),
    ]
    for index, number in enumerate(forecast["realization"].values[:max_members]):
        read, title = _reader(forecast.isel(realization=index), times), f"{name}, member {number}"
        views.append(View(name=title, read=read, kind="member", forecast=name))
    return views


def _reader(
    forecast: xr.Dataset, times: ValidTimes, over_members: Literal["mean", "std", ""] = ""
) -> FieldReader:
    """Fields of a forecast, or of the mean or standard deviation of its members.

    Lead times and initial times are those of the first forecast; others may lack some.
    """
    own_inits, own_leads = forecast["init_time"].values, lead_times_of(forecast["lead_time"])

    def read(channel: Channel, init: int, leads: np.ndarray, points: Points) -> np.ndarray:
        array, fields = _picked(forecast, channel, points), _missing(leads, points)
        found = np.flatnonzero(own_inits == times.init_times[init])
        has_lead = np.isin(times.lead_times[leads], own_leads)
        if array is None or not len(found) or not has_lead.any():
            return fields
        array = array.isel(init_time=int(found[0]))
        positions = np.searchsorted(own_leads, times.lead_times[leads[has_lead]])
        if not over_members:
            fields[has_lead] = array.isel(lead_time=positions).transpose("lead_time", ...).values
            return fields
        array = array.transpose("lead_time", "realization", ...)
        row_bytes = 8 * array.sizes["realization"] * fields[0].size
        count = max(1, _BLOCK_BYTES // row_bytes)
        blocks = []
        for start in range(0, len(positions), count):
            members = array.isel(lead_time=positions[start : start + count]).values
            members = members.astype(np.float64)
            blocks.append(members.mean(1) if over_members == "mean" else members.std(1, ddof=1))
        fields[has_lead] = np.concatenate(blocks)
        return fields

    return read
