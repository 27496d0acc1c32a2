"""Scores as one dataset: metrics from the engine's statistics, intervals, spectra and maps."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.timestep import lead_coordinate
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.config import PERFECT_MODEL, BaselineName, EvaluationConfig
from fourcastnet_afno.evaluation.metrics import Metric
from fourcastnet_afno.evaluation.metrics.deterministic import correlation_time
from fourcastnet_afno.evaluation.metrics.metric import safe_ratio
from fourcastnet_afno.evaluation.plan import ScoringPlan
from fourcastnet_afno.evaluation.scores.conventions import CONVENTIONS
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.evaluation.scores.significance import (
    block_length,
    enough,
    interval,
    resample_counts,
    verdicts,
)
from fourcastnet_afno.evaluation.scores.spectra_and_maps import histograms, maps, spectra
from fourcastnet_afno.evaluation.statistics.spectra import effective_wavenumber, wavelength_km

_SEASONS = ("DJF", "MAM", "JJA", "SON")
_BASELINES = tuple(name for name in BaselineName.__args__ if name != PERFECT_MODEL)
_DIMS = ("forecast", "lead_time", "channel")
_WINDS = {
    "wind_vector": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_vector": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
}


def assemble(
    state: AggregationState,
    plan: ScoringPlan,
    config: EvaluationConfig,
    metrics: Mapping[str, Metric],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Scores of all forecasts, see ``evaluate.evaluate``."""
    table = _Table(state, plan, config, metrics)
    data = table.scores() | table.counts()
    data |= spectra(state, plan, config, table.block_length)
    data |= histograms(state, plan) | maps(state, plan)
    scores = xr.Dataset(data, coords=_coords(plan, config), attrs=dict(attrs))
    on_sphere = plan.grid.on_sphere
    in_tables = ("everywhere",) if on_sphere else ("everywhere", "planes")
    listed = [metric for metric in metrics.values() if metric.shown in in_tables]
    listed.sort(key=lambda metric: metric.best == "high")  # errors first
    scores.attrs |= {
        "num_init_times": len(plan.init_times),
        "first_init_time": str(plan.init_times[0]),
        "last_init_time": str(plan.init_times[-1]),
        "grid": str(plan.grid),
        "table_metrics": " ".join(metric.name for metric in listed),
        "reference": table.reference,
        "block_length": table.block_length,
        "confidence": config.confidence,
        "num_members": ", ".join(f"{n}: {s.num_members}" for n, s in plan.sources.items()),
        "missing_values_in_all": int(np.nansum(scores["missing_values"].values)),
    }
    notes = [*scores.attrs.get("notes", "").splitlines(), *_masked_cells(scores)]
    scores.attrs["notes"] = "\n".join(notes)
    scores = _with_summaries(scores, on_sphere=on_sphere)
    return scores.isel(region=0) if len(config.regions) == 1 else scores


class _Table:
    """Metrics, intervals and differences from the statistics of each pair."""

    def __init__(
        self,
        state: AggregationState,
        plan: ScoringPlan,
        config: EvaluationConfig,
        metrics: Mapping[str, Metric],
    ) -> None:
        self._series, self._plan, self._config = state.series, plan, config
        self._metrics, self._names = metrics, list(plan.sources)
        baselines = [name for name in self._names if name in _BASELINES]
        self.reference = (baselines or self._names)[0]
        if config.reference in self._names:
            self.reference = str(config.reference)
        # From the differences of the squared errors of the first forecast and the reference.
        first = next((n for n in self._names if n != self.reference), self.reference)
        errors = [self._series[n, "squared_error"][..., 0] for n in (first, self.reference)]
        difference = errors[0] - errors[1] if first != self.reference else errors[0]
        flat = difference.reshape(len(difference), -1)
        self.block_length = block_length(flat[:, np.isfinite(flat).all(axis=0)])
        generator, num = np.random.default_rng(config.seed), len(plan.init_times)
        self._resamples = None
        if config.num_resamples and enough(num):
            self._resamples = resample_counts(
                num, config.num_resamples, self.block_length, generator
            )

    def scores(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        everything = np.ones((1, len(self._plan.init_times)))
        for name, metric in self._metrics.items():
            if not any(self._has(forecast, metric) for forecast in self._names):
                continue
            dims = (*_DIMS, *metric.dims, "region")
            data[name] = (dims, self._values(metric, everything)[:, 0])
            for group, (_, members) in _groups(self._plan, self._config).items():
                values = np.moveaxis(self._values(metric, members), 1, 0)
                data[f"{name}_by_{group}"] = ((group, *dims), values)
            if self._resamples is None:
                continue
            intervals, differences = [], []
            reference, confidence = self._names.index(self.reference), self._config.confidence
            for channel in range(len(self._plan.channels)):  # one by one, to bound memory
                scores = self._values(metric, self._resamples, channel)
                losses = metric.loss(scores) - metric.loss(scores[reference])
                intervals.append(interval(np.moveaxis(scores, 1, 0), confidence))
                differences.append(interval(np.moveaxis(losses, 1, 0), confidence))
            difference, bound = np.stack(differences, axis=3), ("bound", *dims)
            data[f"{name}_interval"] = (bound, np.stack(intervals, axis=3))
            data[f"{name}_difference_interval"] = (bound, difference)  # of losses
            data[f"{name}_verdict"] = (dims, verdicts(difference))
        data |= self._winds(everything)
        return data

    def _has(self, forecast: str, metric: Metric) -> bool:
        return all((forecast, s.name) in self._series for s in metric.statistics)

    def _values(
        self, metric: Metric, weights: np.ndarray, channel: int | slice = slice(None)
    ) -> np.ndarray:
        """Scores (forecast, set, lead_time, [channel], ..., region); NaN of those without."""
        scores = {
            forecast: metric.combine(
                *(
                    mean_over_inits(self._series[forecast, s.name][:, :, channel], weights)
                    for s in metric.statistics
                )
            )
            for forecast in self._names
            if self._has(forecast, metric)
        }
        missing = np.full(next(iter(scores.values())).shape, np.nan)
        return np.stack([scores.get(forecast, missing) for forecast in self._names])

    def _winds(self, weights: np.ndarray) -> dict[str, Any]:
        """RMSE of wind vectors: the squared errors of both components together (WB2)."""
        index = {(c.name, c.level): i for i, c in enumerate(self._plan.channels)}
        after = CONVENTIONS[self._config.convention].root == "after"
        labels, values = [], []
        for vector, (u_name, v_name) in _WINDS.items():
            for name, level in index:
                if name != u_name or (v_name, level) not in index:
                    continue
                labels.append(vector if level is None else f"{vector}_{level}")
                u, v = index[u_name, level], index[v_name, level]
                roots = []
                for forecast in self._names:
                    squares = self._series[forecast, "squared_error"]
                    both = squares[:, :, u] + squares[:, :, v]
                    means = mean_over_inits(both if after else np.sqrt(both), weights)[0]
                    roots.append(np.sqrt(means) if after else means)
                values.append(np.stack(roots))
        if not labels:
            return {}
        dims = ("forecast", "lead_time", "wind", "region")
        return {"wind": ("wind", labels), "wind_vector_rmse": (dims, np.stack(values, axis=2))}

    def counts(self) -> dict[str, Any]:
        """How many initial times were scored, and how many values were missing in them.

        ``valid_share`` is the share of the cells of these fields that have forecast and truth.
        """
        scored, missing, shares = [], [], []
        num_cells = math.prod(self._plan.grid.shape)
        for name in self._names:
            present = np.isfinite(self._series[name, "squared_error"])
            scored.append(present.sum(axis=0))
            cells = np.where(present, self._series[name, "missing"], 0.0).sum(axis=0)[..., 0]
            missing.append(cells)
            num_fields = present[..., 0].sum(axis=(0, 1))
            shares.append(1 - safe_ratio(cells.sum(axis=0), num_cells * num_fields))
        return {
            "num_init_times": ((*_DIMS, "region"), np.stack(scored)),
            "missing_values": (_DIMS, np.stack(missing)),
            "valid_share": (("forecast", "channel"), np.stack(shares)),
        }


def _masked_cells(scores: xr.Dataset) -> list[str]:
    """Sentences on channels of which cells are missing, those with the same shares together."""
    names, channels = scores["forecast"].values.tolist(), dict[str, list[str]]()
    for channel in scores["channel"].values.tolist():
        shares = scores["valid_share"].sel(channel=channel).values.tolist()
        if any(share < 1 for share in shares):  # not those without any score, NaN
            texts = [f"{share:.1%} for {name}" for name, share in zip(names, shares, strict=True)]
            text = f"{shares[0]:.1%}" if len(set(shares)) == 1 else ", ".join(texts)
            channels.setdefault(text, []).append(channel)
    return [
        f"{', '.join(labels)}: of the cells {text} are scored; the others are missing in forecast "
        "or truth"
        for text, labels in channels.items()
    ]


def mean_over_inits(series: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted means (set, ...) over initial times that leave missing values (NaN) out.

    The series are (init_time, ...); weights (set, init_time) are counts of resamples, members of a
    season and the like. NaN where a set has nothing.
    """
    flat = series.reshape(len(series), -1)
    present = np.isfinite(flat)
    if present.all():
        sums, counts = weights @ flat, weights.sum(axis=1)[:, None]
    else:
        infinite = np.where(np.isinf(flat), np.inf, 0.0).sum(axis=0)
        sums = weights @ np.where(present, flat, 0.0) + infinite
        counts = weights @ (present | np.isinf(flat)).astype(np.float64)
    return safe_ratio(sums, counts).reshape(len(weights), *series.shape[1:])


def _groups(plan: ScoringPlan, config: EvaluationConfig) -> dict[str, tuple[Any, np.ndarray]]:
    """Labels and weights (group, init_time) of seasons and of hours of the day."""
    groups = {}
    if config.by_season:
        month = plan.init_times.astype("datetime64[M]").astype(int) % 12
        season = (month + 1) % 12 // 3
        groups["season"] = list(_SEASONS), (season == np.arange(4)[:, None]).astype(np.float64)
    if config.by_init_hour:
        hours = plan.init_times.astype("datetime64[h]").astype(int) % 24
        labels = np.unique(hours)
        groups["init_hour"] = labels, (hours == labels[:, None]).astype(np.float64)
    return groups


def _coords(plan: ScoringPlan, config: EvaluationConfig) -> dict[str, Any]:
    coords: dict[str, Any] = {
        "forecast": list(plan.sources),
        "lead_time": lead_coordinate(plan.lead_times),
        "channel": plan.channels.labels,
        "units": ("channel", [channel.units for channel in plan.channels]),
        "region": list(config.regions),
    }
    if config.num_resamples:
        coords["bound"] = ["lower", "upper"]
    if config.quantiles:
        coords["quantile"] = list(config.quantiles)
        coords["neighborhood"] = list(config.neighborhoods)
    coords |= {name: labels for name, (labels, _) in _groups(plan, config).items()}
    if plan.spectrum is not None:
        coords["source"] = ["truth", *plan.sources]
        dim, spectrum = plan.spectrum.dim, plan.spectrum
        coords[dim] = (dim, spectrum.wavenumbers, spectrum.attrs)
    return coords


def _with_summaries(scores: xr.Dataset, *, on_sphere: bool) -> xr.Dataset:
    """Effective resolution and correlation time."""
    if "spectrum" in scores:
        spectrum = scores["spectrum"].values
        wavenumbers = scores[scores["spectrum"].dims[-1]].values
        wavenumber = effective_wavenumber(spectrum[1:], spectrum[:1], wavenumbers)
        scores["effective_wavenumber"] = (_DIMS, wavenumber)
        if on_sphere:
            scores["effective_resolution_km"] = (_DIMS, wavelength_km(wavenumber))
    if "correlation" in scores:
        values = scores["correlation"].transpose("lead_time", "forecast", "channel", "region")
        leads, unit = LeadTimes.of(scores).numbers
        fall = correlation_time(values.values, leads)
        scores[f"correlation_time_{unit}"] = (("forecast", "channel", "region"), fall)
    return scores
