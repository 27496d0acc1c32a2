"""The forecast store: one zarr v3 (or NetCDF) dataset in WeatherBench 2's layout.

    VARIABLE (time, [realization], prediction_timedelta, [level], latitude, longitude) float32

``time`` is the initial time and ``prediction_timedelta`` the lead time; names, units and attributes
follow the CF conventions. Inside this project these axes are called ``init_time`` and
``lead_time``: ``open_forecast`` is the one place that translates. Groups beside the variables hold
what is no forecast: ``diagnostics`` (statistics of every step), and for ensembles of which the
members are not written ``spread`` and ``quantiles``, of which the root holds the mean.

References:
    Rasp et al., 2024, WeatherBench 2, https://arxiv.org/abs/2308.15560;
    https://weatherbench2.readthedocs.io/en/latest/data-guide.html
    Klöwer et al., 2021, Compressing atmospheric data into its real information content,
    https://doi.org/10.1038/s43588-021-00156-2 (rounding of the mantissa).
    CF conventions 1.12, section 8.4 (lossy compression by quantization).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float, Int
from zarr.codecs import BloscCodec

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from data_pipeline.names import STANDARD_NAMES, parse_label

_CHUNK_BYTES = 16 * 2**20
_MANTISSA_BITS = 23
_BORDER = {"time": "init_time", "prediction_timedelta": "lead_time"}
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
    "latitude": {"standard_name": "latitude", "units": "degrees_north", "axis": "Y"},
    "longitude": {"standard_name": "longitude", "units": "degrees_east", "axis": "X"},
}

_BLOCKED = ("time", "realization", "prediction_timedelta")

Block = Float[np.ndarray, "init member lead channel lat lon"]


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """What is written of a forecast, and how.

    Args:
        chunks: ``init_time``: a chunk holds many lead times of one forecast; ``lead_time``: one
            lead time of all forecasts that run together.
        variables: Variables, or channels as geopotential_500, that are written; all where empty.
        levels: Levels in hPa that are written; all where empty.
        compression: ``zstd``, lossless, or ``none``.
        keep_bits: Bits of the mantissa that are kept, of 23. Fewer compress better; the relative
            error is at most 2^-(keep_bits + 1) and stated in the attributes.
    """

    chunks: Literal["init_time", "lead_time"] = "init_time"
    variables: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    compression: Literal["zstd", "none"] = "zstd"
    keep_bits: int = _MANTISSA_BITS

    def __post_init__(self) -> None:
        if not 1 <= self.keep_bits <= _MANTISSA_BITS:
            raise ValueError(f"store.keep_bits must lie in 1..23, got {self.keep_bits}")

    def select(self, channels: Channels) -> list[int]:
        """Indices of the channels that are written.

        Raises:
            InputError: If a variable or level is not there (all are named).
        """
        wanted = [_parse(label) for label in self.variables] or [(c.name, None) for c in channels]
        found = {(c.name, c.level) for c in channels} | {(c.name, None) for c in channels}
        levels = {c.level for c in channels if c.level is not None}
        missing = [f"{name}_{level}" if level else name for name, level in wanted]
        missing = [m for m, pair in zip(missing, wanted, strict=True) if pair not in found]
        missing += [f"level {level}" for level in self.levels if level not in levels]
        if missing:
            raise InputError(
                f"forecast.store asks for {missing}, the forecast has {channels.labels}; correct "
                "forecast.store.variables or forecast.store.levels"
            )
        allowed = {*self.levels, None} if self.levels else {*levels, None}
        return [
            index
            for index, c in enumerate(channels)
            if ((c.name, None) in wanted and c.level in allowed) or (c.name, c.level) in wanted
        ]


def _parse(label: str) -> tuple[str, int | None]:
    return parse_label(label)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Axes and chunks of a forecast store.

    Args:
        channels: Channels that are written.
        grid: Grid of every field.
        init_times: datetime64.
        lead_times: timedelta64.
        members: Numbers of the members; empty for a store without ``realization``.
        forecasts_together: Initial times and members that are computed together.
        config: Chunks, compression and rounding.
    """

    channels: Channels
    grid: LatLonGrid
    init_times: np.ndarray
    lead_times: np.ndarray
    members: tuple[int, ...]
    forecasts_together: tuple[int, int]
    config: StoreConfig

    @cached_property
    def steps_together(self) -> int:
        """Lead times in a chunk: as many as keep what waits to be written small."""
        if self.config.chunks == "lead_time":
            return 1
        together = min(self.forecasts_together[0], len(self.init_times))
        together *= min(self.forecasts_together[1], max(1, len(self.members)))
        size = 4 * together * len(self.channels) * int(np.prod(self.grid.shape))
        return min(len(self.lead_times), max(1, _CHUNK_BYTES // size))

    @property
    def coords(self) -> dict[str, np.ndarray]:
        """Coordinates of a field in the store, without level."""
        members = {"realization": np.array(self.members)} if self.members else {}
        return {
            "time": self.init_times,
            **members,
            "prediction_timedelta": self.lead_times,
            **self.grid.coords,
        }

    @property
    def chunk_sizes(self) -> dict[str, int]:
        """Length of a chunk by dimension; others are whole."""
        by_lead = self.config.chunks == "lead_time"
        inits, members = self.forecasts_together if by_lead else (1, 1)
        return {
            "time": min(inits, len(self.init_times)),
            "realization": min(members, max(1, len(self.members))),
            "prediction_timedelta": self.steps_together,
            "level": 1,
        }

    @property
    def num_values(self) -> int:
        """Values of all fields."""
        leading = len(self.init_times) * max(1, len(self.members)) * len(self.lead_times)
        return leading * len(self.channels) * int(np.prod(self.grid.shape))


class ForecastStore:
    """Writes a forecast store, chunk by chunk, in any order and from several processes.

    Args:
        path: Folder of the store; ``create`` makes it.
        layout: Axes and chunks.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path, self._layout = path, layout
        self._arrays: dict[str, zarr.Array] = {}

    def create(self, attrs: Mapping[str, Any], *, quantiles: Sequence[float] | None) -> None:
        """Write coordinates, metadata and attributes, without values.

        Args:
            attrs: Attributes of the store.
            quantiles: If given, the store holds the statistics of an ensemble.
        """
        layout = self._layout
        root = {"Conventions": "CF-1.12", **attrs}
        if quantiles is None:
            self._create(layout.coords, root, None, None)
            return
        coords = {k: v for k, v in layout.coords.items() if k != "realization"}
        self._create(coords, root, None, "realization: mean")
        spread = {"long_name": "standard deviation over members"}
        self._create(coords, spread, "spread", "realization: standard_deviation")
        if quantiles:
            self._create({"quantile": np.array(quantiles), **coords}, {}, "quantiles", None)

    def _create(
        self,
        coords: dict[str, np.ndarray],
        attrs: Mapping[str, Any],
        group: str | None,
        cell_methods: str | None,
    ) -> None:
        layout, shape = self._layout, tuple(len(axis) for axis in coords.values())
        empty = dask.array.zeros(
            (*shape[:-2], len(layout.channels), *shape[-2:]), dtype="float32", chunks=-1
        )
        template = layout.channels.unstack(empty, coords)
        template.attrs = dict(attrs)
        for name, variable in template.variables.items():
            variable.attrs.update(_COORDINATES.get(str(name), {}))
        for name, variable in template.data_vars.items():
            variable.attrs.update(_variable_attrs(str(name), layout.config))
            if cell_methods:
                variable.attrs["cell_methods"] = cell_methods
        _to_zarr(template, self._path, group, self._encoding(template))

    def _encoding(self, template: xr.Dataset) -> dict[str, dict[str, Any]]:
        encoding: dict[str, dict[str, Any]] = {
            "time": {"units": "hours since 1970-01-01", "dtype": "int64"},
            "prediction_timedelta": {"units": "hours", "dtype": "int64"},
        }
        codecs = () if self._layout.config.compression == "none" else (_codec(),)
        chunks = {**template.sizes, **self._layout.chunk_sizes, "quantile": 1}
        for name, variable in template.data_vars.items():
            sizes = [chunks[str(dim)] for dim in variable.dims]
            encoding[str(name)] = {"chunks": tuple(sizes), "compressors": codecs}
        return encoding

    def create_diagnostics(self, template: xr.Dataset) -> None:
        """Write the metadata of the statistics of every step; dims as in ``Layout.coords``."""
        chunks = {**template.sizes, **self._layout.chunk_sizes}
        encoding: dict[str, dict[str, Any]] = {
            str(name): {"chunks": tuple(chunks[str(dim)] for dim in variable.dims)}
            for name, variable in template.data_vars.items()
        }
        encoding["time"] = {"units": "hours since 1970-01-01", "dtype": "int64"}
        encoding["prediction_timedelta"] = {"units": "hours", "dtype": "int64"}
        _to_zarr(template, self._path, "diagnostics", encoding)

    @cached_property
    def _root(self) -> zarr.Group:
        return zarr.open_group(self._path, mode="r+")

    def write(
        self,
        block: Block,
        start: tuple[int, int, int],
        group: str = "",
        quantile: int | None = None,
    ) -> None:
        """Write fields of consecutive initial times, members and lead times.

        Args:
            block: Values; the member axis has length 1 where the store has no ``realization``.
            start: Index of its first initial time, member and lead time.
            group: Where they belong: the root, ``spread`` or ``quantiles``.
            quantile: Index of the quantile.
        """
        values = bit_rounded(block, self._layout.config.keep_bits)
        ranges = [slice(s, s + n) for s, n in zip(start, block.shape[:3], strict=True)]
        if group or not self._has_members:
            values, ranges = values[:, 0], [ranges[0], ranges[2]]
        region = (*([] if quantile is None else [quantile]), *ranges)
        for name, indices in self._indices_by_name.items():
            fields = values[..., indices, :, :]
            if not self._has_level[name]:
                fields = fields[..., 0, :, :]
            self._array(f"{group}/{name}".strip("/"))[region] = np.ascontiguousarray(fields)

    def write_diagnostics(
        self, statistics: Mapping[str, np.ndarray], start: tuple[int, int, int]
    ) -> None:
        """Write statistics (init, member, lead, ...) by name."""
        for name, values in statistics.items():
            ranges = [slice(s, s + n) for s, n in zip(start, values.shape[:3], strict=True)]
            if not self._layout.members:
                values, ranges = values[:, 0], [ranges[0], ranges[2]]
            self._array(f"diagnostics/{name}")[tuple(ranges)] = values

    def _array(self, name: str) -> zarr.Array:
        if name not in self._arrays:
            array = self._root[name]
            assert isinstance(array, zarr.Array)
            self._arrays[name] = array
        return self._arrays[name]

    @cached_property
    def _has_members(self) -> bool:
        return "realization" in self._root

    @cached_property
    def _indices_by_name(self) -> dict[str, list[int]]:
        indices: dict[str, list[int]] = {}
        for index, channel in enumerate(self._layout.channels):
            indices.setdefault(channel.name, []).append(index)
        return indices

    @cached_property
    def _has_level(self) -> dict[str, bool]:
        return {c.name: c.level is not None for c in self._layout.channels}

    def finish(self, attrs: Mapping[str, Any]) -> None:
        """Add attributes that are known only at the end."""
        self._root.attrs.update(dict(attrs))


def _to_zarr(
    template: xr.Dataset, path: Path, group: str | None, encoding: dict[str, dict[str, Any]]
) -> None:
    template.chunk().to_zarr(
        path,
        group=group,
        mode="w" if group is None else "a",
        compute=False,
        encoding=encoding,
        consolidated=False,
        zarr_format=3,
    )


def _codec() -> BloscCodec:
    return BloscCodec(cname="zstd", clevel=3, shuffle="shuffle")


def _variable_attrs(name: str, config: StoreConfig) -> dict[str, Any]:
    attrs: dict[str, Any] = {"long_name": name.replace("_", " ")}
    if name in _STANDARD:
        attrs["standard_name"] = _STANDARD[name]
    if config.keep_bits < _MANTISSA_BITS:
        attrs["quantization_nsb"] = config.keep_bits
        attrs["quantization_maximum_relative_error"] = 2.0 ** -(config.keep_bits + 1)
    return attrs


def bit_rounded(values: Float[np.ndarray, "*shape"], keep_bits: int) -> Float[np.ndarray, "*shape"]:
    """Float32 values to the nearest with ``keep_bits`` bits of mantissa, ties to even.

    The relative error is at most 2^-(keep_bits + 1). Values that are not finite stay.
    """
    dropped = _MANTISSA_BITS - keep_bits
    if not dropped:
        return values
    bits: Int[np.ndarray, "*shape"] = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32((1 << (dropped - 1)) - 1) + ((bits >> np.uint32(dropped)) & np.uint32(1))
    rounded = (bits + half) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def open_forecast(path: Path) -> xr.Dataset:
    """Open a forecast lazily, with this project's names: the border to the store's.

    Args:
        path: A zarr store or a NetCDF file.

    Returns:
        Dimensions init_time, [realization], lead_time, [level], latitude, longitude, and the
        coordinate ``valid_time`` (init_time, lead_time).

    Raises:
        InputError: If there is no forecast at ``path``.
    """
    if path.suffix == ".nc" and path.is_file():
        stored = xr.open_dataset(path, engine="netcdf4", chunks={}, decode_timedelta=True)
    elif (path / "zarr.json").exists():
        stored = xr.open_zarr(path, consolidated=False, decode_timedelta=True)
    else:
        raise InputError(f"no forecast at {path.resolve()}; run `fourcastnet-afno forecast` first")
    missing = [name for name in _BORDER if name not in stored.dims]
    if missing:
        raise InputError(
            f"{path.resolve()} is no forecast of this version: it lacks {missing}, it has "
            f"{list(stored.dims)}; run `fourcastnet-afno forecast` again"
        )
    forecast = stored.rename(_BORDER)
    return forecast.assign_coords(valid_time=forecast["init_time"] + forecast["lead_time"])


def open_diagnostics(path: Path) -> xr.Dataset:
    """Statistics of every step of a forecast, lazily: see ``stability``.

    Returns:
        ``mean``, ``minimum``, ``maximum``, ``kinetic_energy``, ``spectrum`` by init_time,
        [realization], lead_time and channel, wind or zonal_wavenumber, labelled.

    Raises:
        InputError: If the forecast was written without.
    """
    try:
        if path.suffix == ".nc":
            stored = xr.open_dataset(path, group="diagnostics", chunks={}, decode_timedelta=True)
        else:
            stored = xr.open_zarr(
                path, group="diagnostics", consolidated=False, decode_timedelta=True
            )
    except (FileNotFoundError, OSError) as error:
        raise InputError(
            f"{path.resolve()} holds no diagnostics; set forecast.stability.diagnostics=true"
        ) from error
    labels = {
        str(name): axis.attrs["flag_meanings"].split()
        for name, axis in stored.coords.items()
        if "flag_meanings" in axis.attrs
    }
    return stored.assign_coords(labels).rename(_BORDER)


def to_netcdf(store: Path, path: Path, compression: str) -> None:
    """Copy a zarr forecast store to one NetCDF-4 file, chunk by chunk, with its groups."""
    groups = ["", *(name for name, _ in sorted(zarr.open_group(store, mode="r").groups()))]
    for group in groups:
        dataset = xr.open_zarr(store, group=group or None, consolidated=False, chunks=None)
        encoding: dict[str, dict[str, Any]] = {}
        for name, variable in dataset.data_vars.items():
            options = {"zlib": True, "complevel": 1} if compression != "none" else {}
            encoding[str(name)] = {"chunksizes": variable.encoding["chunks"], **options}
            variable.encoding = {}
        dataset.chunk(_blocks(dataset, encoding)).to_netcdf(
            path,
            mode="a" if group else "w",
            group=group or None,
            engine="netcdf4",
            encoding=encoding,
        )


def _blocks(dataset: xr.Dataset, encoding: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Sizes of the blocks that are copied at once: chunks, and more lead times where they fit."""
    name, variable = max(dataset.data_vars.items(), key=lambda item: item[1].ndim)
    chunks = encoding[str(name)]["chunksizes"]
    sizes = {str(dim): size for dim, size in zip(variable.dims, chunks, strict=True)}
    sizes |= {dim: dataset.sizes[dim] for dim in sizes if dim not in _BLOCKED}
    leads = max(1, _CHUNK_BYTES // (4 * int(np.prod(list(sizes.values())))))
    return sizes | {"prediction_timedelta": leads * sizes["prediction_timedelta"]}
