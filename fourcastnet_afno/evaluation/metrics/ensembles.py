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
)
from fourcastnet_afno.evaluation.statistics.pairs import PairBlock

_ALMOST_FAIR = 0.95
_SORTED_TOGETHER = 8  # of the values of other tiles, which are not copied


def cell_crps(members: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Estimators of the CRPS of each cell, float64 (field, ...).

    Members have the shape (field, realization, ...), truth (field, ...). Members of any precision
    are sorted in it, some cells at a time, that stay in the cache next to each other.
    """
    count, flat = members.shape[1], members.reshape(*members.shape[:2], -1)
    observed, ranks = truth.reshape(len(truth), -1), 2.0 * np.arange(1, count + 1) - count - 1
    skill, pairs = np.empty(observed.shape), np.empty(observed.shape)
    for field, values in enumerate(flat):
        for cells in cache_sized_slices(values.shape[1], _SORTED_TOGETHER * count):
            ordered = values[:, cells].T.copy()
            ordered.sort(axis=-1)
            ordered = ordered.astype(np.float64)
            pairs[field, cells] = 2 * ordered @ ranks
            ordered -= observed[field, cells, None]
            skill[field, cells] = np.abs(ordered, out=ordered).mean(axis=-1)
    biased = (skill - pairs / (2 * count**2)).reshape(truth.shape)
    fair = (skill - pairs / (2 * count * max(count - 1, 1))).reshape(truth.shape)
    almost_fair = _ALMOST_FAIR * fair + (1 - _ALMOST_FAIR) * biased
    return {"crps": fair, "crps_biased": biased, "crps_almost_fair": almost_fair}


def ensemble_statistics(
    members: np.ndarray, truth: np.ndarray, averager: Averager
) -> dict[str, np.ndarray]:
    """Weighted means (field, region) of the probabilistic scores of each field.

    Members have the shape (field, realization, latitude, longitude), truth is one without members.
    """
    count = members.shape[1]
    finite = np.isfinite(members).all(axis=1) & np.isfinite(truth)
    present = None if finite.all() else finite
    if present is not None:
        members = np.where(present[:, None], members, 0.0)
        truth = np.where(present, truth, 0.0)
    cells = cell_crps(members, truth)
    members = members.astype(np.float64)
    variance = members.var(axis=1, ddof=1) if count > 1 else np.zeros_like(truth)
    cells["ensemble_variance"] = variance  # unbiased
    cells["debiased_squared_error"] = (members.mean(axis=1) - truth) ** 2 - variance / count
    result = {name: masked_mean(averager, values, present) for name, values in cells.items()}
    energy = energy_score(members, truth, averager)
    if present is not None:  # norms over the cells that are there
        weights = averager.mean(present.astype(np.float64))
        energy = energy / np.sqrt(np.where(weights > 0, weights, np.nan))
    return result | {"energy_score": energy}


def energy_score(members: np.ndarray, truth: np.ndarray, averager: Averager) -> np.ndarray:
    """Fair energy score of each field and region, of shape (field, region)."""
    count = members.shape[1]
    center = members.mean(axis=1, keepdims=True)
    points = np.concatenate([members - center, truth[:, None] - center], axis=1)
    flat = points.reshape(*points.shape[:2], -1)
    result = np.empty((len(members), averager.num_regions))
    for region, weights in enumerate(averager.weights.reshape(averager.num_regions, -1)):
        scaled = flat * np.sqrt(weights)
        gram = scaled @ scaled.swapaxes(1, 2)  # symmetric: half the work
        squares = np.diagonal(gram, axis1=1, axis2=2)
        distances = np.sqrt(np.maximum(squares[:, :, None] + squares[:, None, :] - 2 * gram, 0))
        skill = distances[:, :count, count].mean(axis=1)
        pairs = distances[:, :count, :count].sum(axis=(1, 2))
        result[:, region] = skill - (pairs / (2 * count * (count - 1)) if count > 1 else 0)
    return result


def rank_histogram(members: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of the cells by the number of members below truth; ties are shared evenly.

    Members, truth and weights (sum 1) are as for ``ensemble_statistics``. The result has the shape
    (field, realization + 1); the sum of a complete field is 1.
    """
    count = members.shape[1]
    below = (members < truth[:, None]).sum(axis=1)
    equal = (members == truth[:, None]).sum(axis=1)
    present = np.isfinite(members).all(axis=1) & np.isfinite(truth)
    cells = np.where(present, weights, 0.0) / (equal + 1)
    result = np.zeros((len(members), count + 1))
    for field in range(len(members)):
        for tie in range(int(equal[field].max()) + 1):
            chosen = equal[field] >= tie
            ranks = below[field][chosen] + tie
            result[field] += np.bincount(ranks, cells[field][chosen], minlength=count + 1)
    return result


def _ensemble_scores(pair: PairBlock) -> dict[str, np.ndarray]:
    if not pair.settings.has_ensembles:
        return {}
    members, truth = pair.flat(pair.members), pair.flat(pair.truth)
    scores = ensemble_statistics(members, truth, pair.settings.averager)
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
