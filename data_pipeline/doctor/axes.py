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
    """Spacing, kind, poles and coverage; of a plane, whose axes are checked already, its size."""
    if not grid.on_sphere:
        rows, columns = grid.shape
        return {"kind": "plane", "rows": rows, "columns": columns, **grid.attrs}, []
    latitude, longitude = grid.coords["latitude"], grid.coords["longitude"]
    gaussian = _is_gaussian(latitude)
    rows, columns = None if gaussian else _even_step(latitude), _even_step(longitude)
    bounds = grid.bounds("latitude")
    whole = grid.is_periodic and bounds[0] >= 90 - 1e-6 and bounds[-1] <= -90 + 1e-6
    facts = {
        "num_latitudes": len(latitude),
        "num_longitudes": len(longitude),
        "latitude": [float(latitude[0]), float(latitude[-1])],
        "longitude": [float(longitude[0]), float(longitude[-1])],
        "latitude_spacing": rows,
        "longitude_spacing": columns,
        "kind": "gaussian" if gaussian else "irregular" if None in (rows, columns) else "regular",
        "poles": bool(np.isclose(abs(latitude), 90).any()),
        "coverage": "global" if whole else "band" if grid.is_periodic else "regional",
    }
    return facts, _grid_findings(grid, regular_rows=gaussian or rows is not None)


def _grid_findings(grid: Grid, *, regular_rows: bool) -> list[Finding]:
    findings = []
    for axis, values in grid.coords.items():
        steps = np.abs(np.diff(values))
        if not (regular_rows if axis == "latitude" else _even_step(values)):
            index = int(np.argmax(np.abs(steps - np.median(steps))))
            findings.append(
                finding(
                    "grid-irregular",
                    "warning",
                    f"the {axis} has steps of {steps.min():g} to {steps.max():g} degrees",
                    f"{axis} {values[index]:g} to {values[index + 1]:g}",
                    "Look for a missing row or column; otherwise set data.grid to take "
                    "conservative means on a regular grid.",
                )
            )
    longitude, step = grid.coords["longitude"], np.median(np.diff(grid.coords["longitude"]))
    left = 360 - (longitude[-1] - longitude[0] + step)
    if 0.5 * step < left < 2.5 * step:
        findings.append(
            finding(
                "grid-open",
                "warning",
                f"{len(longitude)} columns cover all but {left:g} degrees around the globe",
                f"longitude {longitude[-1]:g} to {longitude[0] + 360:g}",
                "Give the missing columns, or set model.network.padding.longitude to reflect.",
            )
        )
    ends = np.isclose(np.abs(grid.coords["latitude"][[0, -1]]), 90)
    covered = np.abs(grid.bounds("latitude")[[0, -1]])
    if ends.sum() == 1 and (covered > 90 - 2 * abs(np.diff(grid.coords["latitude"][:2])[0])).all():
        pole = "north" if ends[0] else "south"
        findings.append(
            finding(
                "grid-poles",
                "info",
                f"only the {pole} pole has a row",
                "latitude",
                "Intended where rows were cut to divide into patches, as FourCastNet's 720 of 721.",
            )
        )
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
    """How the source itself lays out its axes, before it is made canonical."""
    latitude, longitude = (_raw_axis(raw, rename, a) for a in ("latitude", "longitude"))
    facts: dict[str, Any] = {"latitude_order": None, "longitude_range": None, "calendar": None}
    notes = []
    if latitude is not None and len(latitude) > 1:
        southward = bool(latitude[0] > latitude[-1])
        facts["latitude_order"] = "north to south" if southward else "south to north"
        notes += [] if southward else ["rows run from south to north"]
    if longitude is not None and len(longitude) > 1:
        facts["longitude_range"] = [float(longitude.min()), float(longitude.max())]
        repeated = bool(np.isclose(abs(longitude[-1] - longitude[0]), 360))
        facts["duplicated_meridian"] = repeated
        notes += ["the first meridian is repeated at the end"] if repeated else []
    facts["calendar"] = _calendar(raw, rename)
    return facts, [
        finding(
            "grid-layout", "info", note, str(raw.encoding.get("source", "data.source")), "Nothing."
        )
        for note in notes
    ]


def _raw_axis(raw: xr.Dataset, rename: Mapping[str, str], axis: str) -> np.ndarray | None:
    table = {**RENAME, **rename}
    names = [n for n in raw.variables if table.get(str(n), n) == axis and raw[n].ndim == 1]
    return np.asarray(raw[names[0]].values, float) if names else None


def _calendar(raw: xr.Dataset, rename: Mapping[str, str]) -> str | None:
    table = {**RENAME, **rename}
    names = [n for n in raw.dims if table.get(str(n), n) == "time" and n in raw.variables]
    if not names:
        return None
    values = raw[names[0]].values
    cftime_calendar = getattr(values.flat[0], "calendar", None) if values.size else None
    return str(cftime_calendar or raw[names[0]].encoding.get("calendar", "standard"))
