"""Figures of fields in one dimension: lines, and space-time diagrams."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fourcastnet_afno.evaluation.metrics import metric_of, with_units
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.report.maps import largest_magnitude, write_animation
from fourcastnet_afno.report.plots import COLORS, as_drawn, unit_label


def is_line(field: xr.DataArray) -> bool:
    """Whether a field is in one dimension: its second last axis has a single point."""
    return field.shape[-2] == 1


def space_time(truth: xr.DataArray, predictions: xr.DataArray) -> Figure:
    """Truth, forecast and forecast minus truth, one above the other, along the lead time.

    Both are (lead_time, y, x) with a single y.
    """
    figure = Figure(figsize=(8.4, 6.0), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, sharey=True)
    difference = predictions - truth
    limits, largest = (float(truth.min()), float(truth.max())), largest_magnitude(difference)
    times, label = LeadTimes.of(truth).axis
    edges = _edges(times), _edges(truth[truth.dims[-1]].values)
    for axis, (name, field, bounds, cmap) in zip(
        axes,
        (
            ("truth", truth, limits, "viridis"),
            ("forecast", predictions, limits, "viridis"),
            ("forecast minus truth", difference, (-largest, largest), "RdBu_r"),
        ),
        strict=True,
    ):
        style = {"vmin": bounds[0], "vmax": bounds[1], "cmap": cmap}
        mesh = axis.pcolormesh(*edges, field.values[:, 0].T, **style)
        axis.set_title(name, fontsize=9)
        axis.set_ylabel(str(truth.dims[-1]), fontsize=8)
        axis.tick_params(labelsize=7)
        figure.colorbar(mesh, ax=axis, label=unit_label(truth))
    axes[-1].set_xlabel(as_drawn(label), fontsize=8)
    return figure


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of cells around increasing points; a single one has a cell of length 1."""
    if len(values) == 1:
        return np.array([values[0] - 0.5, values[0] + 0.5])
    middles = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middles[0]], middles, [2 * values[-1] - middles[-1]]])


def mean_lines(scores: xr.Dataset, channel: str, forecast: str) -> Figure:
    """Bias and RMSE along x over all initial times, a line for each lead time."""
    chosen = scores.sel(forecast=forecast, map_channel=channel)
    units, labels = (
        str(scores["units"].sel(channel=channel).item()),
        LeadTimes.of(scores, "map_lead_time").labels,
    )
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, name in zip(axes, ("bias", "rmse"), strict=True):
        field = chosen[f"{name}_map"]
        for line, label in zip(field, labels, strict=True):
            _draw_line(axis, line, label=label)
        axis.set_ylabel(as_drawn(with_units(metric_of(name).label, units)))
        axis.grid(alpha=0.3)
    axes[0].axhline(0, color="gray", lw=0.8, ls=":")
    axes[1].set_ylim(bottom=0)
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def member_lines(truth: xr.DataArray, members: xr.DataArray) -> Figure:
    """Members, their mean and truth along x, at one lead time.

    Args:
        truth: Field (y, x) with a single y and the attribute ``units``.
        members: Fields (realization, y, x).
    """
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    axis = figure.subplots()
    for index, member in enumerate(members):
        label = f"{len(members)} members" if index == 0 else None
        _draw_line(axis, member, color=COLORS["model"], lw=0.5, alpha=0.4, label=label)
    mean = members.mean("realization", dtype=np.float64)
    _draw_line(axis, mean, color=COLORS["model"], lw=2, label="mean")
    _draw_line(axis, truth, color=COLORS["truth"], lw=2, label="truth")
    axis.set_ylabel(unit_label(truth))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8, ncols=3)
    return figure


def share_lines(truth: xr.DataArray, shares: xr.DataArray, threshold: float) -> Figure:
    """Share of members above a threshold along x, a panel for each lead time; truth's is shaded.

    Args:
        truth: Fields (lead_time, y, x) with a single y.
        shares: Share of the members, of the same shape.
        threshold: In the units of the fields.
    """
    count = truth.sizes["lead_time"]
    figure = Figure(figsize=(3.2 * count + 0.8, 2.6), layout="constrained")
    axes = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for axis, share, actual, lead in zip(
        axes, shares, truth, LeadTimes.of(truth).labels, strict=True
    ):
        x, above = actual[actual.dims[-1]].values, actual.values[0] > threshold
        axis.fill_between(x, 0, 1, where=above, step="mid", color="#d1622b", alpha=0.25, lw=0)
        _draw_line(axis, share, color=COLORS["model"])
        axis.set_title(lead, fontsize=9)
        axis.set_ylim(-0.03, 1.03)
    axes[0].set_ylabel("share of members")
    return figure


def line_animation(truth: xr.DataArray, predictions: xr.DataArray, path: Path) -> None:
    """Write truth and forecast, both (lead_time, y, x) with a single y, as a GIF of lines."""
    figure = Figure(figsize=(7.6, 3.2), layout="constrained", dpi=80)
    axis = figure.subplots()
    labels, fields = LeadTimes.of(truth).labels, {"truth": truth, "forecast": predictions}
    colors = {"truth": COLORS["truth"], "forecast": COLORS["model"]}
    lines = {n: _draw_line(axis, f[0], color=colors[n], label=n) for n, f in fields.items()}
    low, high = float(truth.min()), float(truth.max())
    margin = 0.05 * (high - low) or 1.0
    axis.set(ylim=(low - margin, high + margin), ylabel=unit_label(truth))
    axis.legend(frameon=False, fontsize=8, loc="upper right")

    def draw(index: int) -> None:
        for name, field in fields.items():
            lines[name].set_ydata(field.values[index, 0])
        axis.set_title(labels[index], fontsize=10)

    write_animation(path, figure, draw, len(labels))


def _draw_line(axis: Axes, field: xr.DataArray, **style: Any) -> Line2D:  # noqa: ANN401
    """Draw a field (y, x) with a single y along x."""
    x = str(field.dims[-1])
    axis.set_xlabel(x, fontsize=8)
    (line,) = axis.plot(field[x].values, field.values[0], **style)
    return line
