"""Channels: the one crossing between labelled variables and arrays.

A channel is a variable at a level, labelled ``geopotential_500``, or a variable without levels,
labelled ``2m_temperature``. ``Channels.stack`` turns a canonical dataset into an array with a
channel axis, ``Channels.unstack`` turns it back.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from data_pipeline.sources.names import parse_label

Array = np.ndarray | dask.array.Array


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One variable at one level.

    Args:
        name: Canonical name of the variable.
        level: Pressure in hPa, or ``None`` for a variable without levels.
        units: CF units of the values.
    """

    name: str
    level: int | None = None
    units: str = ""

    @property
    def label(self) -> str:
        """Name and level, as ``geopotential_500``."""
        return self.name if self.level is None else f"{self.name}_{self.level}"


@dataclass(frozen=True)
class Channels:
    """An ordered set of channels: the meaning of a channel axis."""

    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        repeated = {label for label in self.labels if self.labels.count(label) > 1}
        if repeated:
            raise InputError(
                f"channels must differ, got {sorted(repeated)} more than once",
                code="repeated-channel",
            )

    @classmethod
    def from_dataset(
        cls, dataset: xr.Dataset, variables: Sequence[str], levels: Sequence[int] = ()
    ) -> "Channels":
        """The channels of ``variables`` in a canonical dataset, in the order asked for.

        Args:
            dataset: Canonical dataset.
            variables: Names of variables, or labels of single channels as ``geopotential_500`` or
                ``z500``, see ``names.parse_label``.
            levels: Levels in hPa of every variable that has levels; all where empty.

        Raises:
            InputError: If variables or levels are missing (all of them are named).
        """
        wanted = [(n, None) if n in dataset else parse_label(n) for n in variables]
        missing = [
            given for given, (name, _) in zip(variables, wanted, strict=True) if name not in dataset
        ]
        if missing:
            raise InputError(
                f"the data lacks the variables {missing}; it holds "
                f"{sorted(map(str, dataset.data_vars))}; correct the names in "
                "data.prognostic, data.diagnostic and data.static, or map them with "
                "data.source.rename",
                code="missing-variable",
            )
        expanded = [
            _expand(dataset[name], name, levels if level is None else [level])
            for name, level in wanted
        ]
        return cls(tuple(channel for group in expanded for channel in group))

    @classmethod
    def from_json(cls, records: Sequence[Mapping[str, Any]]) -> "Channels":
        """Inverse of ``to_json``."""
        return cls(tuple(Channel(**record) for record in records))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain records, for checkpoints and attributes."""
        return [{"name": c.name, "level": c.level, "units": c.units} for c in self.channels]

    @property
    def labels(self) -> list[str]:
        """Labels in order."""
        return [channel.label for channel in self.channels]

    def __len__(self) -> int:
        return len(self.channels)

    def __iter__(self) -> Iterator[Channel]:
        return iter(self.channels)

    def __add__(self, other: "Channels") -> "Channels":
        """These, then others, which must differ from them."""
        return Channels((*self.channels, *other.channels))

    def stack(self, dataset: xr.Dataset) -> xr.DataArray:
        """Lay the variables along a channel axis.

        Returns:
            Lazy where the dataset is lazy, of dims (..., channel, latitude, longitude), or y and x
            on a plane, with labels as the coordinate ``channel``.
        """
        slices = [_select(dataset, channel) for channel in self.channels]
        coordinate = xr.Variable("channel", np.array(self.labels, dtype=object))
        stacked = xr.concat(
            slices, dim=coordinate, coords="minimal", compat="override", combine_attrs="drop"
        )
        last = ("channel", *space_dims(stacked.dims))
        leading = [dim for dim in stacked.dims if dim not in last]
        return stacked.transpose(*leading, *last).rename(None)

    def unstack(self, array: Array, coords: Mapping[str, Any]) -> xr.Dataset:
        """Inverse of ``stack``.

        Args:
            array: Values of shape (..., channel, latitude, longitude).
            coords: Coordinates by dimension, without ``channel``, in the order of the axes of
                ``array``.

        Returns:
            Dataset with a variable per name; those with levels have the dimension ``level`` before
            the axes of space.
        """
        dims = tuple(coords)
        data = {name: self._variable(name, array, dims) for name in dict.fromkeys(self._names)}
        levels = {c.level for c in self.channels if c.level is not None}
        dataset = xr.Dataset(data, coords={key: coords[key] for key in dims})
        if levels:
            dataset["level"].attrs = {"units": "hPa", "long_name": "pressure level"}
        return dataset

    def describe_not_finite(self, values: np.ndarray, times: np.ndarray) -> str:
        """How many of (time, channel, latitude, longitude) are not finite, and the first; or ""."""
        finite = np.isfinite(values)
        if finite.all():
            return ""
        time, channel = np.argwhere(~finite)[0][:2]
        return (
            f"{int((~finite).sum())} values that are not finite, the first in "
            f"{self.labels[channel]} at {times[time]}"
        )

    @property
    def _names(self) -> list[str]:
        return [channel.name for channel in self.channels]

    def _variable(self, name: str, array: Array, dims: tuple[str, ...]) -> xr.DataArray:
        indices = [i for i, other in enumerate(self._names) if other == name]
        picked = [self.channels[i] for i in indices]
        attrs = {"units": picked[0].units}
        if picked[0].level is None:
            return xr.DataArray(array[..., indices[0], :, :], dims=dims, attrs=attrs)
        levels = [channel.level for channel in picked]
        values = xr.DataArray(
            array[..., indices, :, :],
            dims=(*dims[:-2], "level", *dims[-2:]),
            coords={"level": levels},
            attrs=attrs,
        )
        return values


def _expand(variable: xr.DataArray, name: str, levels: Sequence[int]) -> list[Channel]:
    units = str(variable.attrs.get("units", ""))
    if "level" not in variable.dims:
        return [Channel(name=name, units=units)]
    found = [int(level) for level in variable["level"].values]
    missing = [level for level in levels if level not in found]
    if missing:
        raise InputError(
            f"{name} lacks the levels {missing} hPa; it has {found}; correct data.levels, or the "
            "labels in data.prognostic",
            code="missing-level",
        )
    return [Channel(name=name, level=level, units=units) for level in (levels or found)]


def _select(dataset: xr.Dataset, channel: Channel) -> xr.DataArray:
    variable = dataset[channel.name]
    if channel.level is None:
        return variable
    return variable.sel(level=channel.level).drop_vars("level")
