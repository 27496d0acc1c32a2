"""Grids: coordinates, cell areas and their validation. Planar grids are in ``plane``.

A latitude-longitude grid is given by its cell centers. Cell bounds lie half way between neighboring
centers. The outermost bounds are extrapolated by half a spacing; they are on the pole where that
passes it or misses it by a twentieth of a spacing, as in rounded coordinates, and where rows are
those of a Gaussian grid, whose first one is .77 spacings away from the pole. The area of
a cell on the unit sphere is

    A_ij = (sin(phi_i+1/2) - sin(phi_i-1/2)) * (lambda_j+1/2 - lambda_j-1/2),

with the latitude phi and the longitude lambda in radians. Area weights are these areas divided by
their mean. The same weights serve the loss, the validation and the scores.

Coordinates are stored with few digits: GRIB 1 has thousandths of a degree, float32 seven digits.
Two coordinates are the same if they differ by less than ``COORDINATE_TOLERANCE`` of a cell, here
and wherever coordinates are compared, see ``same_coordinates``.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4 (area weighting).
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError

COORDINATE_TOLERANCE = 0.01
"""Share of the smallest spacing by which two coordinates of one place may differ."""


def spacing_of(values: np.ndarray) -> float:
    """Smallest distance between neighbors; 1 for a single value."""
    return float(np.abs(np.diff(values)).min()) if len(values) > 1 else 1.0


def same_coordinates(ours: np.ndarray, theirs: np.ndarray, cell: float | None = None) -> bool:
    """Whether two axes have the same values in the same order, to a small share of a cell.

    Args:
        ours: Values of shape (n,).
        theirs: Values of the other axis.
        cell: Size of a cell; by default the smallest spacing of ``ours``.
    """
    if len(ours) != len(theirs):
        return False
    tolerance = COORDINATE_TOLERANCE * (cell or spacing_of(ours))
    return bool(np.allclose(ours, theirs, rtol=0, atol=tolerance))


class Grid(ABC):
    """Cells of fields with two axes; a grid keeps its coordinates under the axes' names."""

    dims: ClassVar[tuple[str, str]]
    on_sphere: ClassVar[bool]
    coordinate_attrs: ClassVar[dict[str, dict[str, str]]]
    """CF attributes of the coordinates, by axis."""

    @property
    @abstractmethod
    def num_coordinate_channels(self) -> int:
        """Number of ``coordinate_channels``."""

    @property
    @abstractmethod
    def periodic_axes(self) -> tuple[str, ...]:
        """Names of the axes that close on themselves."""

    @abstractmethod
    def bounds(self, axis: str) -> np.ndarray:
        """Edges of the cells along an axis, in the order of its points, of shape (n + 1,)."""

    @abstractmethod
    def area_weights(self) -> np.ndarray:
        """Exact cell areas divided by their mean, float64 of the grid's shape."""

    @abstractmethod
    def coordinate_channels(self) -> np.ndarray:
        """Smooth functions of the location that tell cells apart, float64 of shape (n, *shape)."""

    @abstractmethod
    def describe_cell(self, row: int, column: int) -> str:
        """Coordinates of a cell, for people."""

    @abstractmethod
    def same_domain(self, other: "Grid") -> bool:
        """Whether the other grid has the same domain, with cells of any size."""

    @abstractmethod
    def select_rows(self, rows: slice) -> "Grid":
        """The grid of some neighboring rows."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain values that ``grid_from_json`` reads."""

    @property
    def coords(self) -> dict[str, np.ndarray]:
        """Cell centers by axis."""
        return {axis: np.array(getattr(self, axis)) for axis in self.dims}

    @property
    def attrs(self) -> dict[str, Any]:
        """Attributes that a canonical dataset has of its grid, in addition to the coordinates."""
        return {}

    def domain(self, axis: str) -> tuple[float, float]:
        """Both ends of the domain along an axis; the outermost points if none is stated."""
        values = self.coords[axis]
        return float(values[0]), float(values[-1])

    def length(self, axis: str) -> float:
        """Length of the domain along an axis, from the first edge to the last one."""
        bounds = self.bounds(axis)
        return abs(float(bounds[-1] - bounds[0]))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        rows, columns = (len(getattr(self, axis)) for axis in self.dims)
        return rows, columns

    @property
    def is_periodic(self) -> bool:
        """Whether columns close a circle, so that rows have wavenumbers."""
        return self.dims[1] in self.periodic_axes

    @property
    def spectrum_kind(self) -> Literal["zonal", "isotropic"] | None:
        """Energy spectrum of fields: isotropic on a torus or a periodic line, zonal on circles."""
        if not self.is_periodic:
            return None
        is_torus = self.shape[0] == 1 or len(self.periodic_axes) == 2
        return "isotropic" if is_torus else "zonal"

    def is_same(self, other: "Grid") -> bool:
        """Whether kind, shape and coordinates agree, see ``same_coordinates``."""
        kinds = [(grid.dims, grid.shape, grid.periodic_axes) for grid in (self, other)]
        if kinds[0] != kinds[1]:
            return False
        ours, theirs = self.coords, other.coords
        cells = {axis: spacing_of(self.bounds(axis)) for axis in self.dims}
        return all(same_coordinates(ours[a], theirs[a], cell) for a, cell in cells.items())

    def require_same(self, other: "Grid", expected_by: str) -> None:
        """Reject another grid than this one.

        Args:
            other: Grid of the data.
            expected_by: Who expects this grid, such as ``checkpoint best.safetensors``.

        Raises:
            InputError: If kind, shape or coordinates differ, see ``is_same``.
        """
        if not self.is_same(other):
            raise InputError(
                f"{expected_by} expects the grid {self}, the data has {other}; regrid the data, "
                "use a checkpoint of this grid, or set forecast.regrid=true to interpolate",
                code="grid-mismatch",
            )


@dataclass(frozen=True, kw_only=True)
class LatLonGrid(Grid):
    """A regular or Gaussian grid on the sphere, global or regional.

    Args:
        latitude: Cell centers in degrees north, from north to south, at least two.
        longitude: Cell centers in degrees east, increasing, spanning at most 360 degrees.

    Raises:
        InputError: If an axis is too short, unordered, or outside of its range.
    """

    latitude: tuple[float, ...]
    longitude: tuple[float, ...]

    def __post_init__(self) -> None:
        for axis, sign, order in (
            ("latitude", -1, "decrease from north to south"),
            ("longitude", 1, "increase eastward"),
        ):
            values = self.coords[axis]
            if len(values) < 2 or not (sign * np.diff(values) > 0).all() or np.isinf(values).any():
                ends = f" from {values[0]:g} to {values[-1]:g}" if len(values) else ""
                raise InputError(
                    f"{axis} must have at least 2 values that strictly {order}, got {len(values)} "
                    f'values{ends}; sort with .sortby("{axis}", ascending={sign > 0})',
                    code="bad-grid",
                )
        (north, *_, south), (west, *_, east) = self.latitude, self.longitude
        if north > 90 + 1e-6 or south < -90 - 1e-6:
            raise InputError(
                f"latitude must lie within -90..90 degrees, got {south:g}..{north:g}; check the "
                "units of the coordinate",
                code="bad-grid",
            )
        step = spacing_of(np.array(self.longitude))
        if east - west >= 360 - COORDINATE_TOLERANCE * step:
            raise InputError(
                f"longitude must span less than 360 degrees, got {west:g}..{east:g}; drop the "
                "duplicated meridian",
                code="bad-grid",
            )

    @classmethod
    def equiangular(
        cls, num_latitudes: int, num_longitudes: int, poles: bool = False
    ) -> "LatLonGrid":
        """A global grid of equal angles, with rows on the poles or half a cell away from them."""
        if poles:
            latitude = np.linspace(90, -90, num_latitudes)
        else:
            latitude = 90 - 180 * (np.arange(num_latitudes) + 0.5) / num_latitudes
        longitude = 360 * np.arange(num_longitudes) / num_longitudes
        return cls(latitude=tuple(latitude.tolist()), longitude=tuple(longitude.tolist()))

    @classmethod
    def from_dataset(cls, dataset: xr.Dataset | xr.DataArray) -> "LatLonGrid":
        """The grid of a canonical dataset, see ``data_pipeline.sources.canonical``."""
        latitude, longitude = (np.asarray(dataset[axis].values, float) for axis in cls.dims)
        return cls(latitude=tuple(latitude.tolist()), longitude=tuple(longitude.tolist()))

    dims, on_sphere = ("latitude", "longitude"), True
    coordinate_attrs: ClassVar[dict[str, dict[str, str]]] = {
        "latitude": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
        "longitude": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
    }

    @property
    def periodic_axes(self) -> tuple[str, ...]:
        """Longitude, if it goes around."""
        span = self.longitude[-1] - self.longitude[0]
        step = span / (len(self.longitude) - 1)
        # The last digits of the outermost two.
        closed = abs(360 - span - step) < 2 * COORDINATE_TOLERANCE * step
        return ("longitude",) if closed else ()

    def area_weights(self) -> np.ndarray:
        """Exact cell areas divided by their mean, float64 of shape (latitude, longitude)."""
        heights = -np.diff(np.sin(np.deg2rad(self.bounds("latitude"))))
        widths = np.diff(self.bounds("longitude"))
        areas = np.outer(heights, widths)
        return areas / areas.mean()

    def bounds(self, axis: str) -> np.ndarray:
        """Midpoints between neighbors in degrees, extrapolated at open ends."""
        centers = self.coords[axis]
        if axis in self.periodic_axes:
            closed = np.concatenate([[centers[-1] - 360], centers, [centers[0] + 360]])
            return (closed[1:] + closed[:-1]) / 2
        middle = (centers[1:] + centers[:-1]) / 2
        first, last = 2 * centers[0] - middle[0], 2 * centers[-1] - middle[-1]
        if axis == "latitude":
            first, last = _to_pole(first, centers), -_to_pole(-last, -centers[::-1])
        return np.concatenate([[first], middle, [last]])

    @property
    def num_coordinate_channels(self) -> int:
        """Number of Cartesian coordinates."""
        return 3

    def coordinate_channels(self) -> np.ndarray:
        """Cartesian coordinates of the cell centers on the unit sphere.

        Returns:
            float64 of shape (3, latitude, longitude): cos(lat) cos(lon), cos(lat) sin(lon),
            sin(lat).
        """
        latitude = np.deg2rad(np.array(self.latitude))[:, None]
        longitude = np.deg2rad(np.array(self.longitude))[None, :]
        x, y = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)
        return np.stack([x, y, np.broadcast_to(np.sin(latitude), x.shape)])

    def describe_cell(self, row: int, column: int) -> str:
        """Degrees north and east."""
        return f"{self.latitude[row]:g} N, {self.longitude[column]:g} E"

    def same_domain(self, other: Grid) -> bool:
        """Whether bounds agree to a cell of the coarser grid."""
        if not other.on_sphere or self.periodic_axes != other.periodic_axes:
            return False
        for axis in set(self.dims) - set(self.periodic_axes):
            ours, theirs = self.bounds(axis), other.bounds(axis)
            cell = max(np.abs(np.diff(bounds)).max() for bounds in (ours, theirs))
            if not np.allclose(ours[[0, -1]], theirs[[0, -1]], rtol=0, atol=cell):
                return False
        return True

    def select_rows(self, rows: slice) -> "LatLonGrid":
        """Some latitudes."""
        return replace(self, latitude=self.latitude[rows])

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"kind": "latlon", **asdict(self)}

    def __str__(self) -> str:
        (rows, columns), (north, *_, south) = self.shape, self.latitude
        longitudes = f"{self.longitude[0]:g}..{self.longitude[-1]:g}"
        return f"{rows} x {columns} (latitude {north:g}..{south:g}, longitude {longitudes})"


def _to_pole(bound: float, rows: np.ndarray) -> float:
    """The northern bound of rows from north to south, or 90 where it is meant to be the pole.

    Gaussian rows are the zeros of a Legendre polynomial, the k-th of n about 180 (k - 1/4) /
    (n + 1/2) degrees from the pole; the first two are 2.405 and 5.520 over n + 1/2 radians.
    """
    spacing, count = rows[0] - rows[1], len(rows)
    gaussian = 90 - 180 * (np.arange(1, count + 1) - 0.25) / (count + 0.5)
    is_gaussian = (
        abs((90 - rows[0]) / spacing - 0.772) < 0.012
        or np.abs(rows - gaussian).max() < 0.1 * 180 / count
    )
    return 90.0 if is_gaussian or bound > 90 - 0.05 * spacing else bound


def reaches_poles(latitude: np.ndarray) -> bool:
    """Whether the outermost rows are on the poles or about half a cell away."""
    step = np.abs(np.diff(latitude)).max()
    return bool(90 - latitude.max() < 0.8 * step and 90 + latitude.min() < 0.8 * step)


def space_dims(names: Collection[Any]) -> tuple[str, str]:
    """The axes of space among the names of dimensions: latitude and longitude, or else y and x."""
    return ("latitude", "longitude") if "latitude" in names else ("y", "x")
