"""Checks of the values: missing, constant, implausible, in another unit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor.findings import Finding, collect, finding
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.grids.grid import Grid
from data_pipeline.preparation.blocks import check_finite, check_states
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.filling import rule_of
from data_pipeline.preprocessing.plausibility import (
    guess_units,
    mean_is_implausible,
    plausible_range,
    possible_range,
)
from data_pipeline.preprocessing.possible_values import PossibleValues, flat_fields
from data_pipeline.sources.names import UNITS

_WRONG_SHARE = 0.05  # of values outside of the range: the unit, not weather


def describe_values(
    sample: SampledValues, channels: Channels, grid: Grid
) -> dict[str, dict[str, Any]]:
    """Area-weighted moments, extremes and share of NaN of each channel that was read."""
    weights, facts = grid.area_weights(), dict[str, dict[str, Any]]()
    for channel in channels:
        values = sample.values.get(channel.label)
        if values is None:
            continue
        finite = np.isfinite(values)
        entry: dict[str, Any] = dict.fromkeys(("units", "min", "mean", "max", "std"))
        facts[channel.label] = entry
        entry |= {"units": channel.units, "nan_share": float(1 - finite.mean())}
        if finite.any():
            known = values[finite].astype(np.float64)
            area = np.broadcast_to(weights, values.shape)[finite]
            mean = float(np.average(known, weights=area))
            std = float(np.sqrt(np.average((known - mean) ** 2, weights=area)))
            low, high = float(known.min()), float(known.max())
            entry |= {"min": low, "mean": mean, "max": high, "std": std}
    return facts


def check_values(
    sample: SampledValues, channels: Channels, grid: Grid, config: DataConfig, *, static: bool
) -> list[Finding]:
    """Check the sample of prognostic or static channels, variable by variable.

    On a plane fields may well have a single value at first, and no values are implausible. Static
    fields are filled and checked for missing values when they are read.
    """
    findings: list[Finding] = []
    for name in dict.fromkeys(channel.name for channel in channels):
        group = [c for c in channels if c.name == name and c.label in sample.values]
        constant = []
        for channel in group:
            values = sample.values[channel.label]
            known = values[np.isfinite(values)]
            still = not static and len(values) > 2 and (values == values[0]).all()
            if still or (known.size and known.min() == known.max()):
                constant.append(channel)
        if constant:
            values = sample.values[constant[0].label]
            what = "the field is the same at all sampled times"
            if np.nanmin(values) == np.nanmax(values):
                what = f"all sampled values are {np.nanmin(values):g}"
            severity = "warning" if static else "error"
            remedy = "Leave it out, name it in data.static if it has no time, or correct the data."
            findings.append(finding("constant", severity, what, _labels(constant), remedy))
        varying = [c for c in group if c not in constant]
        if grid.on_sphere:
            findings += _check_blank(sample, varying)
        ranged = _check_range(sample, varying, grid) if grid.on_sphere else []
        if config.source is not None and not any(f.check == "units" for f in ranged):
            ranged = _check_possible(sample, varying, grid) or ranged
        findings += ranged
        undamaged = [channel for channel in group if channel.label not in sample.damaged]
        if undamaged and not static:
            findings += _check_missing(sample, undamaged, grid, config)
    return findings


def _describe_cell(sample: SampledValues, grid: Grid, cell: np.ndarray, *, timed: bool) -> str:
    """Text for an index (time, latitude, longitude)."""
    (y, row), (x, column) = zip(grid.dims, cell[1:], strict=True)
    where = f"{y} {grid.coords[y][row]:g}, {x} {grid.coords[x][column]:g}"
    if not timed or not len(sample.times):
        return where
    return f"{sample.times[cell[0]].astype('datetime64[m]')}, {where}"


def _labels(group: Sequence[Channel]) -> str:
    return ", ".join(channel.label for channel in group)


def _check_missing(
    sample: SampledValues, group: Sequence[Channel], grid: Grid, config: DataConfig
) -> list[Finding]:
    """Fill the values as configured, then check them as ``prepare`` does."""
    findings: list[Finding] = []
    fields = {channel: sample.values[channel.label] for channel in group}
    times, empty = sample.times, np.any([np.isnan(f).all(axis=(1, 2)) for f in fields.values()], 0)
    if empty.any():
        findings += _check_empty(sample, group, config)
        fields = {channel: field[~empty] for channel, field in fields.items()}
        times = times[~empty]
    incomplete = [channel for channel in group if not np.isfinite(fields[channel]).all()]
    if not incomplete:
        return findings
    first = np.argwhere(~np.isfinite(fields[incomplete[0]]))[0]
    cell = _describe_cell(replace(sample, times=times), grid, first, timed=True)
    where = f"{_labels(incomplete)}: {cell}"
    values = np.stack([fields[channel] for channel in group], axis=1)
    filled = [c for c in incomplete if rule_of(config.fill, c) is not None]
    if filled and np.isnan(values).any():
        share = np.mean([np.isnan(fields[channel]) for channel in filled])
        what = f"{100 * share:.3g} % of the sampled values are missing and filled"
        remedy = f"Nothing, where it is meant: data.fill has {rule_of(config.fill, filled[0])!r}."
        findings.append(finding("filled", "info", what, where, remedy))
        for index, channel in enumerate(group):
            if channel in filled:
                values[:, index] = np.where(np.isnan(values[:, index]), 0, values[:, index])
    with collect(findings, "nan", where):
        check_finite(values, Channels(tuple(group)), times)
    return findings


def _check_empty(
    sample: SampledValues, group: Sequence[Channel], config: DataConfig
) -> list[Finding]:
    """States in which a channel has no value are gaps, which ``prepare`` rejects or leaves out."""
    findings: list[Finding] = []
    empty = np.stack([np.isnan(sample.values[c.label]).all(axis=(1, 2)) for c in group], axis=1)
    filled = [i for i, channel in enumerate(group) if rule_of(config.fill, channel) is not None]
    with collect(findings, "time-gap" if filled else "nan", _labels(group)):
        check_states(empty, Channels(tuple(group)), sample.times, filled)
    remedy = "Nothing, where this is known: data.allow_gaps leaves these states out."
    if config.allow_gaps:
        return [replace(f, check="time-gap", severity="info", remedy=remedy) for f in findings]
    return findings


def _check_blank(sample: SampledValues, group: Sequence[Channel]) -> list[Finding]:
    """Single times at which a field is flat, while it is not at others."""
    for channel in group:
        values = sample.values[channel.label]
        flat = flat_fields(values, channel)
        if flat.any():
            time, count = int(np.argmax(flat)), int(flat.sum())
            value = f"{values[time, 0, 0]:g}"
            what = f"{count} of {len(flat)} sampled fields have a single value, {value}"
            where = f"{channel.label}: {sample.times[time].astype('datetime64[m]')}"
            possible = possible_range(channel.name, channel.level, channel.units)
            rejected = possible is not None and not possible.contains(values[time]).any()
            remedy = (
                "Replace these fields by NaN and set data.allow_gaps, or leave those times out."
            )
            if rejected:
                remedy = f"Set data.source.missing={{{channel.name}: {value}}} and data.allow_gaps."
            return [finding("blank", "error" if rejected else "warning", what, where, remedy)]
    return []


def _check_possible(sample: SampledValues, group: Sequence[Channel], grid: Grid) -> list[Finding]:
    """Values that ``prepare`` rejects, but for fields with a single value."""
    findings: list[Finding] = []
    for channel in group:
        values = sample.values[channel.label]
        if grid.on_sphere:
            values = np.where(flat_fields(values, channel)[:, None, None], np.nan, values)
        times = sample.times if len(sample.times) == len(values) else None
        with collect(findings, "outlier", _labels(group)):
            PossibleValues(Channels((channel,)), grid).check(values[:, None], times)
    return findings[:1]


def _check_range(sample: SampledValues, group: Sequence[Channel], grid: Grid) -> list[Finding]:
    """One finding for a variable: of its unit where many values are implausible, or of outliers."""
    wrong, outliers = [], []
    for channel in group:
        values = sample.values[channel.label]
        expected = plausible_range(channel.name, channel.level, channel.units)
        values = np.where(flat_fields(values, channel)[:, None, None], np.nan, values)
        known = values[np.isfinite(values)]
        if expected is None or not known.size:
            continue
        outside = known[~expected.contains(known)]
        if mean_is_implausible(channel.name, known):
            wrong.append((channel, known, expected))
        elif len(outside) > _WRONG_SHARE * known.size and np.ptp(outside) > 0:
            wrong.append((channel, outside, expected))
        elif len(outside):
            outliers.append((channel, values, expected))
    if wrong:
        channel, values, expected = wrong[0]
        units = UNITS.get(channel.name) or channel.units
        guesses = [guess_units(c.name, v, r, units) for c, v, r in wrong]
        likely = next((guess for guess in guesses if guess is not None), None)
        what = f"values of {values.min():.4g} to {values.max():.4g}, plausible: {expected} {units}"
        remedy = f"Look at the data: it is not in {units}, or not this variable."
        if likely is not None:
            what += f"; they look like {likely.units}"
            remedy = f"Convert the data to {units}: {likely}."
        return [finding("units", "error", what, _labels([c for c, _, _ in wrong]), remedy)]
    if not outliers:
        return []
    channel, values, expected = outliers[0]
    distance = np.abs(values - (expected.low + expected.high) / 2)
    distance = np.nan_to_num(distance, nan=0.0, posinf=0.0)
    cell = np.array(np.unravel_index(np.argmax(distance), values.shape))
    count = int((np.isfinite(values) & ~expected.contains(values)).sum())
    where = _describe_cell(sample, grid, cell, timed=len(values) == len(sample.times))
    what = f"{count} sampled values are implausible, the most {values[tuple(cell)]:.4g}, plausible "
    what += f"are {expected} {channel.units}"
    where = f"{_labels([c for c, _, _ in outliers])}: {where}"
    remedy = "Look at the data there; mask spurious values as NaN and set data.fill."
    return [finding("outlier", "warning", what, where, remedy)]
