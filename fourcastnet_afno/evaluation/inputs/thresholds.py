"""Thresholds of events from a series of training years: quantiles of each cell, and SEEPS's."""

import warnings
from collections.abc import Sequence

import numpy as np

from data_pipeline.channels import Channel, Channels
from fourcastnet_afno.evaluation.inputs.climatologies import Climatology, from_table
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.statistics.pairs import SeepsThresholds

_MAX_STATES, _MAX_BYTES = 1000, 256 * 2**20
# Below this much precipitation, in m, a cell is dry (WeatherBench 2).
DRY_THRESHOLDS = {"total_precipitation_24hr": 0.25e-3, "total_precipitation_6hr": 0.1e-3}


def quantile_thresholds(
    series: TruthFields, channels: Channels, levels: Sequence[float]
) -> dict[str, np.ndarray]:
    """Quantiles (quantile, latitude, longitude) of each cell by label of the channel.

    All hours and days of the year count together; at most 1000 evenly spaced states are used.
    """
    return {
        channel.label: np.nanquantile(_sample(series, channel), levels, axis=0)
        for channel in channels
    }


def seeps_thresholds(
    channel: Channel, climatology: Climatology, series: TruthFields | None
) -> SeepsThresholds | None:
    """Thresholds from a WeatherBench 2 climatology, or else from a series of training years.

    The climatology's dataset may hold ``..._seeps_dry_fraction`` (the mean over the year counts)
    and ``..._seeps_threshold`` (by day of year and hour). ``None`` for channels that are no
    precipitation, or where there is nothing to take them from.
    """
    dry = DRY_THRESHOLDS.get(channel.name)
    if dry is None:
        return None
    table = climatology.dataset
    names = [f"{channel.name}_seeps_{suffix}" for suffix in ("dry_fraction", "threshold")]
    if table is not None and all(name in table for name in names):
        heavy = Channel(name=names[1])
        at = from_table(table[names]).at
        axes = [axis for axis in ("hour", "dayofyear") if axis in table[names[0]].dims]
        fraction = table[names[0]].mean(axes).transpose("latitude", "longitude")
        return SeepsThresholds(fraction.values.astype(np.float64), lambda t: at(heavy, t), dry)
    if series is None:
        return None
    sample = _sample(series, channel)
    wet = sample > dry
    with warnings.catch_warnings():  # of cells that were never wet
        warnings.simplefilter("ignore", RuntimeWarning)
        quantile = np.nanquantile(np.where(wet, sample, np.nan), 2 / 3, axis=0)
    field = np.where(np.isnan(quantile), np.inf, quantile)
    return SeepsThresholds(
        1 - wet.mean(axis=0), lambda t: np.broadcast_to(field, (len(t), *field.shape)), dry
    )


def _sample(series: TruthFields, channel: Channel) -> np.ndarray:
    """Evenly spaced states (time, latitude, longitude)."""
    one = series.at(channel, series.times[:1])
    count = max(2, min(_MAX_STATES, _MAX_BYTES // one.nbytes, len(series.times)))
    chosen = np.unique(np.linspace(0, len(series.times) - 1, count).round().astype(int))
    return series.at(channel, series.times[chosen])
