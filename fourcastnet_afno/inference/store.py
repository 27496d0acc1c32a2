"""The forecast store: one zarr v3 (or NetCDF) dataset in WeatherBench 2's layout.

    VARIABLE (time, [realization], prediction_timedelta, [level], latitude, longitude) float32

or y and x on a plane, with the attributes of ``data_pipeline.grids.plane``.

``time`` is the initial time and ``prediction_timedelta`` the lead time; names, units and attributes
follow the CF conventions. Inside this project these axes are called ``init_time`` and
``lead_time``; only ``open`` translates. Where a reader could not add them up by itself, as lead
times are calendar months or counted in another calendar (the attribute ``calendar``), the store
also holds ``valid_time`` (time, prediction_timedelta).

Groups next to the variables hold ``diagnostics`` (statistics of every step), and for ensembles
whose members are not written ``spread`` and ``quantiles``; the root then holds the mean.

References:
    Rasp et al., 2024, WeatherBench 2, https://arxiv.org/abs/2308.15560;
    https://weatherbench2.readthedocs.io/en/latest/data-guide.html
    Klöwer et al., 2021, Compressing atmospheric data into its real information content,
    https://doi.org/10.1038/s43588-021-00156-2 (rounding of the mantissa).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int
from zarr.codecs import BloscCodec

from data_pipeline.calendars import STANDARD
from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.sources.names import STANDARD_NAMES, parse_label
from data_pipeline.timestep import Timestep, is_months, lead_coordinate, valid_times
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.inference.config import MANTISSA_BITS, StoreConfig
from fourcastnet_afno.inference.stability import wind_pairs

CHUNK_BYTES = 16 * 2**20
_STANDARD = {name: std for std, names in STANDARD_NAMES.items() for name in reversed(names)}
_COORDINATES = {
    "time": {"standard_name": "forecast_reference_time", "long_name": "initial time", "axis": "T"},
    "prediction_timedelta": {"standard_name": "forecast_period", "long_name": "lead time"},
    "realization": {"standard_name": "realization", "long_name": "ensemble member", "units": "1"},
    "level": {
        "standard_name": "air_pressure",
        "long_name": "pressure level",
        "units": "hPa",
        "positive": "down",
        "axis": "Z",
    },
}
_EPOCH = np.datetime64("1970-01-01", "ns")
_DIAGNOSTICS = {
    "mean": {"long_name": "global mean, area weighted"},
    "minimum": {"long_name": "smallest value"},
    "maximum": {"long_name": "largest value"},
    "kinetic_energy": {"long_name": "global mean kinetic energy", "units": "m2 s-2"},
    "spectrum": {"long_name": "mean square by zonal wavenumber, area weighted"},
}


def select_channels(config: StoreConfig, channels: Channels) -> list[int]:
    """Indices of the channels that are written; an ``InputError`` names all that are missing."""
    available = {(c.name, c.level) for c in channels} | {(c.name, None) for c in channels}
    requested = [parse_label(label) for label in config.variables]
    requested = requested or [(c.name, None) for c in channels]
    levels = {c.level for c in channels if c.level is not None}
    missing = [f"{n}_{lev}" if lev else n for n, lev in requested if (n, lev) not in available]
    missing += [f"level {level}" for level in config.levels if level not in levels]
    if missing:
        raise InputError(
            f"forecast.store.variables or levels ask for {missing}, the forecast has only "
            f"{channels.labels}",
            code="missing-variable",
        )
    allowed = {*config.levels, None} if config.levels else {*levels, None}
    return [
        index
        for index, c in enumerate(channels)
        if ((c.name, None) in requested and c.level in allowed) or (c.name, c.level) in requested
    ]


@dataclass(frozen=True, kw_only=True)
class ForecastLayout:
    """Axes and chunks of a forecast store.

    Args:
        channels: Channels that are written.
        grid: Grid of every field.
        init_times: datetime64.
        lead_times: timedelta64, of the unit M where the steps are calendar months.
        step: Step whose multiples the lead times are, with the calendar that counts them.
        members: Numbers of the members; empty for a store without ``realization``.
        forecasts_together: Initial times and members that are computed together.
        config: Chunks, compression and rounding.
    """

    channels: Channels
    grid: Grid
    init_times: np.ndarray
    lead_times: np.ndarray
    step: Timestep
    members: tuple[int, ...]
    forecasts_together: tuple[int, int]
    config: StoreConfig

    @cached_property
    def steps_in_chunk(self) -> int:
        """Lead times in a chunk: as many as keep the queue of the writer small."""
        if self.config.chunks == "lead_time":
            return 1
        return min(len(self.lead_times), max(1, CHUNK_BYTES // self._step_bytes))

    @cached_property
    def steps_together(self) -> int:
        """Lead times that are written at once: a chunk of them, or as many as shards hold."""
        chunk = self.steps_in_chunk
        room = self._shard_bytes * len({c.name for c in self.channels}) // self._step_bytes
        return chunk * min(-(-len(self.lead_times) // chunk), max(1, room // chunk))

    @property
    def _together(self) -> tuple[int, int]:
        """Initial times and members that are computed together, as far as there are as many."""
        inits, members = self.forecasts_together
        return min(inits, len(self.init_times)), min(members, max(1, len(self.members)))

    @property
    def _step_bytes(self) -> int:
        """Size of a lead time of the forecasts that are computed together."""
        return 4 * math.prod(self._together) * len(self.channels) * math.prod(self.grid.shape)

    @property
    def _shard_bytes(self) -> int:
        return int((self.config.shard_mib or 0) * 2**20)

    @property
    def written_bytes(self) -> int:
        """Size of what is written at once."""
        return self.steps_together * self._step_bytes

    @property
    def coords(self) -> dict[str, np.ndarray]:
        """Coordinates of a field in the store, without level."""
        members = {"realization": np.array(self.members)} if self.members else {}
        leads = {"prediction_timedelta": lead_coordinate(self.lead_times).values}
        return {"time": self.init_times, **members, **leads, **self.grid.coords}

    @property
    def valid_times(self) -> dict[str, tuple[tuple[str, str], np.ndarray, dict[str, str]]]:
        """The coordinate ``valid_time``, where it is not simply the sum of both times."""
        if self.step.calendar == STANDARD and not is_months(self.lead_times):
            return {}
        values = valid_times(self.init_times, self.lead_times, self.step.calendar)
        attrs = {"standard_name": "time", "long_name": "valid time"}
        return {"valid_time": (("time", "prediction_timedelta"), values, attrs)}

    @property
    def time_encoding(self) -> dict[str, dict[str, Any]]:
        """Units that hold all times as integers."""
        times = {"time": self.init_times}
        times |= {name: values for name, (_, values, _) in self.valid_times.items()}
        encoding = {
            name: {"units": f"{_largest_unit(values - _EPOCH)} since 1970-01-01", "dtype": "int64"}
            for name, values in times.items()
        }
        if not is_months(self.lead_times):
            leads = {"units": _largest_unit(self.lead_times), "dtype": "int64"}
            encoding["prediction_timedelta"] = leads
        return encoding

    @property
    def chunk_sizes(self) -> dict[str, int]:
        """Length of a chunk by dimension; other dimensions are not divided."""
        inits, members = self._together if self.config.chunks == "lead_time" else (1, 1)
        return {
            "time": inits,
            "realization": members,
            "prediction_timedelta": self.steps_in_chunk,
            "level": 1,
        }

    def shard_sizes(self, sizes: Mapping[str, int], chunks: Mapping[str, int]) -> dict[str, int]:
        """Length of a shard by dimension, of a variable with these sizes and chunks.

        A shard is part of what one process writes at once, so that it is never written twice.
        """
        lengths = {dim: chunks[dim] for dim in sizes}
        inits, members = self._together
        at_once = {"level": sizes.get("level", 1), "prediction_timedelta": self.steps_together}
        at_once |= {"realization": members, "time": inits}
        for dim in (dim for dim in at_once if dim in lengths):
            count = -(-at_once[dim] // lengths[dim])
            room = max(1, self._shard_bytes // (4 * math.prod(lengths.values())))
            if dim == "level":  # no process writes only some of them
                together = -(-count // -(-count // room))
            else:
                together = max(n for n in range(1, count + 1) if count % n == 0 and n <= room)
            lengths[dim] *= together
        return lengths

    def filled_with(
        self, state: Float[np.ndarray, "channel lat lon"], attrs: Mapping[str, Any]
    ) -> xr.Dataset:
        """Forecasts of this layout that all are the same state, which takes no memory."""
        fields = self.channels.unstack(state, self.grid.coords)
        leading = {k: v for k, v in self.coords.items() if k not in self.grid.coords}
        fields = fields.expand_dims(leading)
        if is_months(self.lead_times):
            fields["prediction_timedelta"].attrs["units"] = "months"
        described = {**self.grid.attrs, **self.step.attrs, **attrs}
        return fields.assign_coords(self.valid_times).assign_attrs(described)

    @property
    def num_values(self) -> int:
        """Values of all fields."""
        leading = len(self.init_times) * max(1, len(self.members)) * len(self.lead_times)
        return leading * len(self.channels) * int(np.prod(self.grid.shape))


class ForecastStore:
    """Writes a forecast store, chunk by chunk, in any order and from several processes."""

    def __init__(self, path: Path, layout: ForecastLayout) -> None:
        self._path, self._layout = path, layout
        self._arrays: dict[str, zarr.Array] = {}
        self._indices_by_name: dict[str, list[int]] = {}
        for index, channel in enumerate(layout.channels):
            self._indices_by_name.setdefault(channel.name, []).append(index)

    def create(self, attrs: Mapping[str, Any], *, quantiles: Sequence[float] | None) -> None:
        """Write coordinates, metadata and attributes, without values.

        If ``quantiles`` are given, the store holds the statistics of an ensemble.
        """
        layout = self._layout
        root = {"Conventions": "CF-1.8", **layout.grid.attrs, **layout.step.attrs}
        root |= attrs
        if quantiles is None:
            self._create_group(layout.coords, root)
            return
        coords = {k: v for k, v in layout.coords.items() if k != "realization"}
        self._create_group(coords, root, cell_methods="realization: mean")
        spread = {"long_name": "standard deviation over members"}
        methods = "realization: standard_deviation"
        self._create_group(coords, spread, group="spread", cell_methods=methods)
        if quantiles:
            quantile = {"quantile": np.array(quantiles)}
            self._create_group({**quantile, **coords}, {}, group="quantiles")

    def _create_group(
        self,
        coords: dict[str, np.ndarray],
        attrs: Mapping[str, Any],
        *,
        group: str | None = None,
        cell_methods: str | None = None,
    ) -> None:
        layout, shape = self._layout, tuple(len(axis) for axis in coords.values())
        empty = dask.array.zeros(
            (*shape[:-2], len(layout.channels), *shape[-2:]), dtype="float32", chunks=-1
        )
        template = layout.channels.unstack(empty, coords)
        template.attrs = dict(attrs)
        for name, variable in template.variables.items():
            variable.attrs.update((_COORDINATES | layout.grid.coordinate_attrs).get(str(name), {}))
        compressors = ()
        if layout.config.compression != "none":
            compressors = (BloscCodec(cname="zstd", clevel=2, shuffle="shuffle"),)
        for name, variable in template.data_vars.items():
            variable.attrs["long_name"] = str(name).replace("_", " ")
            if name in _STANDARD:
                variable.attrs["standard_name"] = _STANDARD[str(name)]
            if (bits := layout.config.keep_bits) < MANTISSA_BITS:
                variable.attrs["quantization_nsb"] = bits
                variable.attrs["quantization_maximum_relative_error"] = 2.0 ** -(bits + 1)
            if cell_methods:
                variable.attrs["cell_methods"] = cell_methods
        self._write_metadata(template, group, {"compressors": compressors})

    def create_diagnostics(self, spec: FieldSpec) -> None:
        """Write the metadata of the statistics of every step, of states like ``spec``."""
        leading = {k: v for k, v in self._layout.coords.items() if k not in spec.grid.dims}
        winds = list(wind_pairs(spec.channels).values())
        axes = {"channel": _flags("channel", spec.channels.labels)}
        dims: dict[str, tuple[str, ...]]
        dims = dict.fromkeys(("mean", "minimum", "maximum"), ("channel",))
        if winds:
            axes["wind"] = _flags("wind", winds)
            dims["kinetic_energy"] = ("wind",)
        if spec.grid.is_periodic:
            count = spec.grid.shape[1] // 2 + 1
            axes["zonal_wavenumber"] = xr.Variable("zonal_wavenumber", np.arange(count))
            dims["spectrum"] = ("channel", "zonal_wavenumber")
        data = {}
        for name, trailing in dims.items():
            all_dims = (*leading, *trailing)
            sizes = tuple(len(leading[d]) if d in leading else axes[d].size for d in all_dims)
            empty = dask.array.full(sizes, np.nan, dtype="float32", chunks=-1)
            data[name] = (all_dims, empty, _DIAGNOSTICS[name])
        template = xr.Dataset(data, coords={**leading, **axes})
        self._write_metadata(template, "diagnostics", {})

    def _write_metadata(
        self, template: xr.Dataset, group: str | None, encoding: Mapping[str, Any]
    ) -> None:
        chunks = {**template.sizes, **self._layout.chunk_sizes, "quantile": 1}
        by_variable = dict[str, dict[str, Any]]()
        for name, variable in template.data_vars.items():
            lengths = {str(dim): chunks[str(dim)] for dim in variable.dims}
            by_variable[str(name)] = {"chunks": tuple(lengths.values()), **encoding}
            if self._layout.config.shard_mib is not None:
                sizes = {str(dim): size for dim, size in variable.sizes.items()}
                shards = self._layout.shard_sizes(sizes, chunks)
                by_variable[str(name)]["shards"] = tuple(shards.values())
        if is_months(self._layout.lead_times):
            template["prediction_timedelta"].attrs["units"] = "months"
        # Coordinates stay in memory: they are written now.
        template.chunk().assign_coords(self._layout.valid_times).to_zarr(
            self._path,
            group=group,
            mode="w" if group is None else "a",
            compute=False,
            encoding=self._layout.time_encoding | by_variable,
            consolidated=False,
            zarr_format=3,
        )

    @cached_property
    def _root(self) -> zarr.Group:
        return zarr.open_group(self._path, mode="r+")

    @cached_property
    def _has_members(self) -> bool:
        return "realization" in self._root

    @cached_property
    def _levels(self) -> list[int | None]:
        """The levels of all variables, in the order of the store."""
        return np.asarray(self._array("level")[:]).astype(int).tolist()

    def _array(self, name: str) -> zarr.Array:
        if name not in self._arrays:
            array = self._root[name]
            assert isinstance(array, zarr.Array)
            self._arrays[name] = array
        return self._arrays[name]

    def write(
        self,
        block: Float[np.ndarray, "init member lead channel lat lon"],
        start: tuple[int, int, int],
        group: str = "",
        quantile: int | None = None,
    ) -> None:
        """Write fields of consecutive initial times, members and lead times.

        Args:
            block: Values; the member axis has length 1 where the store has no ``realization``.
            start: Index of its first initial time, member and lead time.
            group: The root, ``spread`` or ``quantiles``.
            quantile: Index, in the group of quantiles.
        """
        values = bit_rounded(block, self._layout.config.keep_bits)
        ranges = [slice(s, s + n) for s, n in zip(start, block.shape[:3], strict=True)]
        if group or not self._has_members:
            values, ranges = values[:, 0], [ranges[0], ranges[2]]
        region = (*([] if quantile is None else [quantile]), *ranges)
        for name, indices in self._indices_by_name.items():
            fields = self._on_levels(values, indices)
            self._array(f"{group}/{name}".strip("/"))[region] = np.ascontiguousarray(fields)

    def _on_levels(self, values: np.ndarray, indices: Sequence[int]) -> np.ndarray:
        """The channels of one variable on the store's levels; NaN on levels of others alone."""
        levels = [self._layout.channels.channels[index].level for index in indices]
        if levels == [None]:
            return values[..., indices[0], :, :]
        if levels == self._levels:
            return values[..., indices, :, :]
        shape = *values.shape[:-3], len(self._levels), *values.shape[-2:]
        fields = np.full(shape, np.nan, values.dtype)
        fields[..., [self._levels.index(level) for level in levels], :, :] = values[
            ..., indices, :, :
        ]
        return fields

    def write_diagnostics(
        self, statistics: Mapping[str, np.ndarray], start: tuple[int, int, int]
    ) -> None:
        """Write statistics (init, member, lead, ...) by name."""
        for name, values in statistics.items():
            ranges = [slice(s, s + n) for s, n in zip(start, values.shape[:3], strict=True)]
            if not self._layout.members:
                values, ranges = values[:, 0], [ranges[0], ranges[2]]
            self._array(f"diagnostics/{name}")[tuple(ranges)] = values

    def finish(self, attrs: Mapping[str, Any]) -> None:
        """Add attributes that are known only at the end."""
        self._root.attrs.update(dict(attrs))


def _largest_unit(elapsed: np.ndarray) -> str:
    """The largest unit of time that all values (timedelta64) are multiples of."""
    units = {"hours": "h", "minutes": "m", "seconds": "s", "nanoseconds": "ns"}
    values = elapsed[~np.isnat(elapsed)].astype("timedelta64[ns]")
    return next(
        name
        for name, unit in units.items()
        if not (values % np.timedelta64(1, unit).astype("timedelta64[ns]")).astype(np.int64).any()
    )


def _flags(name: str, labels: Sequence[str]) -> xr.Variable:
    """Labels as CF flags: zarr v3 has no settled type for text."""
    numbers = np.arange(len(labels))
    attrs = {"flag_values": numbers.tolist(), "flag_meanings": " ".join(labels)}
    return xr.Variable(name, numbers, attrs)


def bit_rounded(values: Float[np.ndarray, "*shape"], keep_bits: int) -> Float[np.ndarray, "*shape"]:
    """Float32 values to the nearest with ``keep_bits`` bits of mantissa, ties to even.

    The relative error is at most 2^-(keep_bits + 1). Values that are not finite stay.
    """
    dropped = MANTISSA_BITS - keep_bits
    if not dropped:
        return values
    bits: Int[np.ndarray, "*shape"] = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
    rounded = (bits + half) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)
