"""Thresholds of events from a series of training years: quantiles of each cell, and SEEPS's."""

import warnings
from collections.abc import Sequence

import numpy as np

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.sources.names import normalize_units
from fourcastnet_afno.evaluation.inputs.climatologies import pick
from fourcastnet_afno.evaluation.inputs.climatology_tables import from_table, is_table
from fourcastnet_afno.evaluation.inputs.companions import AlignedClimatology, AlignedYears
from fourcastnet_afno.evaluation.statistics.pairs import SeepsThresholds

_MAX_STATES, _MAX_BYTES = 1000, 256 * 2**20
# Below this much precipitation, in m, a cell is dry (WeatherBench 2).
DRY_THRESHOLDS = {"total_precipitation_24hr": 0.25e-3, "total_precipitation_6hr": 0.1e-3}
_PER_METRE = {"m": 1.0, "cm": 1e2, "mm": 1e3, "kg m-2": 1e3}  # of water


def quantile_thresholds(
    series: AlignedYears, channels: Channels, levels: Sequence[float]
) -> dict[str, np.ndarray]:
    """Quantiles (quantile, latitude, longitude) of each cell by label of the channel.

    All hours and days of the year count together; at most 1000 evenly spaced states are used.
    Cells that are always missing have none (NaN).
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice", RuntimeWarning)
        return {
            channel.label: np.nanquantile(_sample(series, channel), levels, axis=0)
            for channel in channels
        }


def seeps_thresholds(
    channels: Channels, climatology: AlignedClimatology, years: AlignedYears | None
) -> tuple[dict[str, SeepsThresholds], list[str]]:
    """Thresholds of SEEPS by label, in the units of truth, and notes where there can be none.

    They come from a WeatherBench 2 climatology, whose table may hold ``..._seeps_dry_fraction``
    (the mean over the year counts) and ``..._seeps_threshold``, or else from training years. Cells
    without a threshold or a dry fraction, which are NaN in either, have no score.
    """
    found, notes = {}, []
    for channel in channels:
        if channel.name not in DRY_THRESHOLDS:
            continue
        scale = _PER_METRE.get(normalize_units(channel.units or "m"))
        if scale is None:
            notes.append(
                f"no SEEPS of {channel.label}: its units {channel.units!r} are none of "
                f"{', '.join(_PER_METRE)}"
            )
            continue
        if not channel.units:
            notes.append(f"{channel.label} states no units: SEEPS takes it to be in m")
        dry = DRY_THRESHOLDS[channel.name] * scale
        thresholds = _from_climatology(channel, climatology, dry, scale)
        if thresholds is None and years is not None:
            thresholds = _from_years(channel, years, dry)
        if thresholds is not None:
            found[channel.label] = thresholds
        elif climatology.thresholds is None:
            notes.append(
                f"no SEEPS of {channel.label}: thresholds of another grid cannot be averaged, and "
                "there are no training years"
            )
    return found, notes


def _from_climatology(
    channel: Channel, climatology: AlignedClimatology, dry: float, scale: float
) -> SeepsThresholds | None:
    """Thresholds of a table; those in other units of precipitation are converted."""
    table = climatology.thresholds
    names = [f"{channel.name}_seeps_{suffix}" for suffix in ("dry_fraction", "threshold")]
    if table is None or not is_table(table) or any(name not in table for name in names):
        return None
    heavy = Channel(name=names[1])
    stated = normalize_units(str(table[names[1]].attrs.get("units", "")))
    if stated and stated not in _PER_METRE:
        raise InputError(
            f"{names[1]} of the climatology is in {stated!r}, expected one of "
            f"{', '.join(_PER_METRE)}; convert it, or correct a wrong label with "
            "--climatology.units",
            code="units-mismatch",
        )
    factor = scale / _PER_METRE[stated] if stated else 1.0
    at = from_table(table[names]).at
    fraction = pick(table, Channel(name=names[0]))
    by_cell = fraction.mean(fraction.dims[:-2]).values.astype(np.float64)
    return SeepsThresholds(by_cell, lambda times: factor * at(heavy, times), dry)


def _from_years(channel: Channel, years: AlignedYears, dry: float) -> SeepsThresholds:
    """Dry fraction, and two thirds of the wet amounts, of the values that are not missing."""
    sample = _sample(years, channel)
    with warnings.catch_warnings():  # of cells that were never wet, or are always missing
        warnings.simplefilter("ignore", RuntimeWarning)
        quantile = np.nanquantile(np.where(sample > dry, sample, np.nan), 2 / 3, axis=0)
        fraction = np.nanmean(np.where(np.isnan(sample), np.nan, sample <= dry), axis=0)
    return SeepsThresholds(
        fraction, lambda t: np.broadcast_to(quantile, (len(t), *quantile.shape)), dry
    )


def _sample(series: AlignedYears, channel: Channel) -> np.ndarray:
    """Evenly spaced states (time, latitude, longitude)."""
    one = series.at(channel, series.times[:1])
    count = max(2, min(_MAX_STATES, _MAX_BYTES // one.nbytes, len(series.times)))
    chosen = np.unique(np.linspace(0, len(series.times) - 1, count).round().astype(int))
    return series.at(channel, series.times[chosen])
