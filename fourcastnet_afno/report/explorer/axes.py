"""The record of axes, from which a page knows what there is to show, and how to draw it."""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np

from data_pipeline.timestep import time_label
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.report.explorer.fields import Explored, Points
from fourcastnet_afno.report.plots import assign_colors

_LIMITS = (0.002, 0.998)  # quantiles of truth between which colors change
_FEW_LEADS = 3
_COLOR_MAPS = {"values": "viridis", "difference": "RdBu_r", "spread": "magma"}
_NUM_COLORS = 256


def axes_record(
    explored: Explored,
    *,
    channels: Sequence[int],
    init_times: Sequence[int],
    lead_times: Sequence[int],
    stride: int = 1,
    with_limits: bool = True,
) -> dict[str, Any]:
    """Axes of chosen positions as values of JSON, see ``assets/data.js``.

    Args:
        explored: Everything that could be shown.
        channels: Positions of channels.
        init_times: Positions of initial times.
        lead_times: Positions of lead times.
        stride: Every so many-th row and column.
        with_limits: Whether fields are read for ``limits``.
    """
    trajectories = explored.lead_times.trajectories
    leads = LeadTimes(explored.lead_times.values[list(lead_times)], trajectories)
    points = points_of(explored, stride)
    colors = assign_colors(list(dict.fromkeys(v.forecast or v.name for v in explored.views)))
    names = [view.name for view in explored.views]
    return {
        "grid": _grid_record(explored, points, stride),
        "channels": [
            {
                "name": explored.channels.channels[index].label,
                "units": explored.channels.channels[index].units,
                "limits": limits(explored, index, init_times[0], points) if with_limits else None,
            }
            for index in channels
        ],
        "initTimes": [time_label(explored.init_times[index], trajectories) for index in init_times],
        **leads_record(leads),
        "views": [
            {
                "name": view.name,
                "kind": view.kind,
                "mean": names.index(view.mean) if view.mean else None,
                "color": colors[view.forecast or view.name],
            }
            for view in explored.views
        ],
        "colorMaps": {kind: _colors(name) for kind, name in _COLOR_MAPS.items()},
        "notes": list(explored.notes),
    }


def leads_record(leads: LeadTimes) -> dict[str, Any]:
    """Labels and numbers of lead times, and the label of their axis."""
    numbers, label = leads.axis
    return {
        "leads": [
            {"label": each, "number": float(f"{number:.10g}")}
            for each, number in zip(leads.labels, numbers, strict=True)
        ],
        "leadAxis": label,
    }


def points_of(explored: Explored, stride: int) -> Points:
    """Positions of every ``stride``-th row and column, in the middle of those they stand for."""
    rows, columns = (
        np.minimum(np.arange(0, count, stride) + stride // 2, count - 1)
        for count in explored.grid.shape
    )
    return rows, columns


def limits(explored: Explored, channel: int, init: int, points: Points) -> dict[str, list[float]]:
    """Ends of the colors of values, differences and spreads, from a few lead times.

    They are those of truth, and of the differences of the first forecast from it.
    """
    leads = np.unique(np.linspace(0, len(explored.lead_times.values) - 1, _FEW_LEADS).astype(int))
    values, spreads = [], [np.zeros(1)]
    for index, view in enumerate(explored.views[:3]):
        fields = explored.fields(channel, init, index, leads, points).astype(np.float64)
        (spreads if view.kind == "spread" else values).append(fields.ravel())
    known = values[0] if np.isfinite(values[0]).any() else np.concatenate(values)
    low, high = _quantile(known, _LIMITS[0]), _quantile(known, _LIMITS[1])
    if low == high:
        low, high = low - 0.5, high + 0.5
    error = _quantile(np.abs(values[min(1, len(values) - 1)] - values[0]), 0.99)
    error = error or (high - low) / 2
    spread = _quantile(np.concatenate(spreads), 0.99) or error
    return {"values": [low, high], "difference": [-error, error], "spread": [0.0, spread]}


def _quantile(values: np.ndarray, level: float) -> float:
    """A quantile of the finite values with six digits; 0 of none."""
    finite = values[np.isfinite(values)]
    return float(f"{np.quantile(finite, level):.6g}") if finite.size else 0.0


def _grid_record(explored: Explored, points: Points, stride: int) -> dict[str, Any]:
    grid, record = explored.grid, {}
    for axis, chosen in zip(grid.dims, points, strict=True):
        edges = grid.bounds(axis)
        record[axis] = [
            np.round(grid.coords[axis][chosen], 6).tolist(),
            np.round(np.append(edges[:-1:stride], edges[-1]), 6).tolist(),
        ]
    land = explored.land
    return {
        "dims": list(grid.dims),
        "onSphere": grid.on_sphere,
        "stride": stride,
        "y": record[grid.dims[0]][0],
        "yEdges": record[grid.dims[0]][1],
        "x": record[grid.dims[1]][0],
        "xEdges": record[grid.dims[1]][1],
        "aspect": _aspect(grid.length(grid.dims[1]) / grid.length(grid.dims[0])),
        "land": None if land is None else _rows(land[points[0][:, None], points[1]] >= 0.5),
    }


def _rows(mask: np.ndarray) -> list[str]:
    """A row of 0 and 1 for each row of a mask."""
    return ["".join("1" if cell else "0" for cell in row) for row in mask]


def _aspect(ratio: float) -> float:
    """Width over height of a map, within what a page can show."""
    return round(min(4.0, max(0.5, ratio)), 3) if math.isfinite(ratio) else 2.0


def _colors(name: str) -> list[str]:
    """Colors of a map from its low end to its high end, as ``rrggbb``."""
    table = matplotlib.colormaps[name](np.linspace(0, 1, _NUM_COLORS))[:, :3]
    return ["".join(f"{round(255 * part):02x}" for part in color) for color in table]
