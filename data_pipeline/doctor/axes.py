"""Checks of the grid, and of how the source lays out its axes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import roots_legendre

from data_pipeline.doctor.findings import Finding, finding
from data_pipeline.grids.grid import Grid
from data_pipeline.sources.names import RENAME


def check_grid(grid: Grid) -> tuple[dict[str, Any], list[Finding]]:
    """Describe a grid, and check it unless it is a plane, whose axes ``grid_of`` checks."""
    if not grid.on_sphere:
        rows, columns = grid.shape
        return {"kind": "plane", "rows": rows, "columns": columns, **grid.attrs}, []
    latitude, longitude = grid.coords["latitude"], grid.coords["longitude"]
    gaussian = _is_gaussian(latitude)
    rows, columns = None if gaussian else _even_step(latitude), _even_step(longitude)
    bounds = grid.bounds("latitude")
    is_global = grid.is_periodic and bounds[0] >= 90 - 1e-6 and bounds[-1] <= -90 + 1e-6
    facts = {
        "num_latitudes": len(latitude),
        "num_longitudes": len(longitude),
        "latitude": [float(latitude[0]), float(latitude[-1])],
        "longitude": [float(longitude[0]), float(longitude[-1])],
        "latitude_spacing": rows,
        "longitude_spacing": columns,
        "kind": "gaussian" if gaussian else "irregular" if None in (rows, columns) else "regular",
        "poles": bool(np.isclose(abs(latitude), 90).any()),
        "coverage": "global" if is_global else "band" if grid.is_periodic else "regional",
    }
    return facts, _grid_findings(grid, regular_rows=gaussian or rows is not None)


def _grid_findings(grid: Grid, *, regular_rows: bool) -> list[Finding]:
    findings = []
    for axis, values in grid.coords.items():
        steps = np.abs(np.diff(values))
        if not (regular_rows if axis == "latitude" else _even_step(values)):
            index = int(np.argmax(np.abs(steps - np.median(steps))))
            what = f"the {axis} has steps of {steps.min():g} to {steps.max():g} degrees"
            where = f"{axis} {values[index]:g} to {values[index + 1]:g}"
            remedy = "Look for a missing row or column; otherwise set data.grid to a regular one."
            findings.append(finding("grid-irregular", "warning", what, where, remedy))
    latitude, longitude = grid.coords["latitude"], grid.coords["longitude"]
    step = np.median(np.diff(longitude))
    left = 360 - (longitude[-1] - longitude[0] + step)
    if 0.5 * step < left < 2.5 * step:
        what = f"{len(longitude)} columns cover all but {left:g} degrees around the globe"
        where = f"longitude {longitude[-1]:g} to {longitude[0] + 360:g}"
        remedy = "Give the missing columns, or set model.network.padding.longitude to reflect."
        findings.append(finding("grid-open", "warning", what, where, remedy))
    ends = np.isclose(np.abs(latitude[[0, -1]]), 90)
    covered = np.abs(grid.bounds("latitude")[[0, -1]])
    if ends.sum() == 1 and (covered > 90 - 2 * abs(latitude[1] - latitude[0])).all():
        what = f"only the {'north' if ends[0] else 'south'} pole has a row"
        remedy = "Intended where rows were cut to make patches, such as FourCastNet's 720 of 721."
        findings.append(finding("grid-poles", "info", what, "latitude", remedy))
    return findings


def _even_step(values: np.ndarray) -> float | None:
    steps = np.abs(np.diff(values))
    step = float(np.median(steps))
    # Coordinates are often kept as float32, rounded to a few digits.
    return step if np.allclose(steps, step, rtol=0, atol=0.02 * step) else None


def _is_gaussian(latitude: np.ndarray) -> bool:
    """Whether the sines are the roots of a Legendre polynomial, to a twentieth of a row.

    Large Gaussian grids have nearly even steps; it is the distance to the poles that differs.
    """
    if abs(latitude[0] + latitude[-1]) > 0.01 or latitude[0] > 90 - 1e-3:
        return False
    nodes = np.rad2deg(np.arcsin(roots_legendre(len(latitude))[0]))[::-1]
    return bool(np.allclose(latitude, nodes, rtol=0, atol=0.05 * 180 / len(latitude)))


def check_layout(
    raw: xr.Dataset, rename: Mapping[str, str]
) -> tuple[dict[str, Any], list[Finding]]:
    """Describe how the source itself lays out its axes, before it is made canonical."""
    table = {**RENAME, **rename}
    axes: dict[str, np.ndarray] = {}
    for name in (name for name in raw.variables if raw[name].ndim == 1):
        axis = table.get(str(name), str(name))
        if axis in ("latitude", "longitude") and raw[name].size > 1:
            axes.setdefault(axis, np.asarray(raw[name].values, float))
    facts: dict[str, Any] = dict.fromkeys(("latitude_order", "longitude_range", "calendar"))
    notes = []
    if "latitude" in axes:
        southward = bool(axes["latitude"][0] > axes["latitude"][-1])
        facts["latitude_order"] = "north to south" if southward else "south to north"
        notes += [] if southward else ["rows run from south to north"]
    if "longitude" in axes:
        longitude = axes["longitude"]
        facts["longitude_range"] = [float(longitude.min()), float(longitude.max())]
        repeated = bool(np.isclose(abs(longitude[-1] - longitude[0]), 360))
        facts["duplicated_meridian"] = repeated
        notes += ["the first meridian is repeated at the end"] if repeated else []
    for name in (n for n in raw.dims if table.get(str(n), n) == "time" and n in raw.variables):
        of_cftime = getattr(next(iter(raw[name].values.flat), None), "calendar", None)
        facts["calendar"] = str(of_cftime or raw[name].encoding.get("calendar", "standard"))
    where = str(raw.encoding.get("source", "data.source"))
    return facts, [finding("grid-layout", "info", note, where, "Nothing.") for note in notes]
