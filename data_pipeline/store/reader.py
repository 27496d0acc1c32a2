"""The training store: prepared fields as a zarr store that can be mapped into memory.

    fields       (time, channel, latitude, longitude), or y and x on a plane, one time step a chunk,
                 many steps a shard file; float32, or 16 bits of (value - offset) / scale, see
                 ``packing``
    offset, scale          (channel) float64
    static       (static, latitude, longitude) float32
    checksum     (shard) uint64, of the stored fields in each shard file, see ``integrity``
    mean, std, diff_std, minimum, maximum, num_missing   (channel) float64, of the training period
    rounding     (channel) float64, root mean square error of storing, in the channel's units
    climatology  (hour, harmonic, channel, latitude, longitude) float32, of the training period
    time, channel, latitude, longitude, hour

and where there are such

    empty        (time) bool, states without values, which are gaps
    filled       (time, filled_channel, latitude, longitude) uint8, share of each cell that was
                 filled, of 255; the attribute ``filled_channels`` names the channels
    filled_share (filled_channel, latitude, longitude) float32, its mean over training, 0..1
    filled_checksum  (shard) uint64, as ``checksum``

Prognostic channels come before diagnostic ones, which are predicted and not fed back. Attributes
hold the channels with their units and roles, the configuration with the source, a fingerprint of
the content and the versions, and for a plane what ``plane`` says.
"""

import json
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import xarray as xr
import zarr

from data_pipeline.channels import Channels
from data_pipeline.errors import DAMAGE, InputError
from data_pipeline.files.progress import track
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import grid_of
from data_pipeline.preprocessing.filling import missing_label
from data_pipeline.preprocessing.statistics import Statistics
from data_pipeline.sources.files import PREPARED_ATTRS
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.format import checksum
from data_pipeline.store.observed import ObservedStates
from data_pipeline.store.opening import StoreFiles
from data_pipeline.store.packing import Packing
from data_pipeline.store.states import ReadWindow, States, open_states
from data_pipeline.timestep import Timestep

Role = Literal["prognostic", "diagnostic"]
_DASK_BLOCK_BYTES = 16 * 2**20
_LAST_SECOND = 2**63 // 10**9


def is_prepared(path: Path) -> bool:
    """Whether a folder is a training store of this project, of any version."""
    try:
        attributes = json.loads((path / "zarr.json").read_bytes())["attributes"]
        return attributes.keys() >= PREPARED_ATTRS
    except DAMAGE:
        return False


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
        self._files = StoreFiles(path)
        self.attrs: dict[str, Any] = self._files.attrs
        self._selected = slice(None)
        if role is not None:  # prognostic channels come first
            count = len(self.attrs["roles"]["prognostic"])
            self._selected = slice(count) if role == "prognostic" else slice(count, None)
        self.channels = Channels.from_json(self.attrs["channels"][self._selected])
        self.static_channels = Channels.from_json(self.attrs["static_channels"])
        self.fingerprint: str = self.attrs["fingerprint"]
        self._all_times = self._read_times()
        # Indices of the states; the others are gaps.
        self._known = np.arange(len(self._all_times))
        if "empty" in self._files:
            self._known = np.flatnonzero(~self._read("empty").astype(bool))
        self.times = self._all_times[self._known]
        self.grid, self._region = self._read_grid(), ReadWindow()
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

    @cached_property
    def step(self) -> Timestep:
        """Time from a state to the next, in the calendar of the source."""
        return Timestep.from_json(self.attrs)

    @property
    def timestep(self) -> np.timedelta64:
        """The same as timedelta64[ns], or timedelta64[M] for months."""
        return self.step.delta

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
        states = open_states(self.path, self._array("fields"), self._region, self.packing)
        if len(self._known) < len(self._all_times):
            states = States(states.reader.select_times(self._known), self.packing)
        return states

    @property
    def rounding(self) -> np.ndarray:
        """Root mean square error of storing by channel, in its units (channel,)."""
        return self._read("rounding")[self._selected]

    def verify(self) -> None:
        """Raise an ``InputError`` that names all files that differ from their checksums."""
        damaged = self._files.changed_files()
        damaged += self._damaged_shards("fields", "checksum", self.packing.stored)
        if "filled_checksum" in self._files:
            damaged += self._damaged_shards("filled", "filled_checksum", np.dtype(np.uint8))
        if damaged:
            raise InputError(
                f"{len(damaged)} files of {self.path} have changed since they were written: "
                f"{', '.join(damaged)}; delete the store and prepare it again",
                code="damaged-store",
            )

    def _damaged_shards(self, name: str, checksums: str, stored: np.dtype) -> list[str]:
        """Shards of an array whose values differ from their checksums, with their times."""
        array = self._files.array(name)
        assert array.shards is not None
        states = open_states(self.path, array, ReadWindow(), self.packing)
        reader = states.reader if name == "fields" else None  # the others are small
        length, damaged = array.shards[0], []
        for index, expected in enumerate(track(self._read(checksums).tolist(), "Verifying")):
            rows = np.arange(index * length, min((index + 1) * length, len(self._all_times)))
            buffer, digest = np.empty((len(rows), *array.shape[1:]), stored), ""
            with suppress(InputError, OSError, RuntimeError, ValueError):  # cannot be decoded
                if reader is None:
                    buffer = np.asarray(array[rows[0] : rows[-1] + 1])
                else:
                    reader.read_into(buffer, rows)
                digest = checksum(buffer)
            if digest != f"{expected:016x}":
                span = f"{self._all_times[rows[0]]} to {self._all_times[rows[-1]]}"
                damaged.append(f"{self.path}/{name}/c/{index}/0/0/0 ({span})")
        return damaged

    def static_fields(self) -> np.ndarray:
        """Static fields as they were prepared, float32 (static, latitude, longitude)."""
        return self._regional(self._read("static"))

    def normalized_static(self) -> np.ndarray:
        """Static fields with area-weighted mean 0 and variance 1, float32 (static, lat, lon)."""
        fields = self.static_fields().astype(np.float64)
        weights = self.grid.area_weights()
        centered = fields - (weights * fields).mean(axis=(1, 2), keepdims=True)
        std = np.sqrt((weights * centered**2).mean(axis=(1, 2), keepdims=True))
        return (centered / np.where(std > 0, std, 1)).astype(np.float32)

    def point_weights(self) -> np.ndarray | None:
        """Fraction of the training times at which the source had a value, by channel and point.

        float32 (channel, latitude, longitude), below 1 where ``data.fill`` has filled a channel,
        which does not count in losses and scores; None where it has filled none.
        """
        weights = 1 - self._filled_share
        return weights if weights.min() < 1 else None

    def filled_values(self) -> np.ndarray | None:
        """Values at the points that have none at any training time, as training sees them there.

        float32 (channel, latitude, longitude), NaN at all other points; None where there are none.
        """
        never = self._filled_share > 1 - 1e-5
        if not never.any():
            return None
        return np.where(never, self.states.read(np.zeros(1, int))[0], np.float32(np.nan))

    @cached_property
    def _filled_share(self) -> np.ndarray:
        """Filled share of each cell, mean over the training times (channel, lat, lon)."""
        shares = np.zeros((len(self.channels), *self.grid.shape), np.float32)
        for index, channel in enumerate(self.channels):
            if channel.label in self._filled_labels:
                position = self._filled_labels.index(channel.label)
                shares[index] = self._regional(self._files.read("filled_share", position))
            # Stores of earlier versions have a mask where a climatology has filled.
            elif (mask := missing_label(channel)) in self.static_channels.labels:
                position = self.static_channels.labels.index(mask)
                shares[index] = self._regional(self._files.read("static", position))
        return shares

    @property
    def _filled_labels(self) -> list[str]:
        return self.attrs.get("filled_channels", [])

    def dataset(self) -> xr.Dataset:
        """The fields as a lazy canonical dataset."""
        return self._lazy(self.states)

    def observed(self) -> xr.Dataset:
        """Like ``dataset``, with NaN where the source had no value: the truth of scores.

        These are the points without a value in all of training, and at each time the cells of which
        more than half was filled.
        """
        never = self._filled_share > 1 - 1e-5
        labels, filled_labels = self.channels.labels, self._filled_labels
        places = {i: filled_labels.index(n) for i, n in enumerate(labels) if n in filled_labels}
        if not places and not never.any():
            return self.dataset()

        return self._lazy(ObservedStates(self.states, never, places, self._filled_at))

    def describe_filled(self) -> list[str]:
        """Sentences on the filled values of each channel, which losses and scores leave out."""
        weights, areas = self.point_weights(), self.grid.area_weights()
        shares = [] if weights is None else (1 - (areas * weights).mean(axis=(1, 2))).tolist()
        return [
            f"{label}: {100 * share:.3g} % of the area (mean over training) had no value and was "
            "filled (data.fill); it is not scored"
            for label, share in zip(self.channels.labels, shares, strict=bool(shares))
            if share > 0
        ]

    def _filled_at(self, place: int, indices: np.ndarray) -> np.ndarray:
        """Filled share of each cell, of 255, of the channel at a place in ``filled``."""
        rows = self._known[indices]
        first = int(rows.min(initial=len(self._all_times)))
        key = slice(first, int(rows.max(initial=-1)) + 1), place
        shares = self._files.read("filled", key)
        return self._regional(shares)[rows - first]

    def _lazy(self, states: States | ObservedStates) -> xr.Dataset:
        step_bytes = 4 * int(np.prod(states.shape[1:]))
        length = max(1, _DASK_BLOCK_BYTES // step_bytes)
        fields = dask.array.from_array(
            states,
            chunks=(length, *states.shape[1:]),  # type: ignore[arg-type]
            meta=np.empty((0, 0, 0, 0), np.float32),
        )
        dataset = self.channels.unstack(fields, {"time": self.times, **self.grid.coords})
        return dataset.assign_attrs(self.grid.attrs | self.step.attrs)

    def climatology(self) -> xr.Dataset:
        """Coefficients for ``data_pipeline.preprocessing.climatology.climatology_at``."""
        key = slice(None), slice(None), self._selected
        values = self._regional(self._files.read("climatology", key))
        axes = {"hour": self._read("hour"), "harmonic": np.arange(values.shape[1])}
        dataset = self.channels.unstack(values, {**axes, **self.grid.coords})
        return dataset.assign_attrs(self.grid.attrs)

    def _array(self, name: str) -> zarr.Array:
        return self._files.array(name)

    def _read(self, name: str) -> np.ndarray:
        return self._files.read(name)

    def _read_times(self) -> np.ndarray:
        """Times of all states (time,), which increase."""
        seconds = self._read("time")
        if seconds.dtype.kind != "i" or (np.diff(seconds) <= 0).any():
            raise self._files.damaged("time has no increasing integers")
        if np.abs(seconds[[0, -1]]).max() >= _LAST_SECOND:
            raise self._files.damaged("time has dates that nanoseconds cannot count")
        return seconds.astype("datetime64[s]").astype("datetime64[ns]")

    def _read_grid(self) -> Grid:
        space = {axis: self._read(axis) for axis in self._files.axes}
        try:
            return grid_of(xr.Dataset(coords=space, attrs=self.attrs))
        except InputError as error:
            raise self._files.damaged(str(error)) from error

    def _regional(self, values: np.ndarray) -> np.ndarray:
        """An array (..., latitude, longitude), cropped."""
        rows, columns = self._region.rows, self._region.columns
        return np.concatenate([values[..., rows, run] for run in columns], axis=-1)
