"""Maps of truth, forecasts and errors, still and moving; with cartopy where it is installed."""

import sys
from collections.abc import Hashable
from importlib.util import find_spec
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fourcastnet_afno.evaluation.metrics import metric_of
from fourcastnet_afno.evaluation.scores.lead_times import lead_labels
from fourcastnet_afno.report.outputs import MAKER
from fourcastnet_afno.report.plots import as_drawn


def error_maps(
    truth: xr.DataArray, predictions: xr.DataArray, land: xr.DataArray | None = None
) -> Figure:
    """Truth, forecast and forecast minus truth; a row for each lead time.

    Both are (lead_time, latitude, longitude), or y and x. A land fraction of one half is drawn as
    coastline.
    """
    rows = truth.sizes["lead_time"]
    figure, axes = _map_axes(rows, 3, (12.5, 2.4 * rows + 0.3), truth.dims[-2:])
    difference = predictions - truth
    limits, largest = (float(truth.min()), float(truth.max())), _largest(difference)
    panels = (
        ("truth", truth, limits, "viridis"),
        ("forecast", predictions, limits, "viridis"),
        ("forecast minus truth", difference, (-largest, largest), "RdBu_r"),
    )
    for row, lead in enumerate(lead_labels(truth["lead_time"])):
        for axis, (name, field, bounds, cmap) in zip(axes[row], panels, strict=True):
            mesh = _draw(axis, field[row], bounds, cmap, land)
            axis.set_title(f"{name}, {lead}", fontsize=9)
            if field is not truth:
                figure.colorbar(mesh, ax=axis, label=as_drawn(truth.attrs.get("units", "")))
    return figure


def mean_maps(
    scores: xr.Dataset, channel: str, forecast: str, land: xr.DataArray | None = None
) -> Figure:
    """Bias and RMSE of each cell over all initial times; a column for each lead time."""
    chosen = scores.sel(forecast=forecast, map_channel=channel)
    leads = lead_labels(chosen["map_lead_time"])
    size = 3.6 * len(leads) + 0.6, 4.4
    figure, axes = _map_axes(2, len(leads), size, chosen["bias_map"].dims[-2:])
    units = scores["units"].sel(channel=channel).item()
    largest, highest = _largest(chosen["bias_map"]), float(chosen["rmse_map"].max())
    for column, lead in enumerate(leads):
        for row, (name, bounds, cmap) in enumerate(
            (("bias", (-largest, largest), "RdBu_r"), ("rmse", (0.0, highest), "magma"))
        ):
            axis = axes[row, column]
            mesh = _draw(axis, chosen[f"{name}_map"][column], bounds, cmap, land)
            axis.set_title(f"{metric_of(name).label}, {lead}", fontsize=9)
            if column == len(leads) - 1:
                figure.colorbar(mesh, ax=axis, label=as_drawn(units))
    return figure


def _largest(field: xr.DataArray) -> float:
    """Largest magnitude, for limits around zero."""
    value = float(np.abs(field).max())
    return value if np.isfinite(value) and value > 0 else 1.0


def _map_axes(
    rows: int, columns: int, size: tuple[float, float], dims: tuple[Hashable, ...]
) -> tuple[Figure, Any]:
    """Axes of maps, of the globe with cartopy where it is installed; the outer ones are labeled."""
    figure = Figure(figsize=size, layout="constrained")
    options: dict[str, Any] = {"sharex": True, "sharey": True}
    # The wheels of pyproj and of eccodes each bring a PROJ library; loading the former after the
    # latter ends the process.
    is_safe = "pyproj" in sys.modules or "eccodes" not in sys.modules
    if "latitude" in dims and is_safe and find_spec("cartopy") is not None:
        options = {"save_all": True, "append_images": frames[1:], "duration": 150, "loop": 0}
        frames[0].save(temporary, format="GIF", comment=MAKER, **options)
