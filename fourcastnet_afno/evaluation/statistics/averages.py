"""Weighted means of fields over regions, summed in float64 within each field.

No result depends on how fields are grouped. Where values are missing (NaN) the means are over the
cells that have both forecast and truth.
"""

import numpy as np

# Values of a tile: few enough to stay in the caches, so many that threads rarely wait.
_TILE_VALUES = 2**19


class Averager:
    """Weighted means over regions; float64 weights (region, latitude, longitude) of sum 1 each."""

    def __init__(self, weights: np.ndarray) -> None:
        self.weights, self.num_regions = weights, len(weights)
        by_row = weights[..., :1]
        zonal = np.array_equal(weights, np.broadcast_to(by_row, weights.shape))
        self._rows = by_row[..., 0].T.copy() if zonal else None
        self._ones = np.ones(weights.shape[-1])
        self._cells = weights.reshape(len(weights), -1).T.copy()

    def mean(self, fields: np.ndarray) -> np.ndarray:
        """Means (..., region) of fields (..., latitude, longitude)."""
        if self._rows is not None and self.num_regions > 1:  # sum the rows first
            return np.vecdot(fields, self._ones) @ self._rows
        return self._by_cell(fields)

    def mean_product(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Means (..., region) of the product of two arrays of fields."""
        if self._rows is not None:
            return np.vecdot(first, second) @ self._rows
        return self._by_cell(first * second)

    def preweight(self, fields: np.ndarray) -> np.ndarray:
        """Prepare fields that ``mean_preweighted`` multiplies many others with."""
        return fields * self.weights[0] if self.num_regions == 1 else fields

    def mean_preweighted(self, first: np.ndarray, preweighted: np.ndarray) -> np.ndarray:
        """``mean_product`` with fields that went through ``preweight``."""
        if self.num_regions > 1:
            return self.mean_product(first, preweighted)
        flat = (*first.shape[:-2], -1)
        return np.vecdot(first.reshape(flat), preweighted.reshape(flat))[..., None]

    def _by_cell(self, fields: np.ndarray) -> np.ndarray:
        return fields.astype(np.float64, copy=False).reshape(*fields.shape[:-2], -1) @ self._cells


def masked_mean(averager: Averager, values: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """Means over the cells that are present; NaN where a region has none."""
    if present is None:
        return averager.mean(values)
    sums = averager.mean(np.where(present, values, 0.0))
    weights = averager.mean(present.astype(np.float64))
    return np.divide(sums, weights, out=np.full_like(sums, np.nan), where=weights > 0)


def slices_of(total: int, length: int) -> list[slice]:
    """Ranges of ``length`` that cover a total; the last one may be shorter."""
    return [slice(start, min(start + length, total)) for start in range(0, total, length)]


def cache_sized_slices(total: int, num_cells: int) -> list[slice]:
    """Ranges of fields that stay in the caches."""
    return slices_of(total, tile_length(num_cells))


def tile_length(num_cells: int) -> int:
    """How many fields stay in the caches."""
    return max(1, _TILE_VALUES // num_cells)
