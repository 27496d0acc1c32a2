"""Static fields: what the network sees of the place, as orography, land-sea mask and soil type.

Classes, as those of soil, become a mask each (soil_type_1, soil_type_2, ...), because the number of
a class means nothing; on a coarser grid a mask becomes the share of the area. Variables are classes
by their name, or where the attribute ``flag_values`` of CF says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.preprocessing.filling import FillRule, missing_label
from data_pipeline.sources.canonical import require_units
from data_pipeline.sources.names import CATEGORICAL
from data_pipeline.sources.retry import load

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
        """Read the variables, without their time where they do not change.

        Args:
            dataset: Canonical dataset.
            variables: Names or labels.
            levels: Levels in hPa of those that have levels; all where empty.
            rules: What stands for missing values, by variable: a number, or ``climatology``, here
                the area mean, with a channel that says where values are missing.

        Raises:
            InputError: If a variable is missing, changes in time, has other axes, values that are
                not finite, no units, or too many classes.
        """
        wanted = Channels.from_dataset(dataset, variables, levels)
        names = list(dict.fromkeys(channel.name for channel in wanted))
        fixed = xr.Dataset({name: _without_time(dataset, name) for name in names})
        require_units(fixed, [name for name in names if not _is_categorical(dataset[name])])
        found: dict[Channel, np.ndarray] = {}
        for channel in wanted:
            values = Channels((channel,)).stack(fixed).isel(channel=0).values.astype(float)
            rule = rules.get(channel.name)
            if _is_categorical(dataset[channel.name]):
                found |= _classes(channel, _filled_class(channel, values, rule))
            else:
                found |= _filled(channel, values, rule, grid_of(dataset))
        shape = grid_of(dataset).shape
        fields = np.array(list(found.values()), np.float32).reshape(-1, *shape)
        return cls(Channels(tuple(found)), fields)


def _is_categorical(array: xr.DataArray) -> bool:
    return array.name in CATEGORICAL or "flag_values" in array.attrs


def _without_time(dataset: xr.Dataset, name: str) -> xr.DataArray:
    array = dataset[name]
    dims = set(map(str, array.dims))
    space = space_dims(dataset.dims)
    if dims - {"time", "level", *space} or not set(space) <= dims:
        raise InputError(
            f"the static variable {name} has dimensions {sorted(dims)}, expected "
            f"{' and '.join(space)} alone (and level); select one entry of the others, or give it "
            "another role",
            code="wrong-dimensions",
        )
    if "time" not in dims:
        return load(array, f"the static variable {name}")
    spread = np.linspace(0, array.sizes["time"] - 1, _COMPARED_TIMES)
    array = load(array.isel(time=np.unique(spread.astype(int))), f"the static variable {name}")
    first = array.isel(time=0, drop=True)
    # Files packed as integers round each in its own way.
    tolerance = 1e-3 * float(first.max() - first.min()) if first.notnull().any() else 0.0
    same = np.isclose(array.values, first.values, rtol=0, atol=tolerance, equal_nan=True)
    if not same.all():
        where = int(np.argmax(~same.reshape(len(same), -1).all(axis=1)))
        raise InputError(
            f"the static variable {name} changes in time: {array['time'].values[where]} differs "
            f"from {array['time'].values[0]}; name it in data.prognostic, or give a file with one "
            "time of it",
            code="not-invariant",
        )
    return first


def _filled(
    channel: Channel, values: np.ndarray, rule: FillRule | None, grid: Grid
) -> dict[Channel, np.ndarray]:
    missing = np.isnan(values)
    if isinstance(rule, int | float):
        values, missing = np.where(missing, float(rule), values), np.zeros_like(missing)
    if np.isinf(values).any() or (missing.any() and rule is None) or missing.all():
        raise InputError(
            _not_finite(channel, values, "a number, or climatology"), code="not-finite"
        )
    if rule != "climatology":
        return {channel: values}
    weights = grid.area_weights() * ~missing
    mean = (weights * np.nan_to_num(values)).sum() / weights.sum()
    mask = Channel(name=missing_label(channel), units="1")
    return {channel: np.where(missing, mean, values), mask: missing.astype(float)}


def _filled_class(channel: Channel, values: np.ndarray, rule: FillRule | None) -> np.ndarray:
    missing = np.isnan(values)
    if isinstance(rule, int | float):
        values = np.where(missing, float(rule), values)
    if not np.isfinite(values).all():
        raise InputError(_not_finite(channel, values, "the number of a class"), code="not-finite")
    return values


def _not_finite(channel: Channel, values: np.ndarray, remedy: str) -> str:
    return (
        f"the static variable {channel.label} has {int((~np.isfinite(values)).sum())} values that "
        f"are not finite; set data.fill={{{channel.name}: ...}} to {remedy}, or leave it out"
    )


def _classes(channel: Channel, values: np.ndarray) -> dict[Channel, np.ndarray]:
    fractions = values[values != np.round(values)]
    if len(fractions):
        raise InputError(
            f"{channel.label} holds classes, and {len(fractions)} of its values are no whole "
            f"numbers, as {fractions[0]:g}: they were averaged over cells; take it from the data "
            "on its own grid, or leave it out",
            code="bad-classes",
        )
    classes = np.unique(values).astype(int)
    if len(classes) > _MOST_CLASSES:
        raise InputError(
            f"{channel.label} holds {len(classes)} classes, expected at most {_MOST_CLASSES}; take "
            "its attribute flag_values away if it is a quantity, or leave it out",
            code="bad-classes",
        )
    return {
        Channel(name=f"{channel.label}_{code}", units="1"): (values == code).astype(float)
        for code in classes.tolist()
    }
