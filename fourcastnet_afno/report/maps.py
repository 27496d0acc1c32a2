"""Maps of truth, forecasts and errors, still and moving; with cartopy where it is installed."""

import sys
from collections.abc import Hashable
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
from fourcastnet_afno.report.plots import as_drawn, render, units_of


def error_maps(
    truth: xr.DataArray, predictions: xr.DataArray, land: xr.DataArray | None = None
) -> Figure:
    """Truth, forecast and forecast minus truth; a row for each lead time.

    Both are (lead_time, latitude, longitude), or y and x. A land fraction of one half is drawn as
    coastline.
    """
    rows = truth.sizes["lead_time"]
    figure, axes = map_axes(rows, 3, (12.5, 2.4 * rows + 0.3), truth.dims[-2:])
    difference = predictions - truth
    limits, largest = (float(truth.min()), float(truth.max())), _largest(difference)
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
                figure.colorbar(mesh, ax=axis, label=units_of(truth))
    return figure


def mean_maps(
    scores: xr.Dataset, channel: str, forecast: str, land: xr.DataArray | None = None
) -> Figure:
    """Bias and RMSE of each cell over all initial times; a column for each lead time."""
    chosen = scores.sel(forecast=forecast, map_channel=channel)
    leads = LeadTimes.of(scores, "map_lead_time").labels
    size = 3.6 * len(leads) + 0.6, 4.4
    figure, axes = map_axes(2, len(leads), size, chosen["bias_map"].dims[-2:])
    units = scores["units"].sel(channel=channel).item()
    largest, highest = _largest(chosen["bias_map"]), float(chosen["rmse_map"].max())
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


def _largest(field: xr.DataArray) -> float:
    """Largest magnitude, for limits around zero."""
    value = float(np.abs(field).max())
    return value if np.isfinite(value) and value > 0 else 1.0


def map_axes(
    rows: int, columns: int, size: tuple[float, float], dims: tuple[Hashable, ...]
) -> tuple[Figure, Any]:
    """Axes of maps, of the globe with cartopy where it is installed; the outer ones are labeled."""
    figure = Figure(figsize=size, layout="constrained")
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
    if len(y) == 1:  # problems in one dimension: a strip
        middles = (x[1:] + x[:-1]) / 2
        x = np.concatenate([[2 * x[0] - middles[0]], middles, [2 * x[-1] - middles[-1]]])
        y, options["shading"] = np.array([0.0, 1.0]), "flat"
    else:
        options["shading"] = "nearest"
    return axis.pcolormesh(x, y, field.values, vmin=limits[0], vmax=limits[1], cmap=cmap, **options)


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
    truth: xr.DataArray, predictions: xr.DataArray, path: Path, *, max_frames: int = 40
) -> None:
    """Write truth next to forecast, both (lead_time, latitude, longitude), as a GIF.

    It has a frame for each lead time, or ``max_frames`` spread over all.
    """
    count = truth.sizes["lead_time"]
    shown = np.unique(np.linspace(0, count - 1, min(count, max_frames)).round().astype(int))
    leads = LeadTimes.of(truth).labels
    figure = Figure(figsize=(9.5, 3), layout="constrained", dpi=80)
    axes = figure.subplots(1, 2, sharey=True)
    limits, fields = (float(truth.min()), float(truth.max())), (truth, predictions)
    meshes = [draw_field(axes[i], field[0], limits, "viridis") for i, field in enumerate(fields)]
    figure.colorbar(meshes[1], ax=axes, label=units_of(truth))
    frames = []
    for index in track(shown, "Drawing the animation"):
        for i, name in enumerate(("truth", "forecast")):
            meshes[i].set_array(fields[i].values[index])
            axes[i].set_title(f"{name}, {leads[index]}", fontsize=10)
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
