"""Scores from sums over initial times: spectra, histograms and maps."""

from typing import Any

import numpy as np

from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.plan import ScoringPlan
from fourcastnet_afno.evaluation.scores.significance import enough, interval, resample_counts

_MAX_GROUPS, _MIN_GROUPS = 64, 16
_GROUPS_BYTES = 128 * 2**20


def group_length(num_inits: int, spectrum_bytes: int, with_intervals: bool) -> int:
    """Successive initial times whose spectra are kept as one sum, so that memory is bounded.

    Args:
        num_inits: Initial times.
        spectrum_bytes: Bytes of a forecast's spectra of one initial time.
        with_intervals: Whether groups are resampled; else one is enough.
    """
    if not with_intervals:
        return num_inits
    fitting = max(_GROUPS_BYTES // spectrum_bytes, _MIN_GROUPS)
    return -(-num_inits // min(_MAX_GROUPS, fitting))


def spectra(
    state: AggregationState, plan: ScoringPlan, config: EvaluationConfig, block_length: int
) -> dict[str, Any]:
    """Mean spectra with their intervals, and the intervals of their ratios to truth's.

    Groups of initial times are resampled in blocks, those of all forecasts and of truth together.
    """
    if plan.spectrum is None:
        return {}
    names = ["truth", *plan.sources]
    dims = ("source", "lead_time", "channel", plan.spectrum.dim)
    shape = state.grouped["truth", "spectrum"].shape
    sums = [state.grouped.get((name, "spectrum"), np.zeros(shape)) for name in names]
    counts = [
        state.grouped.get((name, "spectrum_count"), np.zeros(shape[:-1]))[..., None]
        for name in names
    ]
    means = [
        safe_divide(*np.broadcast_arrays(total.sum(axis=2), count.sum(axis=2)))
        for total, count in zip(sums, counts, strict=True)
    ]
    data: dict[str, Any] = {"spectrum": (dims, np.stack(means))}
    num = plan.num_groups
    if not (config.num_resamples and enough(num)):
        return data
    length = -(-block_length // plan.group_length)
    generator = np.random.default_rng(config.seed)
    weights = resample_counts(num, config.num_resamples, length, generator)
    bounds = [  # channel by channel, to bound memory
        _bounds([v[:, c] for v in sums], [v[:, c] for v in counts], weights, config.confidence)
        for c in range(len(plan.channels))
    ]
    for name, values in zip(("spectrum", "spectrum_ratio"), zip(*bounds, strict=True), strict=True):
        data[f"{name}_interval"] = (("bound", *dims), np.stack(values, axis=3))
    return data


def _bounds(
    sums: list[np.ndarray], counts: list[np.ndarray], weights: np.ndarray, confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (bound, source, lead_time, wavenumber) of spectra and of ratios to the first.

    Args:
        sums: Of each source, (lead_time, group, wavenumber).
        counts: Of each source, (lead_time, group, 1).
        weights: How often each group is in each resample, (resample, group).
        confidence: Probability inside of an interval.
    """
    resampled = [
        safe_divide(*np.broadcast_arrays(weights @ total, weights @ count))
        for total, count in zip(sums, counts, strict=True)
    ]
    resampled = [np.moveaxis(values, 1, 0) for values in resampled]
    ratios = [safe_divide(values, resampled[0]) for values in resampled]
    return (
        np.stack([interval(v, confidence) for v in resampled], 1),
        np.stack([interval(v, confidence) for v in ratios], 1),
    )


def safe_divide(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Quotients; NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def histograms(state: AggregationState, plan: ScoringPlan) -> dict[str, Any]:
    """Rank histograms and reliability diagrams of the forecasts that have them."""
    data: dict[str, Any] = {}
    for name in plan.sources:
        if (name, "ranks") in state.sums:
            ranks = state.sums[name, "ranks"]
            dims = ("lead_time", "channel", f"rank_of_{name}")
            data[f"rank_histogram_{name}"] = (dims, _normalized(ranks))
    bins = {name: v for (name, statistic), v in state.sums.items() if statistic == "reliability"}
    if bins:
        dims = ("forecast", "lead_time", "channel", "quantile", "probability_bin")
        missing = np.full_like(next(iter(bins.values())), np.nan)
        stacked = np.stack([bins.get(name, missing) for name in plan.sources])
        weight, probability, events = (stacked[..., row, :] for row in range(3))
        data["reliability_weight"] = (dims, _normalized(weight))
        data["reliability_probability"] = (dims, safe_divide(probability, weight))
        data["reliability_frequency"] = (dims, safe_divide(events, weight))
    return data


def _normalized(values: np.ndarray) -> np.ndarray:
    return safe_divide(values, np.broadcast_to(values.sum(axis=-1, keepdims=True), values.shape))


def maps(state: AggregationState, plan: ScoringPlan) -> dict[str, Any]:
    """Bias and RMSE of each cell over all initial times."""
    if not plan.map_channels or not plan.map_leads:
        return {}
    dims = ("forecast", "map_lead_time", "map_channel", *plan.grid.dims)
    leads, channels = list(plan.map_leads), len(plan.map_channels)
    bias, rmse = [], []
    for name in plan.sources:
        error, squared_error, count = (
            state.sums[name, f"map_{statistic}"][leads][:, :channels]
            for statistic in ("error", "squared_error", "count")
        )
        bias.append(safe_divide(error, count))
        rmse.append(np.sqrt(safe_divide(squared_error, count)))
    return {
        "map_lead_time": ("map_lead_time", plan.lead_times[leads]),
        "map_channel": ("map_channel", list(plan.map_channels)),
        "bias_map": (dims, np.stack(bias).astype(np.float32)),
        "rmse_map": (dims, np.stack(rmse).astype(np.float32)),
        **{axis: (axis, plan.grid.coords[axis]) for axis in plan.grid.dims},
    }
