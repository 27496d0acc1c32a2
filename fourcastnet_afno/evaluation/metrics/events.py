"""Metrics of events and extremes: Brier, reliability, fraction skill, high quantiles, SEEPS.

An event is that a value exceeds a threshold, which is a climatological quantile of the cell. An
ensemble forecasts it with the probability p = fraction of members that exceed; one forecast is an
ensemble of one. Members have the shape (field, realization, latitude, longitude), forecast and
truth (field, latitude, longitude), thresholds (quantile, latitude, longitude).

    Brier           <(p - 1[o > t])^2>
    fraction skill  1 - E <(P - O)^2> / E (<P^2> + <O^2>), with P and O the sums of p and 1[o > t]
                    over a square of n x n cells, divided by n^2. A cell outside the grid, beyond a
                    pole or without forecast, truth or threshold has no event, in P and in O, as
                    beyond the edge of the domain in Roberts and Lean; <.> is over the other cells.
                    Squares continue where an axis of the grid closes on itself
    quantile error  mean over 50 quantiles q from 0.9 to 0.9999, equally spaced in log(1 - q), of
                    (Q_q(f) - Q_q(o)) / Q_q(o), where Q_q is over the cells of one field
    SEEPS           see ``cell_seeps``

References:
    Brier, 1950, https://doi.org/10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2
    Roberts and Lean, 2008, https://doi.org/10.1175/2007MWR2123.1 (fraction skill score).
    FourCastNet, Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 4 (quantile error).
    Rodwell et al., 2010, https://doi.org/10.1002/qj.656 (SEEPS).
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import numpy as np
from scipy.ndimage import uniform_filter1d

from fourcastnet_afno.evaluation.metrics.metric import (
    Metric,
    Statistic,
    computed_together,
    register,
    safe_ratio,
)
from fourcastnet_afno.evaluation.statistics.averages import Averager, masked_mean
from fourcastnet_afno.evaluation.statistics.pairs import PairBlock

RELIABILITY_BINS = 11
_HIGH_QUANTILES = 1 - np.logspace(-1, -4, 50)


def exceedance(members: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Fraction of members above thresholds, (field, quantile, latitude, longitude)."""
    return (members[:, :, None] > thresholds).mean(axis=1)


def _known_cells(members: np.ndarray, truth: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Cells (field, quantile, latitude, longitude) with all members, truth and a threshold."""
    pairs = np.isfinite(members).all(axis=1) & np.isfinite(truth)
    return pairs[:, None] & np.isfinite(thresholds)


def event_statistics(
    members: np.ndarray,
    truth: np.ndarray,
    thresholds: np.ndarray,
    neighborhoods: Sequence[int],
    averager: Averager,
    closed: tuple[bool, bool] = (False, True),
) -> dict[str, np.ndarray]:
    """Brier score and the two sums of the fraction skill score of each field.

    ``closed`` is for ``neighborhood_mean``. Regions average over their own cells; the squares reach
    beyond them.

    Returns:
        ``brier`` (field, quantile, region), ``fraction_error`` and ``fraction_reference``
        (field, quantile, neighborhood, region).
    """
    known = _known_cells(members, truth, thresholds)
    present = [None if cells.all() else cells for cells in known.swapaxes(0, 1)]
    probability = np.where(known, exceedance(members, thresholds), 0.0)
    observed = np.where(known, truth[:, None] > thresholds, 0.0)

    def means(values: np.ndarray) -> np.ndarray:
        pairs = zip(values.swapaxes(0, 1), present, strict=True)
        return np.stack([masked_mean(averager, v, cells) for v, cells in pairs], 1)

    errors, references = [], []
    for width in neighborhoods:
        ours = neighborhood_mean(probability, width, closed)
        theirs = neighborhood_mean(observed, width, closed)
        errors.append(means((ours - theirs) ** 2))
        references.append(means(ours**2) + means(theirs**2))
    return {
        "brier": means((probability - observed) ** 2),
        "fraction_error": np.stack(errors, axis=2),
        "fraction_reference": np.stack(references, axis=2),
    }


def neighborhood_mean(
    fields: np.ndarray, width: int, closed: tuple[bool, bool] = (False, True)
) -> np.ndarray:
    """Means over squares of ``width`` cells; ``closed`` tells which of y and x is a circle.

    Beyond the edges of an axis that is none, such as the poles, values are 0.
    """
    y_mode, x_mode = ("wrap" if is_circle else "constant" for is_circle in closed)
    along_x = uniform_filter1d(fields, width, axis=-1, mode=x_mode)
    return uniform_filter1d(along_x, width, axis=-2, mode=y_mode)


def reliability(
    members: np.ndarray, truth: np.ndarray, thresholds: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Weights of forecasts, of their probability and of events, by bins of probability.

    Returns:
        float64 of shape (field, quantile, 3, bin) with 11 bins around 0, 0.1, ..., 1: the weight of
        the cells (their sum is 1), it times the probability, and it where the event happened.
    """
    known = _known_cells(members, truth, thresholds)
    probability = exceedance(members, thresholds)
    observed = truth[:, None] > thresholds
    bins = np.rint(probability * (RELIABILITY_BINS - 1)).astype(int)
    result = np.zeros((*probability.shape[:2], 3, RELIABILITY_BINS))
    for field, quantile in np.ndindex(*probability.shape[:2]):
        cells = np.where(known[field, quantile], weights, 0.0)
        chosen = bins[field, quantile].ravel()
        factors = (1.0, probability[field, quantile], observed[field, quantile])
        for row, factor in enumerate(factors):
            result[field, quantile, row] = np.bincount(
                chosen, (cells * factor).ravel(), minlength=RELIABILITY_BINS
            )
    return result


def relative_quantile_error(
    forecast: np.ndarray, truth: np.ndarray, regions: np.ndarray
) -> np.ndarray:
    """Relative errors (field, region) of the highest quantiles; negative for too weak extremes.

    A cell counts fully where its weight in a region (region, latitude, longitude) is positive, as
    the quantiles are over cells.
    """
    result = np.full((len(forecast), len(regions)), np.nan)
    present = np.isfinite(forecast) & np.isfinite(truth)
    for field, (index, region) in product(range(len(forecast)), enumerate(regions > 0)):
        chosen = region & present[field]
        if not chosen.any():
            continue
        ours = np.quantile(forecast[field][chosen], _HIGH_QUANTILES)
        theirs = np.quantile(truth[field][chosen], _HIGH_QUANTILES)
        with np.errstate(divide="ignore", invalid="ignore"):
            result[field, index] = ((ours - theirs) / theirs).mean()
    return result


def cell_seeps(
    forecast: np.ndarray,
    truth: np.ndarray,
    dry_fraction: np.ndarray,
    wet_threshold: np.ndarray,
    dry_threshold: float,
) -> np.ndarray:
    """Stable equitable error in probability space of each cell; 0 is perfect.

    A value is dry up to ``dry_threshold``, heavy from ``wet_threshold`` and light between. With the
    climatological probability p of dry, and light twice as likely as heavy, the score of a forecast
    category (row) when another is observed (column) is

        1/2 [ 0,                1/(1-p),   4/(1-p)
              1/p,              0,         3/(1-p)
              1/p + 3/(2+p),    3/(2+p),   0       ].

    Cells with p below 0.1 or above 0.85 are left out (NaN), as in WeatherBench 2, and so are cells
    without a threshold or probability.
    Precipitation has the shape (..., latitude, longitude); thresholds are in its unit.

    References:
        Rodwell et al., 2010, https://doi.org/10.1002/qj.656, equation 15.
    """
    p = np.where((dry_fraction > 0.1) & (dry_fraction < 0.85), dry_fraction, np.nan)
    zero = np.zeros_like(p)
    rows = (
        (zero, 1 / (1 - p), 4 / (1 - p)),
        (1 / p, zero, 3 / (1 - p)),
        (1 / p + 3 / (2 + p), 3 / (2 + p), zero),
    )
    matrix = 0.5 * np.array(rows)

    def category(values: np.ndarray) -> np.ndarray:
        return (values > dry_threshold).astype(int) + (values >= wet_threshold)

    cells = np.indices(forecast.shape[-2:])
    scores = matrix[category(forecast), category(truth), *cells]
    known = ~np.isnan(p) & ~np.isnan(wet_threshold)
    return np.where(known & np.isfinite(forecast) & np.isfinite(truth), scores, np.nan)


def _event_scores(pair: PairBlock) -> dict[str, np.ndarray]:
    thresholds = pair.settings.thresholds.get(pair.label)
    if thresholds is None:
        return {}
    members, truth, settings = pair.flat(pair.members), pair.flat(pair.truth), pair.settings
    scores = event_statistics(
        members, truth, thresholds, settings.neighborhoods, settings.averager, settings.closed
    )
    return {name: pair.unflat(values) for name, values in scores.items()}


def _quantile_error(pair: PairBlock) -> np.ndarray | None:
    if not pair.settings.extremes:
        return None
    forecast, truth = pair.flat(pair.forecast), pair.flat(pair.truth)
    return pair.unflat(relative_quantile_error(forecast, truth, pair.settings.averager.weights))


def _seeps(pair: PairBlock) -> np.ndarray | None:
    """<SEEPS> of precipitation over the cells that have a score."""
    thresholds = pair.settings.seeps.get(pair.label)
    if thresholds is None:
        return None
    forecast, truth = pair.flat(pair.forecast), pair.flat(pair.truth)
    heavy = thresholds.heavy(pair.times.ravel())
    cells = cell_seeps(forecast, truth, thresholds.dry_fraction, heavy, thresholds.dry)
    return pair.unflat(masked_mean(pair.settings.averager, cells, np.isfinite(cells)))


_metric = partial(Metric, units="none", is_optional=False)
_BRIER, _ERROR, _REFERENCE = computed_together(
    _event_scores, "brier", "fraction_error", "fraction_reference"
)
register(
    _metric(name="brier_score", label="Brier score", statistics=(_BRIER,), dims=("quantile",)),
    _metric(
        name="fraction_skill_score",
        label="fraction skill score",
        statistics=(_ERROR, _REFERENCE),
        combine=lambda error, reference: 1 - safe_ratio(error, reference),
        best="high",
        dims=("quantile", "neighborhood"),
    ),
    _metric(
        name="relative_quantile_error",
        label="relative error of high quantiles",
        statistics=(Statistic("quantile_error", _quantile_error),),
        best="zero",
    ),
    _metric(name="seeps", label="SEEPS", statistics=(Statistic("seeps", _seeps),)),
)
