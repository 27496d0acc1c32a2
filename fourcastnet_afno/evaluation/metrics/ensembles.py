"""Metrics of an ensemble x_1..x_M against truth o.

CRPS with the mean skill term s = (1/M) sum_i |x_i - o| and the pair term
d = sum_{i,j} |x_i - x_j|, which the sorted members give as 2 sum_i (2 i - M - 1) x_(i):

    crps_biased      s - d / (2 M^2)               the exact CRPS of the empirical distribution
    crps             s - d / (2 M (M - 1))         fair: its expectation does not depend on M
    crps_almost_fair 0.95 fair + 0.05 biased

The energy score is the same with fields for numbers and the weighted norm sqrt(<x^2>) for the
absolute value, fair. For M = 1 every CRPS is the absolute error and the energy score the root mean
square error.

References:
    Gneiting and Raftery, 2007, https://doi.org/10.1198/016214506000001437 (CRPS, energy score).
    Zamo and Naveau, 2018, https://doi.org/10.1007/s11004-017-9709-7 (estimators of the CRPS).
    Lang et al., 2024, https://arxiv.org/abs/2412.15832 (almost fair CRPS).
    Talagrand et al., 1997; Hamill, 2001, https://doi.org/10.1175/1520-0493(2001)129<0550:IORHFV>2.0.CO;2
    (rank histogram).
"""

from functools import partial

import numpy as np

from fourcastnet_afno.evaluation.metrics.deterministic import SQUARED_ERROR
from fourcastnet_afno.evaluation.metrics.metric import (
    Metric,
    computed_together,
    register,
    safe_ratio,
)
from fourcastnet_afno.evaluation.statistics.averages import (
    Averager,
    cache_sized_slices,
    masked_mean,
    slices_of,
)
from fourcastnet_afno.evaluation.statistics.pairs import PairBlock

_ALMOST_FAIR = 0.95
_SORTED_TOGETHER = 8  # of the values of other tiles, which are not copied
_CELLS_TOGETHER, _VALUES_TOGETHER = 2**12, 2**16  # of distances of members
_MOST_OF_A_BYTE = 255
# From so many float32 members on, products of pairs are float32, if at most this share of the pairs
# is closer than this part of their squared norms: what is close is lost in the rounding.
_MANY, _CLOSE_PAIRS, _CLOSE = 64, 1e-3, 1e-2


def cell_scores(
    members: np.ndarray, truth: np.ndarray, mean: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Scores of each cell, float64 (field, ...): estimators of the CRPS, and moments.

    The moments are the variance over members, without bias, and the squared error of their mean
    less what the finite ensemble adds to it. A cell that lacks a member or truth is NaN.

    Members have the shape (field, realization, ...), truth (field, ...), as has the mean over
    members, if it is known, which is float64.
    """
    count, shape = members.shape[1], truth.shape
    mean = _mean_of(members, mean)
    flat = members.reshape(*members.shape[:2], -1)
    bias = (mean - truth).reshape(len(truth), -1)
    sums = [
        _sums_over_members(values, center, shift)
        for values, center, shift in zip(flat, mean.reshape(bias.shape), bias, strict=True)
    ]
    pairs, squares, distances = (np.reshape(x, shape) for x in zip(*sums, strict=True))
    skill, variance = distances / count, squares / max(count - 1, 1)
    biased = skill - pairs / (2 * count**2)
    fair = skill - pairs / (2 * count * max(count - 1, 1))
    almost_fair = _ALMOST_FAIR * fair + (1 - _ALMOST_FAIR) * biased
    return {
        "crps": fair,
        "crps_biased": biased,
        "crps_almost_fair": almost_fair,
        "ensemble_variance": variance,
        "debiased_squared_error": bias.reshape(shape) ** 2 - variance / count,
    }


def _mean_of(members: np.ndarray, known: np.ndarray | None) -> np.ndarray:
    """The mean over members (field, realization, ...), unless it is known."""
    return members.mean(axis=1, dtype=np.float64) if known is None else known


def _sums_over_members(
    values: np.ndarray, center: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums (cell,) over members x (realization, cell).

    They are those of the distances of all pairs, of (x - center)^2 and of |x - center + shift|.
    Members are sorted in their own precision, some cells at a time, that stay in the cache.
    """
    count, num_cells = values.shape
    ranks = 2.0 * np.arange(1, count + 1) - count - 1
    pairs, squares, distances = np.empty((3, num_cells))
    for cells in cache_sized_slices(num_cells, _SORTED_TOGETHER * count):
        # Rows that are a power of two apart fall on each other in the cache: not so the copy's.
        ordered = np.ascontiguousarray(values[:, cells]).T.copy()
        ordered.sort(axis=-1)
        deviations = ordered.astype(np.float64)
        deviations -= center[cells, None]
        pairs[cells] = 2 * deviations @ ranks
        squares[cells] = np.vecdot(deviations, deviations)
        deviations += shift[cells, None]
        distances[cells] = np.abs(deviations, out=deviations).sum(axis=-1)
    return pairs, squares, distances


def ensemble_statistics(
    members: np.ndarray, truth: np.ndarray, averager: Averager, mean: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Weighted means (field, region) of the probabilistic scores of each field.

    Members have the shape (field, realization, latitude, longitude), truth and the mean over
    members, if it is known, are one without members.
    """
    mean = _mean_of(members, mean)
    cells = cell_scores(members, truth, mean)
    finite = np.isfinite(cells["crps"])
    present = None if finite.all() else finite
    result = {name: masked_mean(averager, values, present) for name, values in cells.items()}
    if present is None:
        return result | {"energy_score": energy_score(members, truth, averager, mean)}
    members = np.where(present[:, None], members, 0.0)
    truth, mean = np.where(present, truth, 0.0), np.where(present, mean, 0.0)
    weights = averager.mean(present.astype(np.float64))  # norms over the cells that are there
    energy = energy_score(members, truth, averager, mean)
    return result | {"energy_score": energy / np.sqrt(np.where(weights > 0, weights, np.nan))}


def energy_score(
    members: np.ndarray, truth: np.ndarray, averager: Averager, mean: np.ndarray | None = None
) -> np.ndarray:
    """Fair energy score of each field and region, of shape (field, region).

    Of many float32 members it is right to about seven digits, else to rounding in float64.
    """
    count = members.shape[1]
    mean = _mean_of(members, mean)
    flat = members.reshape(*members.shape[:2], -1)
    single = members.dtype == np.float32 and count >= _MANY
    result = np.empty((len(members), averager.num_regions))
    for field, values in enumerate(flat):
        center, observed = mean[field].ravel(), truth[field].ravel()
        for region, weights in enumerate(averager.weights.reshape(averager.num_regions, -1)):
            points = values, center, observed, np.sqrt(weights)
            skill, pairs = _distances(*points, dtype=np.float32) if single else (None, None)
            if pairs is None:
                skill, pairs = _distances(*points, dtype=np.float64)
            result[field, region] = skill - pairs / (2 * count * max(count - 1, 1))
    return result


def _distances(
    values: np.ndarray, center: np.ndarray, observed: np.ndarray, roots: np.ndarray, dtype: type
) -> tuple[float, float | None]:
    """Mean distance of members (realization, cell) to truth, and the sum of those of all pairs.

    Roots of the weights (cell,) scale the cells. The sum is None where rounding might show.
    """
    product, squares = np.zeros(0), np.zeros(len(values))
    for cells in slices_of(len(center), _CELLS_TOGETHER):
        middle, scale = center[cells].astype(dtype), roots[cells].astype(dtype)
        points = np.subtract(values[:, cells], middle, dtype=dtype)  # which changes no distance
        points *= scale
        part = points @ points.T  # symmetric: half the work
        product = np.add(product, part, dtype=np.float64) if product.size else part
        points -= ((observed[cells] - middle) * scale).astype(dtype)
        squares += np.vecdot(points, points)
    return float(np.sqrt(squares).mean()), _sum_of_distances(product, dtype)


def _sum_of_distances(product: np.ndarray, dtype: type) -> float | None:
    """Sum of the distances of all pairs of points, from their inner products (point, point)."""
    total, num_close, norms = 0.0, 0, np.diagonal(product).astype(np.float64)
    for some in slices_of(len(norms), _VALUES_TOGETHER // (2 * len(norms)) + 1):
        later = slice(some.start, None)
        sums = norms[some, None] + norms[later]
        squares = sums - 2 * product[some, later]
        if dtype == np.float32:
            num_close += np.count_nonzero(squares <= np.multiply(sums, _CLOSE, out=sums))
        distances = np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
        total += 2 * distances.sum() - distances[:, : len(distances)].sum()
    is_close = 2 * (num_close - len(norms)) > _CLOSE_PAIRS * len(norms) ** 2
    return None if is_close else float(total)


def rank_histogram(members: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of the cells by the number of members below truth; ties are shared evenly.

    Members, truth and weights (sum 1) are as for ``ensemble_statistics``. The result has the shape
    (field, realization + 1); the sum of a complete field is 1.
    """
    count = members.shape[1]
    rounded = truth.astype(members.dtype)
    if np.array_equal(rounded, truth, equal_nan=True):  # comparing without a copy of the members
        truth = rounded
    below, equal, present = np.zeros(truth.shape, int), np.zeros(truth.shape, int), True
    for some in slices_of(count, _MOST_OF_A_BYTE):
        part = members[:, some]
        below += _count(part < truth[:, None])
        equal += _count(part == truth[:, None])
        present &= np.isfinite(part).all(axis=1)
    cells = np.where(present & np.isfinite(truth), weights, 0.0) / (equal + 1)
    result = np.zeros((len(members), count + 1))
    for field in range(len(members)):
        for tie in range(int(equal[field].max()) + 1):
            chosen = equal[field] >= tie
            ranks = below[field][chosen] + tie
            result[field] += np.bincount(ranks, cells[field][chosen], minlength=count + 1)
    return result


def _count(is_true: np.ndarray) -> np.ndarray:
    """How many members (field, realization, ...) of at most 255 it is true for."""
    return is_true.view(np.uint8).sum(axis=1, dtype=np.uint8)


def _ensemble_scores(pair: PairBlock) -> dict[str, np.ndarray]:
    if not pair.settings.has_ensembles:
        return {}
    members, truth = pair.flat(pair.members), pair.flat(pair.truth)
    scores = ensemble_statistics(members, truth, pair.settings.averager, pair.flat(pair.forecast))
    return {name: pair.unflat(values) for name, values in scores.items()}


_LABELS = {
    "crps": "CRPS",
    "crps_biased": "CRPS (biased)",
    "crps_almost_fair": "CRPS (almost fair)",
    "energy_score": "energy score",
}
*_SCORES, _VARIANCE, _DEBIASED = computed_together(
    _ensemble_scores, *_LABELS, "ensemble_variance", "debiased_squared_error"
)
_metric = partial(Metric, is_optional=False)
_ratio = partial(
    _metric,
    best="one",
    units="none",
    combine=lambda variance, square: safe_ratio(np.sqrt(variance), np.sqrt(np.maximum(square, 0))),
)
register(
    *(_metric(name=s.name, label=_LABELS[s.name], statistics=(s,)) for s in _SCORES),
    # sqrt(E <var(x)>) (WB2).
    _metric(name="spread", label="spread", statistics=(_VARIANCE,), combine=np.sqrt, best="high"),
    # Spread over the RMSE of the ensemble mean (WB2), sqrt(M / (M + 1)) for a reliable ensemble.
    _ratio(
        name="spread_skill_ratio", label="spread over RMSE", statistics=(_VARIANCE, SQUARED_ERROR)
    ),
    # RMSE of the ensemble mean without the error of a finite ensemble (WB2).
    _metric(
        name="debiased_rmse",
        label="RMSE of the ensemble mean, debiased",
        statistics=(_DEBIASED,),
        combine=lambda square: np.sqrt(np.maximum(square, 0)),
    ),
    # Has the expectation of sqrt((M + 1) / M) spread / RMSE and needs no M; 1 for a reliable
    # ensemble of any size: Fortin et al., 2014, https://doi.org/10.1175/JHM-D-14-0008.1
    _ratio(
        name="debiased_spread_skill_ratio",
        label="spread over RMSE, debiased",
        statistics=(_VARIANCE, _DEBIASED),
    ),
)
