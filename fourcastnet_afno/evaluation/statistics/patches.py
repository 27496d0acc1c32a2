"""Energy at the scales of a network's patches, where edges between patches show.

A network that cuts an axis of N points into patches of p points leaves edges N / p times along it.
A pattern that repeats in every patch, times a field of larger scale, is made of waves near the
wavenumbers N / p, 2 N / p, ... Near means by at most a quarter of N / p, so that the energy is the
sum of S_k over

    |k - j N / p| <= N / (4 p)    for a j >= 1,    k <= N / 2.

S_k is as in ``spectra``, for rows and for columns each; an axis whose patches have one point, or
which is a single patch, has none. Along an axis that is no circle, such as the
latitude, the field is first multiplied by the window sqrt(2/3) (1 - cos(2 pi (n + 1/2) / N)) of
points n, of mean square 1, because a jump from one end to the other has energy at all wavenumbers.

References:
    Harris, 1978, https://doi.org/10.1109/PROC.1978.10837 (Hann's window).
"""

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np
import scipy.fft

from data_pipeline.grids.grid import Grid
from data_pipeline.precision import at_least_single

PatchEnergy = Callable[[np.ndarray], np.ndarray]
"""Energies (..., axis) of fields (..., row, column) at the scales of some patches."""


def patch_energy_of(grid: Grid, attrs: Mapping[str, Any]) -> PatchEnergy | None:
    """Energy at the patches that a forecast's attribute ``patch_size`` (``4 x 4``) tells, if any.

    Patches count points of the grid. ``None`` where they have no edges.
    """
    stated = re.fullmatch(r"([1-9]\d{0,5}) x ([1-9]\d{0,5})", str(attrs.get("patch_size", "")))
    if stated is None:
        return None
    patch = int(stated[1]), int(stated[2])
    if not any(1 < p < n for p, n in zip(patch, grid.shape, strict=True)):
        return None
    rows, columns = (axis in grid.periodic_axes for axis in grid.dims)
    return partial(
        patch_energy, patch=patch, closed=(rows, columns), area_weights=grid.area_weights()
    )


def patch_energy(
    fields: np.ndarray,
    *,
    patch: tuple[int, int],
    closed: tuple[bool, bool],
    area_weights: np.ndarray,
) -> np.ndarray:
    """Energies (..., 2) near the wavenumbers of patches, along rows and along columns.

    They have the squared units of the fields.

    Args:
        fields: (..., row, column); energies of those that lack a cell are NaN.
        patch: Rows and columns of a patch.
        closed: Whether the axes of rows and columns are circles.
        area_weights: (row, column) of mean 1, the same along a row.
    """
    fields = at_least_single(fields)
    along_rows = _energy_along(fields, patch[1], closed[1])
    along_columns = _energy_along(np.swapaxes(fields, -1, -2), patch[0], closed[0])
    weights = area_weights[:, 0] / len(area_weights)
    return np.stack([along_rows @ weights, along_columns.mean(axis=-1)], axis=-1)


def _energy_along(fields: np.ndarray, patch: int, closed: bool) -> np.ndarray:
    """Energy of each line along the last axis near the wavenumbers of patches."""
    length = fields.shape[-1]
    factors = _factors(length, patch)
    if not closed:
        window = np.sqrt(2 / 3) * (1 - np.cos(2 * np.pi * (np.arange(length) + 0.5) / length))
        fields = fields * window.astype(fields.dtype)
    (near,) = np.nonzero(factors)
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is left out later
        coefficients = np.asarray(scipy.fft.rfft(fields, axis=-1, norm="forward"))[..., near]
        power = np.square(np.abs(coefficients))
    return power.astype(np.float64) @ factors[near]


@lru_cache
def _factors(length: int, patch: int) -> np.ndarray:
    """Factor m_k of the waves near the wavenumbers of patches, 0 of others."""
    wavenumbers = np.arange(length // 2 + 1)
    if not 1 < patch < length:
        return np.zeros(len(wavenumbers))
    nearest = np.maximum(np.round(wavenumbers * patch / length), 1).astype(int)
    is_near = 4 * np.abs(wavenumbers * patch - nearest * length) <= length
    doubled = (wavenumbers > 0) & (2 * wavenumbers < length)
    return np.where(is_near, 1.0 + doubled, 0.0)
