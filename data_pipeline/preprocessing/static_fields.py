"""Static fields: inputs that do not change in time, such as orography and land-sea mask.

Classes, such as those of soil, become a mask each (soil_type_1, soil_type_2, ...), because the
number of a class is arbitrary; on a coarser grid a mask becomes the fraction of the area. Variables
are classes by their name, or if they have the attribute ``flag_values`` of CF.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.precision import at_least_single
from data_pipeline.preprocessing.filling import FillRule, missing_label, rule_of
from data_pipeline.preprocessing.possible_values import PossibleValues
from data_pipeline.sources.join import Origins
from data_pipeline.sources.names import CATEGORICAL
from data_pipeline.sources.retry import load
from data_pipeline.sources.units import require_units

_COMPARED_TIMES = 64
_MOST_CLASSES = 64


@dataclass(frozen=True)
class StaticFields:
    """Static channels and their values, float32 (channel, latitude, longitude)."""

    channels: Channels
    fields: np.ndarray

    @classmethod
    def read(
        cls,
        dataset: xr.Dataset,
        variables: Sequence[str],
        levels: Sequence[int],
        rules: Mapping[str, FillRule],
    ) -> "StaticFields":
        """Read variables (names or labels), without their time where they do not change.

        ``levels`` (hPa) are those of variables with levels, all where empty. ``rules`` to fill are
        a number, or ``climatology``: here the area mean, with a channel that marks missing values.

        Raises:
            InputError: If a variable is missing, changes in time, has other axes, values that are
                impossible or not finite, no units, or too many classes.
        """
        channels = Channels.from_dataset(dataset, variables, levels)
        names = list(dict.fromkeys(channel.name for channel in channels))
        fixed = xr.Dataset({name: _without_time(dataset, name) for name in names})
        classes = {n for n in names if n in CATEGORICAL or "flag_values" in dataset[n].attrs}
        require_units(fixed, [name for name in names if name not in classes])
        grid, fields, origins = grid_of(dataset), {}, Origins.of(dataset)
        for channel in channels:
            alone = Channels((channel,))
            values = alone.stack(fixed).isel(channel=0).values.astype(float)
            possible = PossibleValues(alone, grid, origins=origins)
            possible.check(values[None, None].astype(np.float32))
            categorical = channel.name in classes
            rule = rule_of(rules, channel)
            filled = _fill(channel, values, rule, grid, categorical=categorical)
            fields |= _masks_of_classes(channel, filled[channel]) if categorical else filled
        values = np.array(list(fields.values()), np.float32).reshape(-1, *grid.shape)
        return cls(Channels(tuple(fields)), values)


def _without_time(dataset: xr.Dataset, name: str) -> xr.DataArray:
    array, space, title = dataset[name], space_dims(dataset.dims), f"the static variable {name}"
    dims = set(map(str, array.dims))
    if dims - {"time", "level", *space} or not set(space) <= dims:
        raise InputError(
            f"{title} has dimensions {sorted(dims)}, expected {' and '.join(space)} alone (and "
            "level); take one entry of the others with data.source.select, or give it another role",
            code="wrong-dimensions",
        )
    if "time" not in dims:
        return at_least_single(load(array, title))
    spread = np.linspace(0, array.sizes["time"] - 1, _COMPARED_TIMES)
    array = at_least_single(load(array.isel(time=np.unique(spread.astype(int))), title))
    first = array.isel(time=0, drop=True)
    # Files packed as integers round each in its own way.
    tolerance = 1e-3 * float(first.max() - first.min()) if first.notnull().any() else 0.0
    same = np.isclose(array.values, first.values, rtol=0, atol=tolerance, equal_nan=True)
    if not same.all():
        index = int(np.argmax(~same.reshape(len(same), -1).all(axis=1)))
        raise InputError(
            f"{title} changes in time: {array['time'].values[index]} differs from "
            f"{array['time'].values[0]}; name it in data.prognostic, or give one time of it",
            code="not-invariant",
        )
    return first


def _fill(
    channel: Channel, values: np.ndarray, rule: FillRule | None, grid: Grid, *, categorical: bool
) -> dict[Channel, np.ndarray]:
    """The channel without missing values, and with ``climatology`` the mask of these."""
    missing = np.isnan(values)
    if isinstance(rule, int | float):
        values, missing = np.where(missing, float(rule), values), np.zeros_like(missing)
    by_mean = rule == "climatology" and not categorical
    wrong = np.isinf(values) if by_mean else ~np.isfinite(values)
    if wrong.any() or missing.all():
        remedy = "the number of a class" if categorical else "a number, or climatology"
        count = int((~np.isfinite(values)).sum())
        raise InputError(
            f"the static variable {channel.label} has {count} values that are not finite; set "
            f"data.fill={{{channel.name}: ...}} to {remedy}, or leave it out",
            code="not-finite",
        )
    if not by_mean:
        return {channel: values}
    weights = grid.area_weights() * ~missing
    mean = (weights * np.nan_to_num(values)).sum() / weights.sum()
    mask = Channel(name=missing_label(channel), units="1")
    return {channel: np.where(missing, mean, values), mask: missing.astype(float)}


def _masks_of_classes(channel: Channel, values: np.ndarray) -> dict[Channel, np.ndarray]:
    fractions = values[values != np.round(values)]
    if len(fractions):
        raise InputError(
            f"{len(fractions)} classes of {channel.label} are no integers, such as "
            f"{fractions[0]:g}; take it from data that is not averaged over cells, or leave it out",
            code="bad-classes",
        )
    classes = np.unique(values).astype(int)
    if len(classes) > _MOST_CLASSES:
        raise InputError(
            f"{channel.label} holds {len(classes)} classes, expected at most {_MOST_CLASSES}; drop "
            "its attribute flag_values if it is a quantity, or leave it out",
            code="bad-classes",
        )
    return {
        Channel(name=f"{channel.label}_{code}", units="1"): (values == code).astype(float)
        for code in classes.tolist()
    }
