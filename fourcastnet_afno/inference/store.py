"""The forecast store: one zarr v3 (or NetCDF) dataset in WeatherBench 2's layout.

    VARIABLE (time, [realization], prediction_timedelta, [level], latitude, longitude) float32

or y and x on a plane, with the attributes of ``data_pipeline.grids.plane``.

``time`` is the initial time and ``prediction_timedelta`` the lead time; names, units and attributes
follow the CF conventions. Inside this project these axes are called ``init_time`` and
``lead_time``: ``reading`` is the one place that translates. Groups beside the variables hold
what is no forecast: ``diagnostics`` (statistics of every step), and for ensembles of which the
members are not written ``spread`` and ``quantiles``, of which the root holds the mean.

References:
    Rasp et al., 2024, WeatherBench 2, https://arxiv.org/abs/2308.15560;
    https://weatherbench2.readthedocs.io/en/latest/data-guide.html
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import xarray as xr
import zarr
from jaxtyping import Float
from zarr.codecs import BloscCodec

from data_pipeline.sources.names import STANDARD_NAMES
from fourcastnet_afno.inference.layout import (
    MANTISSA_BITS,
    ForecastLayout,
    StoreConfig,
    bit_rounded,
)

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

ForecastBlock = Float[np.ndarray, "init member lead channel lat lon"]


class ForecastStore:
    """Writes a forecast store, chunk by chunk, in any order and from several processes.

    Args:
        path: Folder of the store; ``create`` makes it.
        layout: Axes and chunks.
    """

    def __init__(self, path: Path, layout: ForecastLayout) -> None:
        self._path, self._layout = path, layout
        self._arrays: dict[str, zarr.Array] = {}

    def create(self, attrs: Mapping[str, Any], *, quantiles: Sequence[float] | None) -> None:
        """Write coordinates, metadata and attributes, without values.

        Args:
            attrs: Attributes of the store.
            quantiles: If given, the store holds the statistics of an ensemble.
        """
        layout = self._layout
        root = {"Conventions": "CF-1.8", **layout.grid.attrs, **attrs}
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
            variable.attrs.update((_COORDINATES | layout.grid.coordinate_attrs).get(str(name), {}))
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
        """Write the metadata of the statistics of every step, see ``ForecastLayout.coords``."""
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
        block: ForecastBlock,
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
    if config.keep_bits < MANTISSA_BITS:
        attrs["quantization_nsb"] = config.keep_bits
        attrs["quantization_maximum_relative_error"] = 2.0 ** -(config.keep_bits + 1)
    return attrs
