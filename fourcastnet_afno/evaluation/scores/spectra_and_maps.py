"""Scores from sums over initial times: spectra, histograms and maps."""

from typing import Any

import numpy as np

from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.metrics.metric import safe_ratio
from fourcastnet_afno.evaluation.plan import ScoringPlan
from fourcastnet_afno.evaluation.scores.significance import enough, interval, resample_counts

_MAX_GROUPS, _MIN_GROUPS = 64, 16
_GROUPS_BYTES = 128 * 2**20


def group_length(num_inits: int, spectrum_bytes: int, with_intervals: bool) -> int:
    """Successive initial times whose spectra are kept as one sum, so that memory is bounded.

    ``spectrum_bytes`` are of a forecast's spectra of one initial time; without intervals nothing is
    resampled, and one group is enough.
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
        safe_ratio(total.sum(axis=2), count.sum(axis=2))
        for total, count in zip(sums, counts, strict=True)
    ]
    data: dict[str, Any] = {"spectrum": (dims, np.stack(means))}
    num = plan.num_groups
    if not (config.num_resamples and enough(num)):
        return data
    length = -(-block_length // plan.group_length)
    generator = np.random.default_rng(config.seed)
    weights = resample_counts(num, config.num_resamples, length, generator)
    intervals, ratio_intervals = [], []
    for channel in range(len(plan.channels)):  # one after the other, to bound memory
        resampled = [
            np.moveaxis(safe_ratio(weights @ total[:, channel], weights @ count[:, channel]), 1, 0)
            for total, count in zip(sums, counts, strict=True)
        ]
        ratios = [safe_ratio(values, resampled[0]) for values in resampled]
        intervals.append(np.stack([interval(v, config.confidence) for v in resampled], 1))
        ratio_intervals.append(np.stack([interval(v, config.confidence) for v in ratios], 1))
    data["spectrum_interval"] = (("bound", *dims), np.stack(intervals, axis=3))
    data["spectrum_ratio_interval"] = (("bound", *dims), np.stack(ratio_intervals, axis=3))
    return data


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
        data["reliability_probability"] = (dims, safe_ratio(probability, weight))
        data["reliability_frequency"] = (dims, safe_ratio(events, weight))
    return data


def _normalized(values: np.ndarray) -> np.ndarray:
    return safe_ratio(values, values.sum(axis=-1, keepdims=True))


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
        bias.append(safe_ratio(error, count))
        rmse.append(np.sqrt(safe_ratio(squared_error, count)))
    return {
        "map_lead_time": ("map_lead_time", plan.lead_times[leads]),
        "map_channel": ("map_channel", list(plan.map_channels)),
        "bias_map": (dims, np.stack(bias).astype(np.float32)),
        "rmse_map": (dims, np.stack(rmse).astype(np.float32)),
        **{axis: (axis, plan.grid.coords[axis]) for axis in plan.grid.dims},
    }
