"""Statistics of fields: weighted means over regions, from which the metrics are made.

For the error e = f - o of a forecast f against truth o, and truth's anomaly b = o - c from the
climatology c, every field gives the weighted means <e>, <e^2>, <|e|>, <e b> and <e o'>; truth alone
gives <b>, <b^2>, <o'>, <o'^2> and <o^2>, where o' is o less its plain mean over the grid, as the
variance of a temperature would drown in the square of its mean. The rest follows without loss, see
``derived``.

Everything is summed in float64 within each field, so that no result depends on how fields are
grouped. Where values are missing (NaN) the means are over the cells that have both forecast and
truth.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

# Values of a tile: what stays in the caches, and so many that threads rarely wait for each other.
_TILE_VALUES = 2**19
# What only some statistics need of truth.
TRUTH_PRODUCTS = frozenset({"centered", "squared_truth"})


@dataclass(frozen=True)
class Averager:
    """Weighted means of fields over regions.

    Args:
        weights: float64 of shape (region, latitude, longitude), with sum 1 in each region.
    """

    weights: np.ndarray

    def __post_init__(self) -> None:
        by_row = self.weights[..., :1]
        zonal = np.array_equal(self.weights, np.broadcast_to(by_row, self.weights.shape))
        object.__setattr__(self, "_rows", by_row[..., 0].T.copy() if zonal else None)
        object.__setattr__(self, "_ones", np.ones(self.weights.shape[-1]))
        object.__setattr__(self, "_cells", self.weights.reshape(len(self.weights), -1).T.copy())

    @property
    def num_regions(self) -> int:
        """Number of regions."""
        return len(self.weights)

    def mean(self, fields: np.ndarray) -> np.ndarray:
        """Means (..., region) of fields (..., latitude, longitude)."""
        rows: np.ndarray | None = self._rows  # type: ignore[attr-defined]
        if rows is not None and self.num_regions > 1:  # one weight in a row: sum the rows first
            return np.vecdot(fields, self._ones) @ rows  # type: ignore[attr-defined]
        return self._by_cell(fields)

    def mean_product(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Means (..., region) of the product of two arrays of fields."""
        rows: np.ndarray | None = self._rows  # type: ignore[attr-defined]
        if rows is not None:
            return np.vecdot(first, second) @ rows
        return self._by_cell(first * second)

    def folded(self, fields: np.ndarray) -> np.ndarray:
        """What fields become that ``mean_folded`` multiplies many others with."""
        return fields * self.weights[0] if self.num_regions == 1 else fields

    def mean_folded(self, first: np.ndarray, folded: np.ndarray) -> np.ndarray:
        """``mean_product`` with fields that went through ``folded``."""
        if self.num_regions > 1:
            return self.mean_product(first, folded)
        flat = (*first.shape[:-2], -1)
        return np.vecdot(first.reshape(flat), folded.reshape(flat))[..., None]

    def _by_cell(self, fields: np.ndarray) -> np.ndarray:
        cells: np.ndarray = self._cells  # type: ignore[attr-defined]
        return fields.astype(np.float64, copy=False).reshape(*fields.shape[:-2], -1) @ cells


@dataclass(frozen=True)
class TruthBlock:
    """Truth and what follows from it alone, at some times.

    Args:
        fields: float64 of shape (time, latitude, longitude).
        anomalies: Fields minus the climatology, likewise.
        folded: Anomalies as ``Averager.folded`` gives them.
        centered: Fields minus their plain means over the grid, likewise; just the fields where no
            statistic needs them.
        complete: Whether a field lacks no cell, of shape (time,).
        means: ``anomaly``, ``squared_anomaly`` and ``squared_climatology`` of shape (time, region),
            and where needed ``truth`` and ``squared_deviation`` of the centered fields and
            ``squared_truth``; ``plain_anomaly`` without weights.
    """

    fields: np.ndarray
    anomalies: np.ndarray
    folded: np.ndarray
    centered: np.ndarray
    complete: np.ndarray
    means: dict[str, np.ndarray]

    @classmethod
    def of(
        cls,
        fields: np.ndarray,
        climatology: np.ndarray,
        averager: Averager,
        plain: Averager | None = None,
        needed: frozenset[str] = TRUTH_PRODUCTS,
    ) -> "TruthBlock":
        """Compute the statistics of truth.

        Args:
            fields: Fields (time, latitude, longitude).
            climatology: At the same times.
            averager: Regions and weights.
            plain: Averages without weights, where needed.
            needed: Which of ``TRUTH_PRODUCTS`` are computed beside the others.
        """
        count, center = len(fields), bool(needed & {"centered"})
        anomalies = np.empty(fields.shape)
        folded = np.empty(fields.shape) if averager.num_regions == 1 else anomalies
        centered = np.empty(fields.shape) if center else fields
        complete = np.ones(count, bool)
        parts = []
        for tile in cache_sized_slices(count, fields[0].size):
            part = np.subtract(fields[tile], climatology[tile], out=anomalies[tile])
            folded[tile] = averager.folded(part)
            finite = np.isfinite(np.vecdot(part, part).sum(axis=-1))
            present = None if finite.all() else np.isfinite(part)
            complete[tile] = finite
            if center:
                np.subtract(fields[tile], _plain_means(fields[tile], present), out=centered[tile])
            averages = _Averages(averager, present, tile)
            means = {
                "anomaly": averages.mean(anomalies),
                "squared_anomaly": averages.square(anomalies),
                "squared_climatology": averages.square(climatology),
            }
            if center:
                means["truth"] = averages.mean(centered)
                means["squared_deviation"] = averages.square(centered)
            if "squared_truth" in needed:
                means["squared_truth"] = averages.square(fields)
            if plain is not None:
                means["plain_anomaly"] = masked_mean(plain, part, present)
            parts.append(means)
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return cls(fields, anomalies, folded, centered, complete, joined)

    def at(self, positions: np.ndarray) -> "TruthAt":
        """Truth at indices of its times, of any shape that takes the place of the axis time."""
        return TruthAt(self, positions)


class TruthAt:
    """Truth at indices of its times, to be taken part by part.

    Where these are evenly spaced along each axis, as valid times by initial and lead time mostly
    are, nothing is copied.

    Args:
        truth: Truth by time.
        positions: Indices of times, of any shape.
    """

    def __init__(self, truth: TruthBlock, positions: np.ndarray) -> None:
        self.positions = positions
        self._steps, self._truth = _even_steps(positions), truth
        names = ("fields", "anomalies", "folded", "centered")
        self._views = {name: self._view(getattr(truth, name)) for name in names}

    def __getitem__(self, where: tuple[slice, ...]) -> TruthBlock:
        """Truth of a part of the indices; ``complete`` and ``means`` stay by time."""
        rows = where if self._steps is not None else self.positions[where]
        parts = {name: values[rows] for name, values in self._views.items()}
        return replace(self._truth, **parts)

    def _view(self, values: np.ndarray) -> np.ndarray:
        if self._steps is None:
            return values
        stride, *rest = values.strides
        return as_strided(
            values[int(self.positions.flat[0]) :],
            (*self.positions.shape, *values.shape[1:]),
            (*(step * stride for step in self._steps), *rest),
            writeable=False,
        )


def _even_steps(positions: np.ndarray) -> list[int] | None:
    """Steps between indices along each axis, if they are even and none goes back."""
    first = int(positions.flat[0])
    even, steps = np.full((1,) * positions.ndim, first), []
    for axis, length in enumerate(positions.shape):
        steps.append(int(positions.take(1, axis).flat[0]) - first if length > 1 else 0)
        shape = [length if other == axis else 1 for other in range(positions.ndim)]
        even = even + steps[axis] * np.arange(length).reshape(shape)
    return steps if min(steps) >= 0 and (even == positions).all() else None


@dataclass(frozen=True)
class _Averages:
    """Means of a tile of fields over the cells that are present."""

    averager: Averager
    present: np.ndarray | None
    tile: slice

    def mean(self, values: np.ndarray) -> np.ndarray:
        return masked_mean(self.averager, values[self.tile], self.present)

    def square(self, values: np.ndarray) -> np.ndarray:
        part = values[self.tile]
        if self.present is None:
            return self.averager.mean_product(part, part)
        return masked_mean(self.averager, part**2, self.present)


def cache_sized_slices(total: int, num_cells: int) -> Iterator[slice]:
    """Ranges of fields that stay in the caches."""
    length = tile_length(num_cells)
    for start in range(0, total, length):
        yield slice(start, min(start + length, total))


def tile_length(num_cells: int) -> int:
    """How many fields stay in the caches."""
    return max(1, _TILE_VALUES // num_cells)


def _plain_means(fields: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """Means over the grid without weights, (time, 1, 1), over the cells that are present."""
    if present is None:
        return fields.mean(axis=(1, 2), keepdims=True)
    counts = present.sum(axis=(1, 2), keepdims=True)
    return np.where(present, fields, 0.0).sum(axis=(1, 2), keepdims=True) / np.maximum(counts, 1)


def masked_mean(averager: Averager, values: np.ndarray, present: np.ndarray | None) -> np.ndarray:
    """Means over the cells that are present; NaN where a region has none."""
    if present is None:
        return averager.mean(values)
    sums = averager.mean(np.where(present, values, 0.0))
    shares = averager.mean(present.astype(np.float64))
    return np.divide(sums, shares, out=np.full_like(sums, np.nan), where=shares > 0)


class ErrorStatistics:
    """Means of errors, computed in buffers that are used again.

    Args:
        averager: Regions and weights.
        num_fields: Fields that fit into the buffers.
        shape: Latitudes and longitudes.
        needed: Which of ``absolute_error`` and ``error_truth`` are computed beside the others.
        plain: Averages without weights, for ``plain_error``.
    """

    def __init__(
        self,
        averager: Averager,
        num_fields: int,
        shape: tuple[int, ...],
        needed: frozenset[str],
        plain: Averager | None = None,
    ) -> None:
        self._averager, self._needed, self._plain = averager, needed, plain
        size = num_fields * math.prod(shape)
        # What is not needed is not written: memory that is not touched costs nothing.
        self._error, self._absolute = np.empty(size), np.empty(size)

    def __call__(self, forecast: np.ndarray, truth: TruthBlock) -> dict[str, np.ndarray]:
        """Means by name, of shape (..., region), and ``missing``, the number of missing cells.

        Args:
            forecast: Fields of shape (..., latitude, longitude), as many as the buffers hold.
            truth: Truth at the times at which the forecasts are valid, see ``TruthAt``.
        """
        error = self._error[: forecast.size].reshape(forecast.shape)
        np.copyto(error, forecast)
        np.subtract(error, truth.fields, out=error)
        average = self._averager
        squared = average.mean_product(error, error)
        if not np.isfinite(squared).all():
            return self._masked(forecast, truth)
        result = {
            "error": average.mean(error),
            "squared_error": squared,
            "error_anomaly": average.mean_folded(error, truth.folded),
            "missing": np.zeros(squared.shape),
        }
        if "error_truth" in self._needed:
            result["error_truth"] = average.mean_product(error, truth.centered)
        if "absolute_error" in self._needed:
            absolute = self._absolute[: forecast.size].reshape(forecast.shape)
            result["absolute_error"] = average.mean(np.abs(error, out=absolute))
        if self._plain is not None:
            result["plain_error"] = self._plain.mean(error)
        return result

    def _masked(self, forecast: np.ndarray, truth: TruthBlock) -> dict[str, np.ndarray]:
        """With truth's own means over the same cells, which differ where forecasts lack some."""
        fields, anomalies, centered = truth.fields, truth.anomalies, truth.centered
        error = forecast - fields
        present = np.isfinite(error) & np.isfinite(anomalies)
        values = {
            "error": error,
            "squared_error": error**2,
            "error_anomaly": error * anomalies,
            "error_truth": error * centered,
            "absolute_error": np.abs(error),
            "anomaly": anomalies,
            "squared_anomaly": anomalies**2,
            "truth": centered,
            "squared_deviation": centered**2,
            "squared_truth": fields**2,
        }
        result = {n: masked_mean(self._averager, v, present) for n, v in values.items()}
        if self._plain is not None:
            result["plain_error"] = masked_mean(self._plain, error, present)
            result["plain_anomaly"] = masked_mean(self._plain, anomalies, present)
        missing = (~present).sum(axis=(-2, -1))[..., None]
        return result | {"missing": np.broadcast_to(missing, result["error"].shape).astype(float)}
