"""Units of forecasts beside those of truth, and values where one side states none."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.sources.names import normalize_units
from fourcastnet_afno.evaluation.inputs.truth import computed

_LARGER = 30.0  # ratio of ranges that no forecast has by mistake alone


def compare_units(
    forecasts: Mapping[str, xr.Dataset], truth: xr.Dataset, channels: Channels
) -> list[str]:
    """Sentences on variables without units, which are taken to be in those of the other side.

    Raises:
        InputError: If units differ, or values without units cannot be in those of the other side.
    """
    first = {channel.name: channel for channel in reversed(list(channels))}
    wrong, notes = [], []
    for name, dataset in forecasts.items():
        silent: dict[str, list[str]] = {name: [], "truth": []}
        for variable, channel in first.items():
            ours, theirs = (
                normalize_units(str(d[variable].attrs.get("units", ""))) for d in (dataset, truth)
            )
            if ours and theirs and ours != theirs:
                wrong.append(f"{variable} of {name} is in {ours!r}, truth in {theirs!r}")
            if bool(ours) != bool(theirs):
                who, units = (name, theirs) if theirs else ("truth", ours)
                silent[who].append(f"{variable} (taken to be in {units})")
                notes += _compare_values(name, dataset, truth, channel, who, units)
            elif not ours:
                silent[name].append(f"{variable} (nor does truth)")
        notes += [f"{who} states no units of {', '.join(v)}" for who, v in silent.items() if v]
    if wrong:
        message = f"units differ: {'; '.join(wrong)}; convert one of them"
        raise InputError(message, code="units-mismatch")
    return list(dict.fromkeys(notes))


def _compare_values(
    name: str, forecast: xr.Dataset, truth: xr.Dataset, channel: Channel, who: str, units: str
) -> list[str]:
    """Reject values of a forecast that cannot be in truth's units, or warn."""
    last = {"init_time": 0, "lead_time": -1}
    middle = truth.sizes["time"] // 2
    fields = forecast[channel.name].isel(last), truth[channel.name].isel(time=[0, middle, -1])
    if channel.level is not None:
        fields = tuple(array.sel(level=channel.level) for array in fields)
    ours, actual = (values[np.isfinite(values)] for values in map(computed, fields))
    if not ours.size or not actual.size or np.ptp(actual) == 0:
        return []
    low, high, width = actual.min(), actual.max(), float(np.ptp(actual))
    described = (
        f"{channel.label} of {name} has values from {ours.min():.6g} to {ours.max():.6g}, truth "
        f"from {low:.6g} to {high:.6g}, and {who} states no units"
    )
    outside = not low - width <= np.median(ours) <= high + width
    if outside or np.ptp(ours) > _LARGER * width:
        raise InputError(
            f"{described}; convert them to {units} and give the files the attribute units",
            code="units-mismatch",
        )
    if 0 < np.ptp(ours) * _LARGER < width:
        return [f"warning: {described}: check that they are in {units}"]
    return []
