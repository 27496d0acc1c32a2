"""Planar grids, and which grid a dataset has.

A planar grid has evenly spaced points on the axes y and x, in the length units of its problem, each
for a cell of the same area. An axis closes on itself, and then the spacing times the number of
points is its length, or it has two boundaries. Problems in one dimension have a single y.

A canonical dataset on such a grid has the attributes ``periodic``, the names of the axes that close
on themselves as ``y x``, ``x`` or nothing, ``extent_y`` and ``extent_x``, their lengths, and
``origin_y`` and ``origin_x`` where the domain starts at a place that is known.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.records import from_plain


@dataclass(frozen=True, kw_only=True)
class PlaneGrid(Grid):
    """Evenly spaced points on a rectangle, a strip that closes on itself, or a torus.

    Args:
        y: Rows, increasing; a single one for problems in one dimension.
        x: Columns, increasing, at least two.
        periodic: Names of the axes that close on themselves.
        extent: Lengths of the domain along y and x.
        origin: Where the domain starts along y and x; by default such that the points lie in its
            middle.

    Raises:
        InputError: If an axis is too short, unordered or uneven, or its length does not fit.
    """

    y: tuple[float, ...]
    x: tuple[float, ...]
    periodic: tuple[str, ...]
    extent: tuple[float, float]
    origin: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        unknown = [name for name in self.periodic if name not in self.dims]
        if unknown:
            raise InputError(
                f"the periodic axes of a planar grid are some of y and x, got {unknown}; correct "
                "the attribute periodic or data.source.periodic",
                code="bad-grid",
            )
        object.__setattr__(self, "periodic", tuple(a for a in self.dims if a in self.periodic))
        for axis, length in zip(self.dims, self.extent, strict=True):
            values, closes, least = (
                self.coords[axis],
                axis in self.periodic,
                1 if axis == "y" else 2,
            )
            count, steps = len(values), np.diff(values)
            even = count < 2 or np.allclose(steps, steps.mean(), rtol=1e-3, atol=0)
            if count < least or not np.isfinite(values).all() or (steps <= 0).any() or not even:
                ends = f" from {values[0]:g} to {values[-1]:g}" if count else ""
                raise InputError(
                    f"{axis} must have at least {least} values that increase in even steps, got "
                    f"{count} values{ends}; sort or regrid the data",
                    code="bad-grid",
                )
            span = float(values[-1] - values[0])
            full = span * count / max(1, count - 1)
            fits = np.isclose(length, full, rtol=1e-3) if closes else length >= span * (1 - 1e-3)
            if not 0 < length < np.inf or not (fits or count == 1):
                bounded = f"at least {span:g} of a bounded axis"
                expected = f"{full:g}, the spacing times the points of a periodic axis"
                raise InputError(
                    f"extent_{axis} must be {expected if closes else bounded}, got {length:g}; "
                    "correct the attribute, or drop a repeated end point of the axis",
                    code="bad-grid",
                )

        if self.origin is not None and not np.isfinite(self.origin).all():
            raise InputError(
                f"origin_y and origin_x must be finite, got {self.origin}; correct the attributes",
                code="bad-grid",
            )

    @classmethod
    def regular(
        cls,
        num_rows: int,
        num_columns: int,
        *,
        extent: tuple[float, float] = (1.0, 1.0),
        periodic: tuple[str, ...] = ("y", "x"),
    ) -> "PlaneGrid":
        """Centers of equal cells that fill the domain from 0 on."""
        y, x = (
            tuple(((np.arange(n) + 0.5) * length / n).tolist())
            for n, length in zip((num_rows, num_columns), extent, strict=True)
        )
        return cls(y=y, x=x, periodic=periodic, extent=extent)

    dims, on_sphere = ("y", "x"), False
    coordinate_attrs: ClassVar[dict[str, dict[str, str]]] = {
        "y": {"long_name": "y", "axis": "Y"},
        "x": {"long_name": "x", "axis": "X"},
    }

    @property
    def periodic_axes(self) -> tuple[str, ...]:
        """See ``periodic``."""
        return self.periodic

    @property
    def attrs(self) -> dict[str, Any]:
        """Periodic axes and lengths, see the module's header."""
        record = {"periodic": " ".join(self.periodic)}
        record |= {f"extent_{a}": v for a, v in zip(self.dims, self.extent, strict=True)}
        if self.origin is not None:
            record |= {f"origin_{a}": v for a, v in zip(self.dims, self.origin, strict=True)}
        return record

    def domain(self, axis: str) -> tuple[float, float]:
        """From the origin, or with the points in the middle where it is not known."""
        values, length = self.coords[axis], self.length(axis)
        start = float(values[0] + values[-1] - length) / 2
        if self.origin is not None:
            start = self.origin[self.dims.index(axis)]
        return start, start + length

    def area_weights(self) -> np.ndarray:
        """Ones: all cells are of one size."""
        return np.ones(self.shape)

    @property
    def num_coordinate_channels(self) -> int:
        """Two for each axis with several points."""
        return 2 * sum(size > 1 for size in self.shape)

    def coordinate_channels(self) -> np.ndarray:
        """Location of the points, the same at any resolution; an axis with one point has none.

        Returns:
            float64 of shape (n, y, x), for each axis two: sine and cosine of 2 pi x / L where it
            closes on itself, or else the location from -1 to 1 and the distance to the boundary
            from 0 to 1, in halves of its length L.
        """
        channels = []
        for axis, length in zip(self.dims, self.extent, strict=True):
            values = self.coords[axis]
            if len(values) == 1:
                continue
            if axis in self.periodic:
                waves = 2 * np.pi * values / length
                pair = np.sin(waves), np.cos(waves)
            else:
                location = (values - self.domain(axis)[0]) / (length / 2) - 1
                pair = location, 1 - np.abs(location)
            channels += [v[:, None] if axis == "y" else v[None, :] for v in pair]
        return np.stack([np.broadcast_to(channel, self.shape) for channel in channels])

    def length(self, axis: str) -> float:
        """Length of the domain along an axis."""
        return self.extent[self.dims.index(axis)]

    def bounds(self, axis: str) -> np.ndarray:
        """Edges of equal cells around the points."""
        values = self.coords[axis]
        step = self.length(axis) / len(values)
        if len(values) > 1:
            step = (values[-1] - values[0]) / (len(values) - 1)
        return np.append(values - step / 2, values[-1] + step / 2)

    def describe_cell(self, row: int, column: int) -> str:
        """Coordinates of the point."""
        return f"y {self.y[row]:g}, x {self.x[column]:g}"

    def same_domain(self, other: Grid) -> bool:
        """Whether lengths, periodic axes and known origins are the same."""
        if not isinstance(other, PlaneGrid) or self.periodic != other.periodic:
            return False
        if (self.origin is None) != (other.origin is None):
            return False
        same_extent = np.allclose(self.extent, other.extent, rtol=1e-3, atol=0)
        tolerance = 1e-3 * min(self.extent)
        return same_extent and np.allclose(self.origin or 0, other.origin or 0, atol=tolerance)

    def select_rows(self, rows: slice) -> "PlaneGrid":
        """A strip, which does not close along y unless it has all rows."""
        y, edges = self.y[rows], self.bounds("y")
        if y == self.y:
            return self
        extent = len(y) * float(edges[1] - edges[0]), self.extent[1]
        periodic = tuple(axis for axis in self.periodic if axis != "y")
        return PlaneGrid(y=y, x=self.x, periodic=periodic, extent=extent)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self).items()
        return {"kind": "plane", **{name: list(v) for name, v in values if v is not None}}

    def __str__(self) -> str:
        rows, columns = self.shape
        closed = f"periodic in {' and '.join(self.periodic)}" if self.periodic else "not periodic"
        y, x = (f"{axis[0]:g}..{axis[-1]:g}" for axis in (self.y, self.x))
        return f"{rows} x {columns} (y {y}, x {x}, {closed})"


def grid_of(dataset: xr.Dataset) -> Grid:
    """The grid of a canonical dataset, see ``data_pipeline.sources.canonical``.

    Raises:
        InputError: If it has neither kind of axes, or does not say which planar axes are periodic.
    """
    if all(axis in dataset.coords for axis in LatLonGrid.dims):
        try:
            return LatLonGrid.from_dataset(dataset)
        except InputError as error:
            source = dataset.encoding.get("source")
            raise InputError(
                f"{source}: {error}" if source else str(error), code=error.code
            ) from error
    if not is_planar(dataset):
        raise InputError(
            f"the data has the coordinates {list(dataset.coords)}, expected latitude and longitude "
            "or y and x; map their names with data.source.rename",
            code="missing-axis",
        )
    attrs, coords, extent = dataset.attrs, {}, []
    if "periodic" not in attrs:
        raise InputError(
            "the data on a planar grid does not say which axes are periodic; give it the attribute "
            "periodic, such as 'y x', 'x' or '', or set data.source.periodic",
            code="bad-grid",
        )
    for axis in PlaneGrid.dims:
        values = np.asarray(dataset[axis].values, float)
        count = len(values)
        spanned = float(values[-1] - values[0]) * count / (count - 1) if count > 1 else 1.0
        coords[axis] = tuple(values.tolist())
        extent.append(_number(attrs, f"extent_{axis}", spanned))
    known = "origin_y" in attrs and "origin_x" in attrs
    return PlaneGrid(
        **coords,
        periodic=tuple(str(attrs["periodic"]).split()),
        extent=(extent[0], extent[1]),
        origin=(_number(attrs, "origin_y"), _number(attrs, "origin_x")) if known else None,
    )


def _number(attrs: Mapping[str, Any], name: str, default: float = 0.0) -> float:
    """A finite number among attributes."""
    try:
        number = float(attrs.get(name, default))
    except (TypeError, ValueError):
        number = np.nan
    if not np.isfinite(number):
        raise InputError(
            f"the attribute {name} is {str(attrs.get(name))[:80]!r}, expected a finite number; "
            "correct it",
            code="bad-grid",
        )
    return number


def is_planar(dataset: xr.Dataset) -> bool:
    """Whether a dataset has planar coordinates and no others."""
    sphere = any(axis in dataset.coords for axis in LatLonGrid.dims)
    return not sphere and all(axis in dataset.coords for axis in PlaneGrid.dims)


def grid_from_json(record: object) -> Grid:
    """Inverse of ``Grid.to_json``; records without ``kind`` are latitude-longitude grids.

    Raises:
        InputError: If an entry has another type, or the axes are those of no grid.
    """
    values: dict[str, Any] = from_plain(dict[str, Any], record, "grid")
    kind = from_plain(Literal["latlon", "plane"], values.pop("kind", "latlon"), "grid.kind")
    return from_plain({"latlon": LatLonGrid, "plane": PlaneGrid}[kind], values, "grid")


def require_latlon(grid: Grid, asked_by: str, remedy: str = "leave it out") -> LatLonGrid:
    """The grid, if it is on the sphere.

    Raises:
        InputError: If it is a plane; names ``asked_by``, the setting, such as ``data.crop``.
    """
    if isinstance(grid, LatLonGrid):
        return grid
    raise InputError(
        f"{asked_by} needs latitudes and longitudes, the grid is {grid}; {remedy}",
        code="needs-sphere",
    )
