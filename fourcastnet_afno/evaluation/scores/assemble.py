"""Scores as one dataset: metrics from the engine's statistics, intervals, spectra and maps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.config import BaselineName, EvaluationConfig
from fourcastnet_afno.evaluation.plan import Result, ScoringPlan
from fourcastnet_afno.evaluation.scores.conventions import CONVENTIONS
from fourcastnet_afno.evaluation.scores.metrics import (
    ALWAYS,
    Metric,
    correlation_time,
    mean_over_inits,
)
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
_BASELINES = BaselineName.__args__
_DIMS = ("forecast", "lead_time", "channel")
_SHORT_HOURS = 3
_WINDS = {
    "wind_vector": ("u_component_of_wind", "v_component_of_wind"),
    "10m_wind_vector": ("10m_u_component_of_wind", "10m_v_component_of_wind"),
}


def assemble(
    result: Result,
    plan: ScoringPlan,
    config: EvaluationConfig,
    metrics: Mapping[str, Metric],
    attrs: Mapping[str, str],
) -> xr.Dataset:
    """Scores of all forecasts, see ``evaluate.evaluate``."""
    wanted = {
        name: metric
        for name, metric in metrics.items()
        if not (config.metrics and metric.kind == "all" and name not in (*config.metrics, *ALWAYS))
    }
    table = _Table(result, plan, config, wanted)
    data = table.scores()
    data |= table.counts()
    data |= spectra(result, plan, config, table.block_length)
    data |= histograms(result, plan)
    data |= maps(result, plan)
    scores = xr.Dataset(data, coords=_coords(plan, config), attrs=dict(attrs))
    scores.attrs |= {
        "num_init_times": len(plan.init_times),
        "first_init_time": str(plan.init_times[0]),
        "last_init_time": str(plan.init_times[-1]),
        "grid": str(plan.grid),
        "table_metrics": "rmse acc" if plan.grid.on_sphere else "rmse relative_l2 acc",
        "reference": table.reference,
        "block_length": table.block_length,
        "confidence": config.confidence,
        "num_members": ", ".join(f"{n}: {s.num_members}" for n, s in plan.sources.items()),
        "missing_values_in_all": int(np.nansum(scores["missing_values"].values)),
    }
    scores = _with_summaries(scores, on_sphere=plan.grid.on_sphere)
    if len(config.regions) == 1:
        scores = scores.isel(region=0)
    return scores


class _Table:
    """Metrics, intervals and differences from the statistics of each field."""

    def __init__(
        self,
        result: Result,
        plan: ScoringPlan,
        config: EvaluationConfig,
        metrics: Mapping[str, Metric],
    ) -> None:
        self._result, self._plan, self._config, self._metrics = result, plan, config, metrics
        self._names = list(plan.sources)
        self.reference = self._choose_reference()
        self.block_length = self._choose_block_length()
        generator = np.random.default_rng(config.seed)
        num = len(plan.init_times)
        self._resamples = None
        if config.num_resamples and enough(num):
            self._resamples = resample_counts(
                num, config.num_resamples, self.block_length, generator
            )

    def _choose_reference(self) -> str:
        if self._config.reference in self._names:
            return str(self._config.reference)
        baselines = [name for name in self._names if name in _BASELINES]
        return (baselines or self._names)[0]

    def _choose_block_length(self) -> int:
        """From the differences of the squared errors of the first forecast and the reference."""
        first = next((n for n in self._names if n != self.reference), self.reference)
        errors = [self._result.series[n, "squared_error"][..., 0] for n in (first, self.reference)]
        difference = errors[0] - errors[1] if first != self.reference else errors[0]
        flat = difference.reshape(len(difference), -1)
        return block_length(flat[:, np.isfinite(flat).all(axis=0)])

    def scores(self) -> dict[str, Any]:
        data: dict[str, Any] = {}
        everything = np.ones((1, len(self._plan.init_times)))
        for name, metric in self._metrics.items():
            has = [n for n in self._names if self._has(n, metric)]
            if not has:
                continue
            dims = _dims_of(metric)
            data[name] = (dims, self._stacked(metric, everything)[:, 0])
            data |= self._groups(name, metric, dims)
            if self._resamples is not None:
                data |= self._intervals(name, metric, dims)
        data |= self._winds(everything)
        return data

    def _has(self, name: str, metric: Metric) -> bool:
        return all((name, statistic) in self._result.series for statistic in metric.statistics)

    def _values(self, name: str, metric: Metric, weights: np.ndarray) -> np.ndarray | None:
        """Scores (set, lead_time, channel, ..., region) of one forecast."""
        if not self._has(name, metric):
            return None
        series = self._result.series
        return metric.combine(
            {s: mean_over_inits(series[name, s], weights) for s in metric.statistics}
        )

    def _stacked(self, metric: Metric, weights: np.ndarray) -> np.ndarray:
        found = [self._values(name, metric, weights) for name in self._names]
        shape = next(values.shape for values in found if values is not None)
        return np.stack([np.full(shape, np.nan) if v is None else v for v in found])

    def _groups(self, name: str, metric: Metric, dims: tuple[str, ...]) -> dict[str, Any]:
        """Scores by season and by hour of the initial time."""
        data = {}
        for what, members in _group_members(self._plan, self._config).items():
            values = np.moveaxis(self._stacked(metric, members), 1, 0)
            data[f"{name}_by_{what}"] = ((what, *dims), values)
        return data

    def _intervals(self, name: str, metric: Metric, dims: tuple[str, ...]) -> dict[str, Any]:
        """Intervals of scores and of differences of losses, one channel at a time."""
        assert self._resamples is not None
        parts: dict[str, list[np.ndarray]] = {"interval": [], "difference_interval": []}
        for channel in range(len(self._plan.channels)):
            resampled = self._resampled(metric, channel)
            reference = metric.loss(resampled[self._names.index(self.reference)])
            losses = metric.loss(resampled) - reference
            parts["interval"].append(_interval_of(resampled, self._config.confidence))
            parts["difference_interval"].append(_interval_of(losses, self._config.confidence))
        joined = {what: np.stack(values, axis=3) for what, values in parts.items()}
        bound = ("bound", *dims)
        return {
            f"{name}_interval": (bound, joined["interval"]),
            f"{name}_difference_interval": (bound, joined["difference_interval"]),
            f"{name}_verdict": (dims, verdicts(joined["difference_interval"])),
        }

    def _resampled(self, metric: Metric, channel: int) -> np.ndarray:
        """Scores (forecast, resample, lead_time, ..., region) of one channel."""
        assert self._resamples is not None
        series, found = self._result.series, []
        for name in self._names:
            if not self._has(name, metric):
                found.append(None)
                continue
            means = {
                s: mean_over_inits(series[name, s][:, :, channel], self._resamples)
                for s in metric.statistics
            }
            found.append(metric.combine(means))
        shape = next(values.shape for values in found if values is not None)
        return np.stack([np.full(shape, np.nan) if v is None else v for v in found])

    def _winds(self, weights: np.ndarray) -> dict[str, Any]:
        """RMSE of wind vectors: the squared errors of both components together (WB2)."""
        channels = list(self._plan.channels)
        index = {(c.name, c.level): i for i, c in enumerate(channels)}
        labels, values = [], []
        for vector, (u, v) in _WINDS.items():
            for name, level in index:
                if name != u or (v, level) not in index:
                    continue
                labels.append(vector if level is None else f"{vector}_{level}")
                values.append(self._wind(index[u, level], index[v, level], weights))
        if not labels:
            return {}
        dims = ("forecast", "lead_time", "wind", "region")
        return {"wind": ("wind", labels), "wind_vector_rmse": (dims, np.stack(values, axis=2))}

    def _wind(self, u: int, v: int, weights: np.ndarray) -> np.ndarray:
        found = []
        for name in self._names:
            squares = self._result.series[name, "squared_error"]
            both = squares[:, :, u] + squares[:, :, v]
            after = CONVENTIONS[self._config.convention].root == "after"
            means = mean_over_inits(both if after else np.sqrt(both), weights)[0]
            found.append(np.sqrt(means) if after else means)
        return np.stack(found)

    def counts(self) -> dict[str, Any]:
        """How many initial times were scored, and how many values were missing in them."""
        scored, missing = [], []
        for name in self._names:
            squares = self._result.series[name, "squared_error"]
            present = np.isfinite(squares)
            scored.append(present.sum(axis=0))
            lacking = self._result.series[name, "missing"]
            missing.append(np.where(present, lacking, 0.0).sum(axis=0)[..., 0])
        return {
            "num_init_times": ((*_DIMS, "region"), np.stack(scored)),
            "missing_values": (_DIMS, np.stack(missing)),
        }


def _dims_of(metric: Metric) -> tuple[str, ...]:
    extra: dict[str, tuple[str, ...]] = {
        "brier_score": ("quantile",),
        "fraction_skill_score": ("quantile", "neighborhood"),
    }
    return (*_DIMS, *extra.get(metric.name, ()), "region")


def _interval_of(resampled: np.ndarray, confidence: float) -> np.ndarray:
    """Bounds (bound, forecast, ...) of (forecast, resample, ...)."""
    return interval(np.moveaxis(resampled, 1, 0), confidence)


def _group_members(plan: ScoringPlan, config: EvaluationConfig) -> dict[str, np.ndarray]:
    members = {}
    if config.by_season:
        month = plan.init_times.astype("datetime64[M]").astype(int) % 12
        season = (month + 1) % 12 // 3
        members["season"] = (season == np.arange(4)[:, None]).astype(np.float64)
    if config.by_init_hour:
        hours = _init_hours(plan)
        own = plan.init_times.astype("datetime64[h]").astype(int) % 24
        members["init_hour"] = (own == hours[:, None]).astype(np.float64)
    return members


def _init_hours(plan: ScoringPlan) -> np.ndarray:
    return np.unique(plan.init_times.astype("datetime64[h]").astype(int) % 24)


def _coords(plan: ScoringPlan, config: EvaluationConfig) -> dict[str, Any]:
    coords: dict[str, Any] = {
        "forecast": list(plan.sources),
        "lead_time": plan.lead_times,
        "channel": plan.channels.labels,
        "units": ("channel", [channel.units for channel in plan.channels]),
        "region": list(config.regions),
    }
    if config.num_resamples:
        coords["bound"] = ["lower", "upper"]
    if config.quantiles:
        coords["quantile"] = list(config.quantiles)
        coords["neighborhood"] = list(config.neighborhoods)
    if config.by_season:
        coords["season"] = list(_SEASONS)
    if config.by_init_hour:
        coords["init_hour"] = _init_hours(plan)
    if plan.spectrum is not None:
        coords["source"] = ["truth", *plan.sources]
        coords[plan.spectrum.dim] = (
            plan.spectrum.dim,
            plan.spectrum.wavenumbers,
            plan.spectrum.attrs,
        )
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
        hours = correlation_time(values.values, lead_hours(scores).astype(float))
        scores["correlation_time_hours"] = (("forecast", "channel", "region"), hours)
    return scores


def lead_hours(scores: xr.Dataset) -> np.ndarray:
    """Lead times in whole hours."""
    return lead_hours_of(scores["lead_time"].values)


def lead_hours_of(lead_times: np.ndarray) -> np.ndarray:
    """Lead times (timedelta64) in whole hours."""
    return (lead_times / np.timedelta64(1, "h")).round().astype(int)


def selected_leads_of(lead_times: np.ndarray) -> list[int]:
    """Indices of the first lead time and of 1, 2, 3, 5, 7 and 10 days where they exist.

    Of timesteps of an hour or two, the 1st, 2nd, 5th, 10th, ... and the last.
    """
    hours = lead_hours_of(lead_times).tolist()
    wanted = {hours[0], *(24 * day for day in (1, 2, 3, 5, 7, 10))}
    if hours[0] < _SHORT_HOURS:
        wanted = {*(hours[0] * count for count in (1, 2, 5, 10, 20, 50, 100)), hours[-1]}
    return [index for index, hour in enumerate(hours) if hour in wanted]


def selected_leads(scores: xr.Dataset) -> list[int]:
    """Indices of the lead times that tables show."""
    return selected_leads_of(scores["lead_time"].values)
