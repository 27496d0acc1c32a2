"""Pairs of forecast and truth at the valid time: the fields and means that statistics ask for.

For the error e = f - o of a forecast f against truth o, and truth's anomaly b = o - c from the
climatology c, a statistic takes weighted means such as <e>, <e^2>, <e b> and <e o'>, where o' is o
less its unweighted mean over the grid: the variance of a temperature would drown in the square of
its mean. What truth alone gives, such as <b^2>, is computed once for all forecasts. Nothing is
computed before a statistic asks for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fourcastnet_afno.evaluation.statistics.averages import (
    Averager,
    cache_sized_slices,
    masked_mean,
    tile_length,
)
from fourcastnet_afno.evaluation.statistics.patches import PatchEnergy

# Means of truth alone: of which fields, and whether of their squares.
_TRUTH_MEANS = {
    "anomaly": ("anomalies", False),
    "squared_anomaly": ("anomalies", True),
    "squared_climatology": ("climatology", True),
    "truth": ("centered", False),
    "squared_deviation": ("centered", True),
    "squared_truth": ("fields", True),
}


@dataclass(frozen=True)
class SeepsThresholds:
    """Thresholds of SEEPS for one channel."""

    dry_fraction: np.ndarray  # share of dry times, (latitude, longitude)
    heavy: Callable[[np.ndarray], np.ndarray]  # from this at times, (time, latitude, longitude)
    dry: float  # up to this a value is dry


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """Weights and thresholds that statistics use; thresholds are by label of the channel."""

    averager: Averager
    unweighted: Averager  # over the same regions
    has_ensembles: bool = False  # whether probabilistic statistics are computed
    thresholds: Mapping[str, np.ndarray] = field(default_factory=dict)  # (quantile, lat, lon)
    neighborhoods: Sequence[int] = ()  # widths of the squares of the fraction skill score
    closed: tuple[bool, bool] = (False, True)  # axes of the grid that are circles
    extremes: bool = False  # whether high quantiles of each field are compared
    seeps: Mapping[str, SeepsThresholds] = field(default_factory=dict)


class TruthBlock:
    """Truth of one channel and the means that follow from it alone.

    Fields and climatology have the shape (time, latitude, longitude), with NaN where missing.
    """

    def __init__(self, fields: np.ndarray, climatology: np.ndarray, settings: PairSettings) -> None:
        self.fields, self.climatology, self.settings = fields, climatology, settings
        averager, count = settings.averager, len(fields)
        self.anomalies = np.empty(fields.shape)
        self.preweighted = np.empty(fields.shape) if averager.num_regions == 1 else self.anomalies
        self.complete = np.ones(count, bool)  # whether a field lacks no cell
        self._means: dict[str, np.ndarray] = {}
        self._patch_energies: dict[PatchEnergy, np.ndarray] = {}
        for tile in self._tiles():
            anomalies = np.subtract(fields[tile], climatology[tile], out=self.anomalies[tile])
            self.preweighted[tile] = averager.preweight(anomalies)
            squares = np.vecdot(anomalies, anomalies).sum(axis=-1)
            self.complete[tile] = np.isfinite(squares)

    @cached_property
    def centered(self) -> np.ndarray:
        """Fields minus their unweighted means over the grid."""
        centered = np.empty(self.fields.shape)
        for tile in self._tiles():
            fields, present = self.fields[tile], self._present(tile)
            if present is None:
                means = fields.mean(axis=(1, 2), keepdims=True)
            else:
                sums = np.where(present, fields, 0.0).sum(axis=(1, 2), keepdims=True)
                means = sums / np.maximum(present.sum(axis=(1, 2), keepdims=True), 1)
            np.subtract(fields, means, out=centered[tile])
        return centered

    def mean(self, name: str) -> np.ndarray:
        """Means (time, region) of truth alone over the cells that it has, see ``_TRUTH_MEANS``."""
        if name not in self._means:
            self._means[name] = np.concatenate([self._mean(name, t) for t in self._tiles()])
        return self._means[name]

    def patch_energies(self, energy: PatchEnergy) -> np.ndarray:
        """Energies (time, axis) of anomalies at the scales of patches; NaN if one lacks a cell."""
        if energy not in self._patch_energies:
            energies = np.concatenate([energy(self.anomalies[tile]) for tile in self._tiles()])
            self._patch_energies[energy] = np.where(self.complete[:, None], energies, np.nan)
        return self._patch_energies[energy]

    def _mean(self, name: str, tile: slice) -> np.ndarray:
        present = self._present(tile)
        if name == "unweighted_anomaly":
            return masked_mean(self.settings.unweighted, self.anomalies[tile], present)
        source, is_squared = _TRUTH_MEANS[name]
        values, averager = getattr(self, source)[tile], self.settings.averager
        if is_squared and present is None:
            return averager.mean_product(values, values)
        return masked_mean(averager, values**2 if is_squared else values, present)

    def _tiles(self) -> list[slice]:
        return cache_sized_slices(len(self.fields), self.fields[0].size)

    def _present(self, tile: slice) -> np.ndarray | None:
        return None if self.complete[tile].all() else np.isfinite(self.anomalies[tile])


class TruthAt:
    """Truth at indices of its times, to be taken tile by tile.

    Where these are evenly spaced along each axis, as valid times by initial and lead time mostly
    are, nothing is copied.
    """

    def __init__(self, truth: TruthBlock, positions: np.ndarray) -> None:
        self.positions, self._truth = positions, truth
        self._steps = _even_steps(positions)
        self._views: dict[str, np.ndarray] = {}

    def take(self, name: str, where: tuple[slice, ...]) -> np.ndarray:
        """``fields``, ``anomalies``, ``preweighted`` or ``centered`` of a range of the indices."""
        if self._steps is None:
            return getattr(self._truth, name)[self.positions[where]]
        if name not in self._views:
            values = getattr(self._truth, name)
            stride, *rest = values.strides
            self._views[name] = as_strided(
                values[int(self.positions.flat[0]) :],
                (*self.positions.shape, *values.shape[1:]),
                (*(step * stride for step in self._steps), *rest),
                writeable=False,
            )
        return self._views[name][where]

    def mean(self, name: str, where: tuple[slice, ...] = ()) -> np.ndarray:
        """See ``TruthBlock.mean``, for a range of the indices."""
        return self._truth.mean(name)[self.positions[where]]

    def patch_energies(self, energy: PatchEnergy, where: tuple[slice, ...]) -> np.ndarray:
        """See ``TruthBlock.patch_energies``, of a range of the indices."""
        return self._truth.patch_energies(energy)[self.positions[where]]

    def no_cells(self) -> np.ndarray:
        """Zeros of the shape of a mean."""
        return np.zeros((*self.positions.shape, self._truth.settings.averager.num_regions))


def _even_steps(positions: np.ndarray) -> list[int] | None:
    """Steps between indices along each axis, if they are even and none goes back."""
    first = int(positions.flat[0])
    even, steps = np.full((1,) * positions.ndim, first), []
    for axis, length in enumerate(positions.shape):
        steps.append(int(positions.take(1, axis).flat[0]) - first if length > 1 else 0)
        shape = [length if other == axis else 1 for other in range(positions.ndim)]
        even = even + steps[axis] * np.arange(length).reshape(shape)
    return steps if min(steps) >= 0 and (even == positions).all() else None


def make_buffers(num_cells: int) -> np.ndarray:
    """Memory for the blocks of fields of so many cells; what is not touched costs nothing."""
    return np.empty((2, tile_length(num_cells) * num_cells))


class PairBlock:
    """Forecasts of one channel and truth at their valid times, a tile of them.

    All fields have the shape (..., latitude, longitude), all means (..., region). Means are over
    the cells that both have.
    Members have the shape (..., realization, latitude, longitude). Truth is of all tiles,
    ``where`` is this tile's range of it. Blocks write over the buffers one after another.
    """

    def __init__(
        self,
        members: np.ndarray,
        truth: TruthAt,
        where: tuple[slice, ...],
        *,
        times: np.ndarray,
        label: str,
        settings: PairSettings,
        buffers: np.ndarray,
        patch_energy: PatchEnergy | None = None,
    ) -> None:
        self.members, self.times, self.label, self.settings = members, times, label, settings
        single = members.shape[-3] == 1
        self.forecast = members[..., 0, :, :] if single else members.mean(-3, dtype=np.float64)
        self._truth, self._where, self._patch_energy = truth, where, patch_energy
        self._known: dict[Callable[[PairBlock], Any], Any] = {}
        shape = self.forecast.shape
        # Memory that one statistic after another may write over, and the errors.
        self.scratch, self.error = (b[: self.forecast.size].reshape(shape) for b in buffers)
        np.copyto(self.error, self.forecast)
        np.subtract(self.error, self.truth, out=self.error)
        self.present: np.ndarray | None = None  # cells that both have, where one lacks some
        self.squared_error = self.mean_product(self.error, self.error)
        if not np.isfinite(self.squared_error).all() or not truth.take("complete", where).all():
            self.present = np.isfinite(self.error) & np.isfinite(self.anomalies)
            self.squared_error = self.mean_product(self.error, self.error)

    @property
    def truth(self) -> np.ndarray:
        """Truth at the valid times."""
        return self._truth.take("fields", self._where)

    @property
    def anomalies(self) -> np.ndarray:
        """Truth minus the climatology."""
        return self._truth.take("anomalies", self._where)

    @property
    def centered(self) -> np.ndarray:
        """Truth minus its unweighted mean over the grid."""
        return self._truth.take("centered", self._where)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Weighted means over the cells that both have."""
        return masked_mean(self.settings.averager, values, self.present)

    def mean_product(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Weighted means of a product."""
        if self.present is None:
            return self.settings.averager.mean_product(first, second)
        return self.mean(first * second)

    def mean_error_anomaly(self) -> np.ndarray:
        """Weighted means of the error times truth's anomaly."""
        if self.present is not None:
            return self.mean(self.error * self.anomalies)
        preweighted = self._truth.take("preweighted", self._where)
        return self.settings.averager.mean_preweighted(self.error, preweighted)

    def unweighted_mean(self, values: np.ndarray) -> np.ndarray:
        """Means without weights."""
        return masked_mean(self.settings.unweighted, values, self.present)

    def truth_mean(self, name: str) -> np.ndarray:
        """Means of truth alone, over the cells that both have.

        The name is ``anomaly``, ``squared_anomaly``, ``squared_truth``; ``truth`` and
        ``squared_deviation`` of the centered fields; ``unweighted_anomaly``; or
        ``squared_climatology``, which is over truth's own cells.
        """
        if self.present is None or name == "squared_climatology":
            return self._truth.mean(name, self._where)
        if name == "unweighted_anomaly":
            return self.unweighted_mean(self.anomalies)
        source, is_squared = _TRUTH_MEANS[name]
        values = self._truth.take(source, self._where)
        return self.mean(values**2 if is_squared else values)

    def num_missing(self) -> np.ndarray:
        """Cells (..., region) that forecast or truth lacks, the same for every region."""
        if self.present is None:
            return np.zeros(self.squared_error.shape)
        missing = (~self.present).sum(axis=(-2, -1))[..., None]
        return np.broadcast_to(missing, self.squared_error.shape).astype(float)

    def patch_energies(self) -> np.ndarray | None:
        """Energies (..., 4, region) of anomalies at the scales of the forecast's patches.

        They are the forecast's, along rows and columns, and truth's; of complete fields, the same
        for every region; the mean over members. ``None`` where the patches are not known. Edges
        would be lost in the climatology, which has much energy from pole to pole.
        """
        if self._patch_energy is None:
            return None
        climatology = self._truth.take("climatology", self._where)[..., None, :, :]
        ours = self._patch_energy(self.members - climatology).mean(axis=-2)
        theirs = self._truth.patch_energies(self._patch_energy, self._where)
        both = np.concatenate([ours, theirs], axis=-1)
        known = np.isfinite(both).all(axis=-1, keepdims=True)
        both = np.where(known, both, np.nan)[..., None]
        return np.repeat(both, self.settings.averager.num_regions, axis=-1)

    def once(self, function: Callable[["PairBlock"], Any]) -> Any:  # noqa: ANN401
        """Result of a function of this block, computed when it is first asked for."""
        if function not in self._known:
            self._known[function] = function(self)
        return self._known[function]

    def flat(self, fields: np.ndarray) -> np.ndarray:
        """Fields or members with a single leading axis."""
        leading = len(self.times.shape)
        return fields.reshape(-1, *fields.shape[leading:])

    def unflat(self, values: np.ndarray) -> np.ndarray:
        """Undo ``flat``."""
        return values.reshape(*self.times.shape, *values.shape[1:])
