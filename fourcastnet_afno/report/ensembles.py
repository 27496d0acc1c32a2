"""One ensemble forecast: a plume at a point, stamps of members, probabilities of exceedance."""

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from fourcastnet_afno.evaluation.metrics.events import exceedance
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.report.lines import is_line, member_lines, share_lines
from fourcastnet_afno.report.maps import draw_field, draw_line, map_axes
from fourcastnet_afno.report.plots import COLORS, as_drawn, unit_label

_MOST_STAMPS = 10
_COLUMNS = 4
_BAND = (0.1, 0.9)  # quantiles of the members that are shaded


def cell_of(grid: Grid, point: Sequence[float]) -> tuple[int, int]:
    """Indices of the cell that a point (latitude and longitude, or y and x) lies in.

    Raises:
        InputError: If it lies outside of the grid.
    """
    cell = []
    for value, axis in zip(point, grid.dims, strict=True):
        values = grid.coords[axis]
        bounds = grid.bounds(axis)
        low, high = min(bounds[0], bounds[-1]), max(bounds[0], bounds[-1])
        if axis in grid.periodic_axes:
            value = low + (value - low) % grid.length(axis)
        if not low <= value <= high:
            raise InputError(
                f"evaluation.point has {axis}={value:g}, the grid reaches from {low:g} to "
                f"{high:g}; name a point inside, as [{', '.join(grid.dims)}]",
                code="bad-setting",
            )
        cell.append(int(np.abs(values - value).argmin()))
    return cell[0], cell[1]


def widest_cell(members: xr.DataArray) -> tuple[int, int]:
    """Indices of the cell where members (realization, lead_time, y, x) end farthest apart."""
    spread = members.isel(lead_time=-1).std("realization").fillna(-1).values
    row, column = np.unravel_index(int(spread.argmax()), spread.shape)
    return int(row), int(column)


def plume(truth: xr.DataArray, members: xr.DataArray) -> Figure:
    """Members, their mean and the range of most of them at one cell by lead time, and truth.

    Args:
        truth: Values (lead_time,), with the attribute ``units``.
        members: Values (realization, lead_time).
    """
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    axis = figure.subplots()
    times, axis_label = LeadTimes.of(truth).axis
    color, values = COLORS["model"], members.transpose("realization", "lead_time").values
    for index, each in enumerate(values):
        label = f"{len(values)} members" if index == 0 else None
        axis.plot(times, each, color=color, lw=0.5, alpha=0.4, label=label)
    low, high = np.quantile(values, _BAND, axis=0)
    band = " to ".join(f"{100 * level:.0f}" for level in _BAND)
    axis.fill_between(times, low, high, color=color, alpha=0.2, lw=0, label=f"{band} % of them")
    axis.plot(times, values.mean(axis=0, dtype=np.float64), color=color, lw=2, label="mean")
    axis.plot(times, truth.values, color=COLORS["truth"], lw=2, label="truth")
    axis.set(xlabel=as_drawn(axis_label), ylabel=unit_label(truth))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8, ncols=4)
    return figure


def stamps(truth: xr.DataArray, members: xr.DataArray, land: xr.DataArray | None = None) -> Figure:
    """Maps of truth, of the mean and of the first members at one lead time, in the same colors.

    In one dimension lines of all members.

    Args:
        truth: Field (latitude, longitude), or y and x, with the attribute ``units``.
        members: Fields (realization, latitude, longitude).
        land: Land fraction, whose coast is drawn.
    """
    if is_line(truth):
        return member_lines(truth, members)
    fields = [("truth", truth), ("mean", members.mean("realization", dtype=np.float64))]
    for number, field in zip(members["realization"].values, members, strict=True):
        fields.append((f"member {number}", field))
    fields = fields[: 2 + _MOST_STAMPS]
    rows = -(-len(fields) // _COLUMNS)
    size = (3.1 * _COLUMNS + 0.8, 1.8 * rows + 0.3)
    figure, axes = map_axes(rows, _COLUMNS, size, truth)
    values = np.stack([field.values for _, field in fields])
    limits = float(np.nanmin(values)), float(np.nanmax(values))
    mesh = None
    for index, axis in enumerate(axes.flat):
        if index >= len(fields):
            axis.set_visible(False)
            continue
        name, field = fields[index]
        mesh = draw_field(axis, field, limits, "viridis", land)
        axis.set_title(name, fontsize=9)
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, label=unit_label(truth))
    return figure


def exceedance_maps(
    truth: xr.DataArray, members: xr.DataArray, threshold: float, land: xr.DataArray | None = None
) -> Figure:
    """Share of the members above a threshold by lead time; lines around truth's cells above it.

    In one dimension those cells are shaded.

    Args:
        truth: Fields (lead_time, latitude, longitude), or y and x.
        members: Fields (realization, lead_time, latitude, longitude).
        threshold: In the units of the fields.
        land: Land fraction, whose coast is drawn.
    """
    shares = truth.copy(data=exceedance_shares(members, threshold))
    if is_line(truth):
        return share_lines(truth, shares, threshold)
    columns, leads = truth.sizes["lead_time"], LeadTimes.of(truth).labels
    figure, axes = map_axes(1, columns, (4.0 * columns + 0.8, 2.6), truth)
    mesh = None
    for axis, share, actual, lead in zip(axes[0], shares, truth, leads, strict=True):
        mesh = draw_field(axis, share, (0.0, 1.0), "Blues", land)
        if float(actual.min()) <= threshold < float(actual.max()):
            draw_line(axis, actual, threshold)
        axis.set_title(lead, fontsize=9)
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, label="share of members")
    return figure


def exceedance_shares(members: xr.DataArray, threshold: float) -> np.ndarray:
    """Share of the members above a threshold (lead_time, y, x); NaN where one has no value."""
    values = members.transpose("realization", "lead_time", ...).values
    shares = exceedance(values.swapaxes(0, 1), np.full((1, 1, 1), threshold))[:, 0]
    return np.where(np.isnan(values).any(axis=0), np.nan, shares)
