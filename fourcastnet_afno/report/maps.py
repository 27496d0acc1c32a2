"""Maps of truth, forecasts and errors, still and moving; with cartopy where it is installed."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from data_pipeline.files.atomic import replacing
from data_pipeline.files.progress import track
from fourcastnet_afno.evaluation.metrics import metric_of, with_units
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.report.outputs import MAKER
from fourcastnet_afno.report.plots import as_drawn, render, unit_label

MOST_FRAMES = 40
"""Frames of an animation, by default."""

_MOST_RATIO = 4.0  # of the lengths of a plane that are drawn to scale
_TITLE, _BAR = 0.35, 0.65  # inches


def error_maps(
    truth: xr.DataArray, predictions: xr.DataArray, land: xr.DataArray | None = None
) -> Figure:
    """Truth, forecast and forecast minus truth; a row for each lead time.

    Both are (lead_time, latitude, longitude), or y and x. A land fraction of one half is drawn as
    coastline.
    """
    rows = truth.sizes["lead_time"]
    figure, axes = map_axes(rows, 3, (12.5, 2.4 * rows + 0.3), truth)
    difference = predictions - truth
    limits, largest = (float(truth.min()), float(truth.max())), largest_magnitude(difference)
    panels = (
        ("truth", truth, limits, "viridis"),
        ("forecast", predictions, limits, "viridis"),
        ("forecast minus truth", difference, (-largest, largest), "RdBu_r"),
    )
    for row, lead in enumerate(LeadTimes.of(truth).labels):
        for axis, (name, field, bounds, cmap) in zip(axes[row], panels, strict=True):
            mesh = draw_field(axis, field[row], bounds, cmap, land)
            axis.set_title(f"{name}, {lead}", fontsize=9)
            if field is not truth:
                figure.colorbar(mesh, ax=axis, label=unit_label(truth))
    return figure


def mean_maps(
    scores: xr.Dataset, channel: str, forecast: str, land: xr.DataArray | None = None
) -> Figure:
    """Bias and RMSE of each cell over all initial times; a column for each lead time."""
    chosen = scores.sel(forecast=forecast, map_channel=channel)
    leads = LeadTimes.of(scores, "map_lead_time").labels
    size = 3.6 * len(leads) + 0.6, 4.4
    figure, axes = map_axes(2, len(leads), size, chosen["bias_map"])
    units = scores["units"].sel(channel=channel).item()
    largest, highest = largest_magnitude(chosen["bias_map"]), float(chosen["rmse_map"].max())
    for column, lead in enumerate(leads):
        for row, (name, bounds, cmap) in enumerate(
            (("bias", (-largest, largest), "RdBu_r"), ("rmse", (0.0, highest), "magma"))
        ):
            axis = axes[row, column]
            mesh = draw_field(axis, chosen[f"{name}_map"][column], bounds, cmap, land)
            axis.set_title(f"{metric_of(name).label}, {lead}", fontsize=9)
            if column == len(leads) - 1:
                figure.colorbar(mesh, ax=axis, label=as_drawn(with_units("", units)))
    return figure


def largest_magnitude(field: xr.DataArray) -> float:
    """Largest magnitude, for limits around zero."""
    value = float(np.abs(field).max())
    return value if np.isfinite(value) and value > 0 else 1.0


def map_axes(
    rows: int, columns: int, size: tuple[float, float], field: xr.DataArray
) -> tuple[Figure, Any]:
    """Axes of maps of fields like ``field``, the outer ones of which are labeled.

    They are of the globe with cartopy where it is installed. On a plane lengths along y and x have
    the same scale, unless one is much longer; the width of ``size``, in inches, follows from that.
    """
    dims = field.dims[-2:]
    figure = Figure(figsize=_size_to_scale(rows, columns, size, field), layout="constrained")
    options: dict[str, Any] = {"sharex": True, "sharey": True}
    # The wheels of pyproj and of eccodes each bring a PROJ library; loading the former after the
    # latter ends the process.
    is_safe = "pyproj" in sys.modules or "eccodes" not in sys.modules
    if "latitude" in dims and is_safe and find_spec("cartopy") is not None:
        from cartopy.crs import PlateCarree  # pyright: ignore

        options = {"subplot_kw": {"projection": PlateCarree(central_longitude=180)}}
    axes: Any = figure.subplots(rows, columns, squeeze=False, **options)
    for row, column in np.ndindex(rows, columns):
        axis = axes[row, column]
        sides = ["left"] * (column == 0) + ["bottom"] * (row == rows - 1)
        if hasattr(axis, "projection"):
            lines = axis.gridlines(draw_labels=sides, linewidth=0.3, color="gray", alpha=0.5)
            lines.xlabel_style = lines.ylabel_style = {"size": 7}
            continue
        axis.tick_params(labelsize=7)
        if "left" in sides:
            axis.set_ylabel(str(dims[0]), fontsize=8)
        if "bottom" in sides:
            axis.set_xlabel(str(dims[1]), fontsize=8)
    return figure, axes


def _width_to_height(field: xr.DataArray) -> float | None:
    """Shape of a map on a plane; ``None`` on the globe."""
    if "latitude" in field.dims:
        return None
    height, width = (
        float(np.ptp(axis.values)) * len(axis) / max(1, len(axis) - 1)
        for axis in (field[dim] for dim in field.dims[-2:])
    )
    return width / height if width and height else None


def _size_to_scale(
    rows: int, columns: int, size: tuple[float, float], field: xr.DataArray
) -> tuple[float, float]:
    """The size of a figure, in inches, with the width that maps of a field have at its height."""
    if (ratio := _width_to_height(field)) is None:
        return size
    ratio = min(max(ratio, 1 / _MOST_RATIO), _MOST_RATIO)
    return columns * (ratio * (size[1] / rows - _TITLE) + _BAR) + _BAR, size[1]


def draw_field(
    axis: Axes,
    field: xr.DataArray,
    limits: tuple[float, float],
    cmap: str,
    land: xr.DataArray | None = None,
) -> QuadMesh:
    """Draw a field, and the coast where land is on the same grid."""
    options = _options(axis)
    if land is not None and land.shape == field.shape:
        axis.contour(
            land["longitude"], land["latitude"], land.values, [0.5], colors="black",
            linewidths=0.6, **options,
        )  # fmt: skip
    y, x = (field[dim].values for dim in field.dims)
    options |= {"shading": "nearest", "vmin": limits[0], "vmax": limits[1], "cmap": cmap}
    if 1 / _MOST_RATIO <= (_width_to_height(field) or 0.0) <= _MOST_RATIO:
        axis.set_aspect("equal")
    return axis.pcolormesh(x, y, field.values, **options)


def draw_line(axis: Axes, field: xr.DataArray, level: float) -> None:
    """Draw the line along which a field has a value."""
    y, x = (field[dim].values for dim in field.dims)
    axis.contour(x, y, field.values, [level], colors="#d1622b", linewidths=1.2, **_options(axis))


def _options(axis: Axes) -> dict[str, Any]:
    """Coordinates of what is drawn on axes of the globe."""
    if not hasattr(axis, "projection"):
        return {}
    from cartopy.crs import PlateCarree  # pyright: ignore

    return {"transform": PlateCarree()}


def rollout_animation(
    truth: xr.DataArray, predictions: xr.DataArray, path: Path, *, max_frames: int = MOST_FRAMES
) -> None:
    """Write truth next to forecast, both (lead_time, latitude, longitude), as a GIF.

    For ``max_frames`` see ``write_animation``.
    """
    size = _size_to_scale(1, 2, (9.5, 3.0), truth)
    figure = Figure(figsize=size, layout="constrained", dpi=80)
    axes = figure.subplots(1, 2, sharey=True)
    limits, fields = (float(truth.min()), float(truth.max())), (truth, predictions)
    labels = LeadTimes.of(truth).labels
    meshes = [draw_field(axes[i], field[0], limits, "viridis") for i, field in enumerate(fields)]
    figure.colorbar(meshes[1], ax=axes, label=unit_label(truth))

    def draw(index: int) -> None:
        for i, name in enumerate(("truth", "forecast")):
            meshes[i].set_array(fields[i].values[index])
            axes[i].set_title(f"{name}, {labels[index]}", fontsize=10)

    write_animation(path, figure, draw, len(labels), max_frames=max_frames)


def write_animation(
    path: Path,
    figure: Figure,
    draw: Callable[[int], None],
    count: int,
    *,
    max_frames: int = MOST_FRAMES,
) -> None:
    """Write a GIF with a frame for each of ``count`` indices, or ``max_frames`` spread over all.

    ``draw`` has the figure show an index.
    """
    frames = []
    shown = np.unique(np.linspace(0, count - 1, min(count, max_frames)).round().astype(int))
    for index in track(shown.tolist(), "Drawing the animation"):
        draw(index)
        frames.append(Image.open(BytesIO(render(figure))).convert("RGB"))
        figure.set_layout_engine("none")  # the layout of the first frame holds for all
    # One palette for all frames, from the first and the last: viewers mix up palettes by frame.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0])
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(256)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as temporary:
        options = {"save_all": True, "append_images": frames[1:], "duration": 150, "loop": 0}
        frames[0].save(temporary, format="GIF", comment=MAKER, **options)
