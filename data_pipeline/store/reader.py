"""The training store: prepared fields as a zarr store that can be mapped into memory.

    fields       (time, channel, latitude, longitude), or y and x on a plane, one time step a chunk,
                 many steps a shard file; float32, or 16 bits of (value - offset) / scale, see
                 ``packing``
    offset, scale          (channel) float64
    static       (static, latitude, longitude) float32
    checksum     (shard) uint64, of the stored fields in each shard file
    mean, std, diff_std, minimum, maximum, num_missing   (channel) float64, of the training period
    rounding     (channel) float64, root mean square error of storing, in the channel's units
    climatology  (hour, harmonic, channel, latitude, longitude) float32, of the training period
    time, channel, latitude, longitude, hour

Prognostic channels come before diagnostic ones, which are predicted and not fed back. Attributes
hold the channels with their units and roles, the configuration with the source, a fingerprint of
the content and the versions, and for a plane what ``plane`` says.
"""

from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
import zarr
from zarr.storage import FsspecStore, MemoryStore

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.progress import track
from data_pipeline.grids.grid import space_dims
from data_pipeline.grids.plane import grid_of
from data_pipeline.preprocessing.filling import missing_label
from data_pipeline.preprocessing.statistics import Statistics
from data_pipeline.sources.files import storage_options
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.format import STORE_FORMAT, checksum
from data_pipeline.store.packing import Packing
from data_pipeline.store.states import ReadWindow, States, open_states

Role = Literal["prognostic", "diagnostic"]
_DASK_BLOCK_BYTES = 16 * 2**20
_CACHE_BYTES = 2 * 2**30


def is_prepared(path: Path) -> bool:
    """Whether a folder is a training store of this project, of any version."""
    if not (path / "zarr.json").exists():
        return False
    return {"fingerprint", "format"} <= zarr.open_group(path, mode="r").attrs.keys()


class PreparedStore:
    """A store ready for training.

    Args:
        path: Folder that ``prepare`` has written, or the URL of such a folder, which is read
            through a cache of 2 GiB.
        crop: Region of the grid; statistics stay those of the full grid.
        rows: Rows of the region, see ``select_rows``.
        role: Role of the channels; by default all.

    Raises:
        InputError: If there is no store of this version at ``path``, or it lacks arrays.
    """

    def __init__(
        self,
        path: Path | str,
        crop: CropConfig | None = None,
        rows: slice | None = None,
        role: Role | None = None,
    ) -> None:
        self.path, self._crop, self._rows = path, crop, rows
        self._role: Role | None = role
        self._group = _open_group(path)
        self.attrs: dict[str, Any] = dict(self._group.attrs)
        self._selected = slice(None)
        if role is not None:  # prognostic channels come first
            count = len(self.attrs["roles"]["prognostic"])
            self._selected = slice(count) if role == "prognostic" else slice(count, None)
        self.channels = Channels.from_json(self.attrs["channels"][self._selected])
        self.static_channels = Channels.from_json(self.attrs["static_channels"])
        self.fingerprint: str = self.attrs["fingerprint"]
        self.times = self._read("time").astype("datetime64[s]").astype("datetime64[ns]")
        space = {axis: self._read(axis) for axis in space_dims(set(self._group.array_keys()))}
        self.grid, self._region = grid_of(xr.Dataset(coords=space, attrs=self.attrs)), ReadWindow()
        if crop is not None:
            self.grid, self._region = crop.apply(self.grid)
        if rows is not None:
            start = range(self.grid.shape[0])[rows].start + (self._region.rows.start or 0)
            self.grid = self.grid.select_rows(rows)
            rows = slice(start, start + self.grid.shape[0])
            self._region = self._region._replace(rows=rows)
        self._region = self._region._replace(channels=self._selected)

    def __reduce__(self) -> tuple[Any, ...]:
        """Other processes open the store anew."""
        return type(self), (self.path, self._crop, self._rows, self._role)

    @cached_property
    def prognostic(self) -> "PreparedStore":
        """The same store with only the channels of a forecaster's state."""
        return self._select_role("prognostic")

    @cached_property
    def diagnostic(self) -> "PreparedStore":
        """The same store with only the channels that are predicted and not fed back."""
        return self._select_role("diagnostic")

    def _select_role(self, role: Role) -> "PreparedStore":
        same = role == self._role
        return self if same else PreparedStore(self.path, self._crop, self._rows, role)

    def select_rows(self, rows: slice) -> "PreparedStore":
        """The same store with only some of the rows; others are not read."""
        same = rows == slice(None)
        return self if same else PreparedStore(self.path, self._crop, rows, self._role)

    @property
    def timestep(self) -> np.timedelta64:
        """Time from a state to the next."""
        return np.timedelta64(self.attrs["timestep_hours"], "h").astype("timedelta64[ns]")

    @cached_property
    def statistics(self) -> Statistics:
        """Statistics of the training period by channel."""
        return Statistics(*(self._read(name)[self._selected] for name in Statistics._fields))

    @cached_property
    def packing(self) -> Packing:
        """Encoding of the stored values."""
        offset, scale = (self._read(name)[self._selected] for name in ("offset", "scale"))
        return Packing(self.attrs["dtype"], offset, scale)

    @cached_property
    def states(self) -> States:
        """The fields, as an array."""
        return open_states(self.path, self._array("fields"), self._region, self.packing)

    @property
    def rounding(self) -> np.ndarray:
        """Root mean square error of storing by channel, in its units (channel,)."""
        return self._read("rounding")[self._selected]

    def verify(self) -> None:
        """Raise an ``InputError`` that names all shards that differ from their checksums."""
        fields = self._array("fields")
        assert fields.shards is not None
        reader = open_states(self.path, fields, ReadWindow(), self.packing).reader
        length, damaged = fields.shards[0], []
        for index, expected in enumerate(track(self._read("checksum").tolist(), "Verifying")):
            rows = np.arange(index * length, min((index + 1) * length, len(self.times)))
            buffer, digest = np.empty((len(rows), *reader.shape[1:]), self.packing.stored), ""
            with suppress(InputError, OSError, RuntimeError, ValueError):  # cannot be decoded
                reader.read_into(buffer, rows)
                digest = checksum(buffer)
            if digest != f"{expected:016x}":
                span = f"{self.times[rows[0]]} to {self.times[rows[-1]]}"
                damaged.append(f"{self.path}/fields/c/{index}/0/0/0 ({span})")
        if damaged:
            raise InputError(
                f"{len(damaged)} files of {self.path} have changed since they were written: "
                f"{', '.join(damaged)}; delete the store and prepare it again",
                code="damaged-store",
            )

    def normalized_static(self) -> np.ndarray:
        """Static fields with area-weighted mean 0 and variance 1, float32 (static, lat, lon)."""
        fields = self._regional(self._read("static")).astype(np.float64)
        weights = self.grid.area_weights()
        centered = fields - (weights * fields).mean(axis=(1, 2), keepdims=True)
        std = np.sqrt((weights * centered**2).mean(axis=(1, 2), keepdims=True))
        return (centered / np.where(std > 0, std, 1)).astype(np.float32)

    def point_weights(self) -> np.ndarray | None:
        """Fraction of the training times at which the source had a value, by channel and point.

        float32 (channel, latitude, longitude), below 1 where ``data.fill`` has filled a channel by
        its climatology, which does not count in losses and scores; None where it has filled none.
        """
        labels, static = self.static_channels.labels, self._regional(self._read("static"))
        weights = np.ones((len(self.channels), *self.grid.shape), np.float32)
        for index, channel in enumerate(self.channels):
            if (mask := missing_label(channel)) in labels:
                weights[index] -= static[labels.index(mask)]
        return weights if weights.min() < 1 else None

    def dataset(self) -> xr.Dataset:
        """The fields as a lazy canonical dataset."""
        step_bytes = 4 * int(np.prod(self.states.shape[1:]))
        length = max(1, _DASK_BLOCK_BYTES // step_bytes)
        fields = dask.array.from_array(
            self.states,
            chunks=(length, *self.states.shape[1:]),  # type: ignore[arg-type]
            meta=np.empty((0, 0, 0, 0), np.float32),
        )
        dataset = self.channels.unstack(fields, {"time": self.times, **self.grid.coords})
        return dataset.assign_attrs(self.grid.attrs)

    def climatology(self) -> xr.Dataset:
        """Coefficients for ``data_pipeline.preprocessing.climatology.climatology_at``."""
        values = self._regional(np.asarray(self._array("climatology")[:, :, self._selected]))
        axes = {"hour": self._read("hour"), "harmonic": np.arange(values.shape[1])}
        dataset = self.channels.unstack(values, {**axes, **self.grid.coords})
        return dataset.assign_attrs(self.grid.attrs)

    def _array(self, name: str) -> zarr.Array:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _read(self, name: str) -> np.ndarray:
        return np.asarray(self._array(name)[...])

    def _regional(self, values: np.ndarray) -> np.ndarray:
        """An array (..., latitude, longitude), cropped."""
        rows, columns = self._region.rows, self._region.columns
        return np.concatenate([values[..., rows, run] for run in columns], axis=-1)


def _open_group(path: Path | str) -> zarr.Group:
    """Open a store of this version whose arrays are complete."""
    try:
        if isinstance(path, Path):
            # What each array says of itself counts, not a copy of it.
            group = zarr.open_group(path, mode="r", use_consolidated=False)
        else:
            from zarr.experimental.cache_store import CacheStore

            options = storage_options(path)
            remote = FsspecStore.from_url(path, storage_options=options, read_only=True)
            cached = CacheStore(remote, cache_store=MemoryStore(), max_size=_CACHE_BYTES)
            group = zarr.open_group(cached, mode="r")
    except FileNotFoundError as error:
        location = path.resolve() if isinstance(path, Path) else path
        message = f"no prepared data at {location}; run `fourcastnet-afno prepare`"
        raise InputError(message, code="missing-file") from error
    if group.attrs.get("format") != STORE_FORMAT:
        raise InputError(
            f"{path} has format {group.attrs.get('format')!r}, this version reads {STORE_FORMAT}; "
            "give another folder, or delete this one to prepare it again",
            code="other-format",
        )
    names = sorted({"fields", *group.array_keys()}) if isinstance(path, Path) else []
    missing = [name for name in names if not (Path(path) / name / "zarr.json").exists()]
    if missing:
        raise InputError(
            f"{path} lacks zarr.json of {', '.join(missing)}; delete it and prepare it again",
            code="damaged-store",
        )
    return group
