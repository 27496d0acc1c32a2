"""Channels: the one crossing between labelled variables and arrays.

A channel is a variable at a level, labelled ``geopotential_500``, or a variable without levels,
labelled ``2m_temperature``. ``Channels.stack`` turns a canonical dataset into an array with a
channel axis, ``Channels.unstack`` turns it back.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array
import numpy as np
import xarray as xr

from data_pipeline.bounds import Level
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from data_pipeline.records import from_plain
from data_pipeline.sources.fields.levels_joined import levels_of
from data_pipeline.sources.left_out import reasons_left_out
from data_pipeline.sources.names import STANDARD_NAMES, UNITS, canonical_label, parse_label

_MOST_BYTES_OF_NAME = 200  # file systems take 255, with what is around it


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One variable at one level.

    Args:
        name: Canonical name of the variable.
        level: Pressure in hPa, or ``None`` for a variable without levels.
        units: CF units of the values.
    """

    name: str
    level: Level | None = None
    units: str = ""

    @property
    def label(self) -> str:
        """Name and level, such as ``geopotential_500``."""
        return self.name if self.level is None else f"{self.name}_{self.level}"

    @property
    def is_vector_component(self) -> bool:
        """Whether it is a component of wind, which changes sign across a pole."""
        return "u_component_of" in self.name or "v_component_of" in self.name


@dataclass(frozen=True)
class Channels:
    """An ordered set of channels: the meaning of a channel axis.

    Their names become names of files and of variables in files.

    Raises:
        InputError: If two are the same, or a name could not be that of a file.
    """

    channels: tuple[Channel, ...]

    def __post_init__(self) -> None:
        labels = self.labels
        repeated = {label for label, count in Counter(labels).items() if count > 1}
        if repeated:
            raise InputError(
                f"channels must differ, got {sorted(repeated)} more than once",
                code="repeated-channel",
            )
        for name in (channel.name for channel in self.channels):
            is_long = len(name.encode(errors="replace")) > _MOST_BYTES_OF_NAME
            if not name.isprintable() or "/" in name or name in ("", ".", "..") or is_long:
                raise InputError(
                    f"a channel is called {name[:80]!r}, expected the name of a variable: at most "
                    f"{_MOST_BYTES_OF_NAME} letters, without / and control characters; choose "
                    "another with data.source.rename",
                    code="bad-name",
                )

    @classmethod
    def from_dataset(
        cls, dataset: xr.Dataset, variables: Sequence[str], levels: Sequence[int] = ()
    ) -> "Channels":
        """The channels of ``variables`` in a canonical dataset, in their order.

        Args:
            dataset: Canonical dataset.
            variables: Names of variables, or labels of single channels (``geopotential_500``,
                ``z500``), see ``names.parse_label``.
            levels: Levels in hPa of every variable that has levels; all where empty.

        Raises:
            InputError: If variables or levels are missing (all of them are named).
        """
        parsed = {label: _find(dataset, label) for label in variables}
        missing = [label for label, (name, _) in parsed.items() if name not in dataset]
        if missing:
            raise InputError(
                f"the data lacks the variables {missing}; it has "
                f"{sorted(map(str, dataset.data_vars))}; {_remedies(dataset, parsed, missing)}",
                code="missing-variable",
            )
        channels = []
        for name, level in (parsed[label] for label in variables):
            units = str(dataset[name].attrs.get("units", ""))
            known: list[int | None] = [None]
            if "level" not in dataset[name].dims and level is not None:
                raise InputError(
                    f"{name} has no levels in the data, expected {level} hPa; ask for {name}, or "
                    f"state its level with data.source.rename={{...: {name}_{level}}}",
                    code="missing-level",
                )
            if "level" in dataset[name].dims:
                known = list(levels_of(dataset[name]))
                requested = levels if level is None else [level]
                missing_levels = [value for value in requested if value not in known]
                if missing_levels:
                    raise InputError(
                        f"{name} lacks the levels {missing_levels} hPa; it has {known}; correct "
                        "data.levels, or the labels in data.prognostic",
                        code="missing-level",
                    )
                known = list(requested) or known
            channels += [Channel(name=name, level=value, units=units) for value in known]
        return cls(tuple(channels))

    @classmethod
    def from_json(cls, records: object) -> "Channels":
        """Inverse of ``to_json``.

        Raises:
            InputError: If an entry has another type, or channels cannot have these names.
        """
        return cls(from_plain(tuple[Channel, ...], records, "channels"))

    def to_json(self) -> list[dict[str, Any]]:
        """Records for checkpoints and attributes."""
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
        """Append others, which must differ from these."""
        return Channels((*self.channels, *other.channels))

    def stack(self, dataset: xr.Dataset) -> xr.DataArray:
        """Stack the variables along a channel axis.

        Returns:
            Lazy where the dataset is lazy, of dims (..., channel, latitude, longitude), or y and x
            on a plane, with labels as the coordinate ``channel``.
        """
        slices = [
            dataset[channel.name]
            if channel.level is None
            else dataset[channel.name].sel(level=channel.level).drop_vars("level")
            for channel in self.channels
        ]
        coordinate = xr.Variable("channel", np.array(self.labels, dtype=object))
        stacked = xr.concat(
            slices, dim=coordinate, coords="minimal", compat="override", combine_attrs="drop"
        )
        last = ("channel", *space_dims(stacked.dims))
        leading = [dim for dim in stacked.dims if dim not in last]
        return stacked.transpose(*leading, *last).rename(None)

    def unstack(
        self, array: np.ndarray | dask.array.Array, coords: Mapping[str, Any]
    ) -> xr.Dataset:
        """Inverse of ``stack``.

        Args:
            array: Values of shape (..., channel, latitude, longitude).
            coords: Coordinates by dimension, without ``channel``, in the order of the axes.

        Returns:
            A variable per name; those with levels have ``level`` before the axes of space.
        """
        dims, data = tuple(coords), {}
        for name in dict.fromkeys(channel.name for channel in self.channels):
            indices = [i for i, channel in enumerate(self.channels) if channel.name == name]
            first, attrs = self.channels[indices[0]], {"units": self.channels[indices[0]].units}
            if first.level is None:
                values = array[..., indices[0], :, :]
                data[name] = xr.DataArray(values, dims=dims, attrs=attrs)
            else:
                data[name] = xr.DataArray(
                    array[..., indices, :, :],
                    dims=(*dims[:-2], "level", *dims[-2:]),
                    coords={"level": [self.channels[i].level for i in indices]},
                    attrs=attrs,
                )
        dataset = xr.Dataset(data, coords={key: coords[key] for key in dims})
        if "level" in dataset.dims:
            dataset["level"].attrs = {"units": "hPa", "long_name": "pressure level"}
        return dataset

    def describe_not_finite(self, values: np.ndarray, times: np.ndarray) -> str:
        """Number and first of the values (time, channel, latitude, longitude) not finite, or ""."""
        finite = np.isfinite(values)
        if finite.all():
            return ""
        time, channel = np.argwhere(~finite)[0][:2]
        first = f"{self.labels[channel]} at {times[time]}"
        return f"{int((~finite).sum())} values that are not finite, the first in {first}"


def _find(dataset: xr.Dataset, label: str) -> tuple[str, int | None]:
    """Name and level of a label: a variable, a label, or as files spell it (``T``, ``zg``)."""
    if label in dataset:
        return label, None
    parsed, spelled = parse_label(label), canonical_label(label)
    return spelled if parsed[0] not in dataset and spelled[0] in dataset else parsed


def _remedies(
    dataset: xr.Dataset, parsed: Mapping[str, tuple[str, int | None]], missing: Sequence[str]
) -> str:
    """Reasons why a source has left out what is missing, else the settings that name variables."""
    reasons = reasons_left_out(dataset)
    known = [
        f"{name}: {reasons[name]}"
        for name, _ in map(parsed.__getitem__, missing)
        if name in reasons
    ]
    settings = "correct data.prognostic, data.diagnostic and data.static, or map names with "
    settings += "data.source.rename" + _hint(dataset, [name for name, _ in parsed.values()])
    return "; ".join(dict.fromkeys(known)) or settings


def _hint(dataset: xr.Dataset, names: Sequence[str]) -> str:
    """Variables whose standard name suits a missing one, but not without level or height."""
    near = [
        f"{variable} ({standard})"
        for variable, array in dataset.data_vars.items()
        if variable not in UNITS
        and {*names} & {*STANDARD_NAMES.get(standard := str(array.attrs.get("standard_name")), ())}
    ]
    return f"; a level, a height or cell methods tell other fields apart: {near}" if near else ""
