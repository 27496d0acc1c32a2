"""Checks of the values: missing, constant, implausible, in another unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor.findings import Finding, finding
from data_pipeline.doctor.plausibility import (
    Range,
    guess_units,
    mean_is_implausible,
    plausible_range,
)
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.grids.grid import Grid
from data_pipeline.preparation.config import DataConfig
from data_pipeline.sources.names import UNITS

_WRONG_SHARE = 0.05  # of values outside of the range: the unit, not weather


def describe_values(
    sample: SampledValues, channels: Channels, grid: Grid
) -> dict[str, dict[str, Any]]:
    """Area-weighted moments, extremes and share of NaN of each channel that was read."""
    weights = grid.area_weights()
    facts = {}
    for channel in channels:
        values = sample.values.get(channel.label)
        if values is not None:
            facts[channel.label] = {"units": channel.units, **_moments(values, weights)}
    return facts


def _moments(values: np.ndarray, weights: np.ndarray) -> dict[str, float | None]:
    finite = np.isfinite(values)
    share = float(1 - finite.mean())
    if not finite.any():
        return dict.fromkeys(("min", "mean", "max", "std")) | {"nan_share": share}
    known = values[finite].astype(np.float64)
    area = np.broadcast_to(weights, values.shape)[finite]
    mean = float(np.average(known, weights=area))
    std = float(np.sqrt(np.average((known - mean) ** 2, weights=area)))
    low, high = float(known.min()), float(known.max())
    return {"min": low, "mean": mean, "max": high, "std": std, "nan_share": share}


def check_values(
    sample: SampledValues, channels: Channels, grid: Grid, config: DataConfig, *, static: bool
) -> list[Finding]:
    """Check what was read of prognostic or static channels, variable by variable.

    On a plane fields may well have a single value at first, and no values are implausible.
    """
    findings: list[Finding] = []
    for name in dict.fromkeys(channel.name for channel in channels):
        group = [c for c in channels if c.name == name and c.label in sample.values]
        constant = [c for c in group if _is_constant(sample.values[c.label], static)]
        varying = [c for c in group if c not in constant]
        findings += _constant_finding(sample, constant, static)
        if grid.on_sphere:
            findings += _check_blank(sample, varying)
            findings += _check_range(sample, varying, grid)
        findings += _check_missing(sample, group, grid, config)
    return findings


def _place(sample: SampledValues, grid: Grid, at: np.ndarray, *, timed: bool) -> str:
    """Words for an index (time, latitude, longitude)."""
    row, column = (grid.coords[axis][i] for axis, i in zip(grid.dims, at[1:], strict=True))
    where = f"{grid.dims[0]} {row:g}, {grid.dims[1]} {column:g}"
    if not timed or not len(sample.times):
        return where
    return f"{sample.times[at[0]].astype('datetime64[m]')}, {where}"


def _labels(group: Sequence[Channel]) -> str:
    return ", ".join(channel.label for channel in group)


def _check_missing(
    sample: SampledValues,
    group: Sequence[Channel],
    grid: Grid,
    config: DataConfig,
) -> list[Finding]:
    bad = [
        channel
        for channel in group
        if not np.isfinite(sample.values[channel.label]).all()
        and channel.label not in sample.damaged
    ]
    if not bad:
        return []
    name, first = bad[0].name, sample.values[bad[0].label]
    infinite = any(np.isinf(sample.values[channel.label]).any() for channel in bad)
    share = np.mean([~np.isfinite(sample.values[channel.label]) for channel in bad])
    at = np.argwhere(~np.isfinite(first))[0]
    where = f"{_labels(bad)}: {_place(sample, grid, at, timed=True)}"
    what = f"{100 * share:.3g} % of the sampled values are not finite"
    if name in config.fill and not infinite and share < 1:
        what = f"{100 * share:.3g} % of the sampled values are missing and filled"
        return [finding("filled", "info", what, where, f"data.fill has {config.fill[name]!r}.")]
    remedy = f"Set data.fill={{{name}: climatology}} (or a number), or leave it out."
    if infinite or share == 1:
        remedy = "Replace these values in the data, or leave the variable out."
    return [finding("nan", "error", what, where, remedy)]


def _is_constant(values: np.ndarray, static: bool) -> bool:
    """Whether all values are one, or, of a prognostic field, those of each point."""
    known = values[np.isfinite(values)]
    still = not static and len(values) > 2 and bool((values == values[0]).all())
    return bool(known.size and known.min() == known.max()) or still


def _constant_finding(
    sample: SampledValues, constant: Sequence[Channel], static: bool
) -> list[Finding]:
    if not constant:
        return []
    values = sample.values[constant[0].label]
    same = np.nanmin(values) == np.nanmax(values)
    return [
        finding(
            "constant",
            "warning" if static else "error",
            f"all sampled values are {np.nanmin(values):g}"
            if same
            else "the field is the same at all sampled times",
            _labels(constant),
            "Leave the variable or level out, make a field without time data.static, or correct "
            "the data.",
        )
    ]


def _flat(values: np.ndarray, channel: Channel) -> np.ndarray:
    """Which fields have a single value; no rain, cloud or ice anywhere is weather."""
    flat = values.min(axis=(1, 2)) == values.max(axis=(1, 2))
    expected = plausible_range(channel.name, channel.level, channel.units)
    if expected is not None and expected.low > -1 and expected.contains(np.zeros(1))[0]:
        flat &= values[:, 0, 0] != 0
    return flat


def _check_blank(sample: SampledValues, group: Sequence[Channel]) -> list[Finding]:
    """Single times at which a field is flat, while it is not at others."""
    for channel in group:
        values = sample.values[channel.label]
        flat = _flat(values, channel)
        if flat.any():
            time = int(np.argmax(flat))
            return [
                finding(
                    "blank",
                    "warning",
                    f"{int(flat.sum())} of {len(flat)} sampled fields have a single value, "
                    f"{values[time, 0, 0]:g}",
                    f"{channel.label}: {sample.times[time].astype('datetime64[m]')}",
                    "Replace these fields by NaN and set data.fill, or leave those times out.",
                )
            ]
    return []


def _check_range(sample: SampledValues, group: Sequence[Channel], grid: Grid) -> list[Finding]:
    """One finding for a variable: of its unit where many values are implausible, or of outliers."""
    wrong, outliers = [], []
    for channel in group:
        values = sample.values[channel.label]
        expected = plausible_range(channel.name, channel.level, channel.units)
        values = np.where(_flat(values, channel)[:, None, None], np.nan, values)
        known = values[np.isfinite(values)]
        if expected is None or not known.size:
            continue
        outside = known[~expected.contains(known)]
        if mean_is_implausible(channel.name, known):
            wrong.append((channel, known, expected))
        elif len(outside) > _WRONG_SHARE * known.size:
            wrong.append((channel, outside, expected))
        elif len(outside):
            outliers.append((channel, values, expected))
    if wrong:
        return [_units_finding(wrong)]
    return [_outlier_finding(sample, outliers, grid)] if outliers else []


def _units_finding(wrong: Sequence[tuple[Channel, np.ndarray, Range]]) -> Finding:
    channel, values, expected = wrong[0]
    units = UNITS.get(channel.name, channel.units)
    guesses = [guess_units(c.name, v, r, UNITS.get(c.name, c.units)) for c, v, r in wrong]
    likely = next((guess for guess in guesses if guess is not None), None)
    what = (
        f"values of {values.min():.4g} to {values.max():.4g}, plausible are {expected.low:.4g} to "
        f"{expected.high:.4g} {units}"
    )
    remedy = f"Look at the data: it is not in {units}, or not this variable."
    if likely is not None:
        what += f"; they look like {likely.units}"
        remedy = f"Convert the data to {units}: {likely}."
    return finding("units", "error", what, _labels([c for c, _, _ in wrong]), remedy)


def _outlier_finding(
    sample: SampledValues, outliers: Sequence[tuple[Channel, np.ndarray, Range]], grid: Grid
) -> Finding:
    channel, values, expected = outliers[0]
    center = (expected.low + expected.high) / 2
    distance = np.abs(np.nan_to_num(values - center, nan=0.0, posinf=0.0, neginf=0.0))
    at = np.array(np.unravel_index(np.argmax(distance), values.shape))
    count = int((np.isfinite(values) & ~expected.contains(values)).sum())
    timed = len(values) == len(sample.times)
    return finding(
        "outlier",
        "warning",
        f"{count} sampled values are implausible, the most {values[tuple(at)]:.4g}, plausible are "
        f"{expected.low:.4g} to {expected.high:.4g} {channel.units}",
        f"{_labels([c for c, _, _ in outliers])}: {_place(sample, grid, at, timed=timed)}",
        "Look at this place in the data; mask spurious values as NaN and set data.fill.",
    )
