"""Grids: coordinates, cell areas and their validation.

A latitude-longitude grid is given by its cell centers. Cell bounds lie half way between neighboring
centers; the outermost bounds are extrapolated by half a spacing and never pass a pole. The area of
a cell on the unit sphere is

    A_ij = (sin(phi_i+1/2) - sin(phi_i-1/2)) * (lambda_j+1/2 - lambda_j-1/2),

with the latitude phi and the longitude lambda in radians. Area weights are these areas divided by
their mean. The same weights serve the loss, the validation and the scores.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4 (area weighting).
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class LatLonGrid:
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
        _check_axis("latitude", self.latitude, decreasing=True)
        _check_axis("longitude", self.longitude, decreasing=False)
        if self.latitude[0] > 90 + 1e-6 or self.latitude[-1] < -90 - 1e-6:
            raise InputError(
                f"latitude must lie within -90..90 degrees, got {self.latitude[-1]:g}.."
                f"{self.latitude[0]:g}; check the units of the coordinate"
            )
        if self.longitude[-1] - self.longitude[0] >= 360 - 1e-6:
            raise InputError(
                f"longitude must span less than 360 degrees, got {self.longitude[0]:g}.."
                f"{self.longitude[-1]:g}; drop the duplicated meridian"
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
        """The grid of a canonical dataset, see ``data_pipeline.sources``."""
        latitude, longitude = (np.asarray(dataset[axis].values, float) for axis in cls.dims)
        return cls(latitude=tuple(latitude.tolist()), longitude=tuple(longitude.tolist()))

    dims = ("latitude", "longitude")

    @property
    def shape(self) -> tuple[int, int]:
        """Number of latitudes and of longitudes."""
        return len(self.latitude), len(self.longitude)

    @property
    def coords(self) -> dict[str, np.ndarray]:
        """Coordinates by dimension, in degrees."""
        return {"latitude": np.array(self.latitude), "longitude": np.array(self.longitude)}

    @property
    def is_periodic(self) -> bool:
        """Whether the longitudes close a circle."""
        step = self.longitude[1] - self.longitude[0]
        return bool(
            np.isclose(self.longitude[-1] + step - self.longitude[0], 360, atol=1e-3 * step)
        )

    def area_weights(self) -> np.ndarray:
        """Exact cell areas divided by their mean, float64 of shape (latitude, longitude)."""
        heights = -np.diff(np.sin(np.deg2rad(self.latitude_bounds())))
        widths = np.diff(self.longitude_bounds())
        areas = heights[:, None] * widths[None, :]
        return areas / areas.mean()

    def latitude_bounds(self) -> np.ndarray:
        """Bounds of the rows in degrees, from north to south, of shape (latitude + 1,)."""
        return np.clip(_bounds(np.array(self.latitude)), -90, 90)

    def longitude_bounds(self) -> np.ndarray:
        """Bounds of the columns in degrees, of shape (longitude + 1,)."""
        centers = np.array(self.longitude)
        if not self.is_periodic:
            return _bounds(centers)
        closed = np.concatenate([[centers[-1] - 360], centers, [centers[0] + 360]])
        return (closed[1:] + closed[:-1]) / 2

    def unit_vectors(self) -> np.ndarray:
        """Cartesian coordinates of the cell centers on the unit sphere.

        Returns:
            float64 of shape (3, latitude, longitude): cos(lat) cos(lon), cos(lat) sin(lon),
            sin(lat).
        """
        latitude = np.deg2rad(np.array(self.latitude))[:, None]
        longitude = np.deg2rad(np.array(self.longitude))[None, :]
        x, y = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude)
        return np.stack([x, y, np.broadcast_to(np.sin(latitude), x.shape)])

    def is_same(self, other: "LatLonGrid") -> bool:
        """Whether shape and coordinates agree to a thousandth of a degree."""
        return self.shape == other.shape and all(
            np.allclose(self.coords[axis], other.coords[axis], atol=1e-3) for axis in self.dims
        )

    def require_same(self, other: "LatLonGrid", expected_by: str) -> None:
        """Refuse another grid than this one.

        Args:
            other: The grid that was found.
            expected_by: Who expects this grid, for the message, as ``checkpoint best.safetensors``.

        Raises:
            InputError: If shape or coordinates differ by more than a thousandth of a degree.
        """
        if not self.is_same(other):
            raise InputError(
                f"{expected_by} expects the grid {self}, the data has {other}; "
                "regrid the data, use a checkpoint trained on this grid, or set "
                "forecast.regrid=true to interpolate to the checkpoint's grid and back"
            )

    def __str__(self) -> str:
        rows, columns = self.shape
        return (
            f"{rows} x {columns} (latitude {self.latitude[0]:g}..{self.latitude[-1]:g}, "
            f"longitude {self.longitude[0]:g}..{self.longitude[-1]:g})"
        )


def _check_axis(name: str, values: tuple[float, ...], *, decreasing: bool) -> None:
    steps = np.diff(values)
    ordered = (steps < 0).all() if decreasing else (steps > 0).all()
    if len(values) < 2 or not ordered or not np.isfinite(values).all():
        order = "decrease from north to south" if decreasing else "increase eastward"
        ends = f" from {values[0]:g} to {values[-1]:g}" if values else ""
        raise InputError(
            f"{name} must have at least 2 values that strictly {order}, got {len(values)} values"
            f'{ends}; sort with .sortby("{name}", ascending={not decreasing})'
        )


def _bounds(centers: np.ndarray) -> np.ndarray:
    """Midpoints between neighbors, extrapolated at both ends."""
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])
