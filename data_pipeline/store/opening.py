"""Opening a training store: what it must hold before a value of it is used.

Attributes have the right types, every file is there, small arrays have the shapes of the fields and
finite values, and all are as they were written. Shards of fields are large: that each is there is
checked, their values by ``PreparedStore.verify``.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, MemoryStore

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import space_dims
from data_pipeline.preprocessing.statistics import Statistics
from data_pipeline.sources.files import missing_packages
from data_pipeline.sources.retry import storage_options, with_retries
from data_pipeline.store.format import STORE_FORMAT
from data_pipeline.store.integrity import (
    SMALL_ARRAYS,
    changed_files,
    content_fingerprint,
    files_of,
    read_local,
)
from data_pipeline.store.packing import StoredType
from data_pipeline.timestep import Timestep

_CACHE_BYTES = 2 * 2**30
_LONGEST_AXIS = 10**6  # rows, columns, channels and hours
_MOST_STATES = 10**9
_LISTED = 8
_AGAIN = "delete the store and prepare it again, or copy it again"
_BY_CHANNEL = ("offset", "scale", *Statistics._fields, "rounding")
_CLIMATOLOGY = "climatology/c/"


class StoreFiles:
    """The arrays and attributes of a store, checked as they are read.

    Args:
        path: Folder or URL of the store.

    Raises:
        InputError: If there is no store of this version, or it is damaged; everything that is
            missing or has changed is named.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self._group = _open_group(path)
        self.attrs: dict[str, Any] = dict(self._group.attrs)
        if self.attrs.get("format") != STORE_FORMAT:
            raise InputError(
                f"{path} has format {self.attrs.get('format')!r}, this version reads "
                f"{STORE_FORMAT}; give another folder, or move this one away to prepare it again",
                code="other-format",
            )
        self._checksums = files_of(self.attrs.get("checksums"), path)
        self._checked, self._opened = set[str](), dict[str, zarr.Array]()
        self._names = self._arrays()
        if isinstance(path, Path):
            self._check_files(path)
        check_attributes(self.attrs, path)
        self._shapes = self._check_shapes()
        if isinstance(path, Path):
            self._check_shards(path)
            if not self._checksums:
                self.check_fingerprint()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def axes(self) -> tuple[str, str]:
        """Names of the axes of space."""
        return space_dims(self._names)

    def array(self, name: str) -> zarr.Array:
        """An array, lazy.

        Raises:
            InputError: If there is none of this name.
        """
        if name in self._opened:
            return self._opened[name]
        with self._named(name):
            array = with_retries(lambda: self._group[name], f"{name} of {self.path}")
        if not isinstance(array, zarr.Array):
            raise self.damaged(f"{name}/zarr.json is not the metadata of an array")
        self._opened[name] = array
        return array

    def read(self, name: str, key: Any = ...) -> np.ndarray:  # noqa: ANN401
        """Read an array, or the part with a ``key``, and compare its files with their checksums."""
        array = self.array(name)
        if name not in self._checked:
            prefix = f"{name}/"
            if changed := self.changed_files(lambda file: file.startswith(prefix)):
                raise self.damaged(f"{_listed(changed)} have changed since they were written")
            self._checked.add(name)
        with self._named(name):
            values = np.asarray(with_retries(lambda: array[key], f"{name} of {self.path}"))
        if name in (*_BY_CHANNEL, *self.axes) and not np.isfinite(values).all():
            raise self.damaged(f"{name} has values that are not finite")
        if name in ("scale", "std", "diff_std") and (values < 0).any():
            raise self.damaged(f"{name} has negative values")
        return values

    def changed_files(self, selected: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Name the selected files that are missing or have changed."""
        read = read_local(self.path) if isinstance(self.path, Path) else self._read_remote
        return list(changed_files(self._checksums, read, selected))

    def check_fingerprint(self) -> None:
        """Compare the small arrays of a store of an earlier version with its fingerprint."""
        names = {"time", *self.axes, *SMALL_ARRAYS} & self._names
        arrays = {name: self.read(name) for name in names}
        kept = ("periodic", "extent_y", "extent_x", "origin_y", "origin_x", "filled_channels")
        record = {key: self.attrs[key] for key in ("channels", "dtype")}
        record |= {key: self.attrs[key] for key in kept if key in self.attrs}
        if content_fingerprint(record, arrays) != self.attrs["fingerprint"]:
            raise self.damaged(
                f"its arrays {', '.join(sorted(names))} or its channels differ from its fingerprint"
            )

    def damaged(self, found: str) -> InputError:
        """The error of a store that has changed since it was written."""
        return InputError(f"{self.path} is damaged: {found}; {_AGAIN}", code="damaged-store")

    def _arrays(self) -> set[str]:
        """Names of all arrays: where there are no checksums, those that the metadata lists."""
        if self._checksums:
            return {name.partition("/")[0] for name in self._checksums if "/" in name}
        with self._named("zarr.json"):
            path = self.path
            listed = zarr.open_group(path, mode="r") if isinstance(path, Path) else self._group
            return set(listed.array_keys())

    def _read_remote(self, name: str) -> bytes | None:
        def read() -> Buffer | None:
            return sync(self._group.store.get(name, prototype=default_buffer_prototype()))

        buffer = with_retries(read, f"{name} of {self.path}")
        return None if buffer is None else buffer.to_bytes()

    @contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Report that the library cannot read an array, of which it has many errors."""
        try:
            yield
        except InputError:
            raise
        except KeyError as error:
            raise self.damaged(f"it lacks the array {name}") from error
        except MemoryError as error:
            raise self.damaged(f"{name} would need more memory than there is") from error
        except Exception as error:
            raise self.damaged(f"{name} cannot be read ({error})") from error

    def _check_files(self, path: Path) -> None:
        """Check all files of a folder but the large ones, which have to be there."""
        large = [name for name in self._checksums if name.startswith(_CLIMATOLOGY)]
        lost = [f"{name} (missing)" for name in large if not (path / name).is_file()]
        if changed := lost + self.changed_files(lambda name: not name.startswith(_CLIMATOLOGY)):
            raise self.damaged(f"{_listed(changed)} have changed since they were written")
        self._checked = {name.partition("/")[0] for name in self._checksums} - {"climatology"}
        if self._checksums:
            return
        names = {"fields", *self._names}
        lacking = sorted(name for name in names if not (path / name / "zarr.json").is_file())
        if lacking:
            raise self.damaged(f"it lacks zarr.json of {', '.join(lacking)}")

    def _check_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the arrays, which are those of the fields; nothing is read."""
        fields = self.array("fields")
        if fields.ndim != 4 or fields.shards is None or max(fields.shape[1:]) > _LONGEST_AXIS:
            raise self.damaged(f"fields has the shape {fields.shape} in shards {fields.shards}")
        num_times, num_channels, *space = fields.shape
        if not 0 < num_times <= _MOST_STATES or num_channels != len(self.attrs["channels"]):
            count = len(self.attrs["channels"])
            raise self.damaged(f"fields has the shape {fields.shape} with {count} channels")
        num_shards = -(-num_times // fields.shards[0])
        num_filled = len(self.attrs.get("filled_channels", []))
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(_BY_CHANNEL, (num_channels,))
        shapes |= {"time": (num_times,), "checksum": (num_shards,)}
        shapes |= {axis: (size,) for axis, size in zip(self.axes, space, strict=True)}
        shapes["static"] = (len(self.attrs["static_channels"]), *space)
        if num_filled:
            shapes |= {"filled": (num_times, num_filled, *space)}
            shapes["filled_share"] = (num_filled, *space)
        optional = {"empty": (num_times,), "filled_checksum": (num_shards,)}
        shapes |= {name: shape for name, shape in optional.items() if name in self}
        found = {name: self.array(name).shape for name in (*shapes, "hour", "climatology")}
        wrong = [f"{name} {found[name]}" for name in shapes if found[name] != shapes[name]]
        if wrong:
            text = f"shapes {', '.join(wrong)} do not suit fields {fields.shape}"
            raise self.damaged(text)
        hours, coefficients = found["hour"], found["climatology"]
        suits = (*coefficients[:1], *coefficients[2:]) == (*hours, *fields.shape[1:])
        if not suits or len(hours) != 1 or max(coefficients[:2]) > _LONGEST_AXIS:
            text = f"climatology has the shape {coefficients}, of the hours {hours}"
            raise self.damaged(f"{text} and fields {fields.shape}")
        return shapes

    def _check_shards(self, path: Path) -> None:
        """Check that each shard of the fields is there."""
        folder, expected = path / "fields" / "c", range(self._shapes["checksum"][0])
        try:
            if folder.stat().st_nlink - 2 >= len(expected):
                return  # most file systems count the folders in a folder
            listed = set(os.listdir(folder))
        except OSError as error:
            raise self.damaged(f"fields/c cannot be listed ({error.strerror})") from error
        if len(expected) > 2 * len(listed) + _LISTED:
            raise self.damaged(f"fields has {len(listed)} of {len(expected)} files")
        lost = [f"fields/c/{index}/0/0/0" for index in expected if str(index) not in listed]
        if lost:
            raise self.damaged(f"it lacks {_listed(lost)}")


def check_attributes(attrs: Mapping[str, Any], path: Path | str) -> None:
    """Check the kinds of a store's attributes, and that they agree.

    Raises:
        InputError: Naming the first that does not suit ("damaged-store").
    """
    labels: list[str] = []
    for name, suits in _RULES.items():
        try:
            labels = labels or _labels(attrs["channels"])
            agrees = suits(attrs, labels)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            agrees = False
        if not agrees:
            raise InputError(
                f"{path} is damaged: its attribute {name} is {str(attrs.get(name))[:200]}, which "
                f"no store of this version has; {_AGAIN}",
                code="damaged-store",
            )


def _labels(records: Any) -> list[str]:  # noqa: ANN401
    """Labels of channels whose records have the right types."""
    channels = Channels.from_json(records)
    for channel in channels:
        if not (isinstance(channel.name, str) and isinstance(channel.units, str)):
            raise TypeError("channels have names and units")
        if not (channel.level is None or isinstance(channel.level, int)):
            raise TypeError("levels are integers")
    return channels.labels


def _roles_agree(attrs: Mapping[str, Any], labels: list[str]) -> bool:
    roles = attrs["roles"]
    return [*roles["prognostic"], *roles.get("diagnostic", [])] == labels


_RULES: Mapping[str, Callable[[Mapping[str, Any], list[str]], bool | np.bool]] = {
    "channels": lambda attrs, labels: len(labels) > 0,
    "static_channels": lambda attrs, labels: len(_labels(attrs["static_channels"])) >= 0,
    "roles": _roles_agree,
    "dtype": lambda attrs, labels: attrs["dtype"] in get_args(StoredType),
    "fingerprint": lambda attrs, labels: isinstance(attrs["fingerprint"], str),
    "settings": lambda attrs, labels: isinstance(attrs["settings"], dict),
    "timestep": lambda attrs, labels: Timestep.from_json(attrs).delta > np.timedelta64(0),
    "filled_channels": lambda attrs, labels: set(attrs.get("filled_channels", [])) <= set(labels),
}


def _open_group(path: Path | str) -> zarr.Group:
    location = path.resolve() if isinstance(path, Path) else path
    try:
        if isinstance(path, Path):
            # What each array says of itself counts, not a copy of it.
            return zarr.open_group(path, mode="r", use_consolidated=False)
        return with_retries(lambda: _open_remote(path), path)
    except FileNotFoundError as error:
        message = f"no prepared data at {location}; run `fourcastnet-afno prepare`"
        raise InputError(message, code="missing-file") from error
    except ImportError as error:
        raise missing_packages(str(path), error) from error
    except (InputError, OSError):
        raise
    except Exception as error:  # the library has many errors for metadata that it cannot read
        raise InputError(
            f"{location} is damaged: zarr.json cannot be read ({error}); {_AGAIN}",
            code="damaged-store",
        ) from error


def _open_remote(url: str) -> zarr.Group:
    from zarr.experimental.cache_store import CacheStore

    try:
        remote = FsspecStore.from_url(url, storage_options=storage_options(url), read_only=True)
    except (ValueError, TypeError) as error:
        message = f"{url} is no URL of data ({error}); correct it"
        raise InputError(message, code="missing-file") from error
    cached = CacheStore(remote, cache_store=MemoryStore(), max_size=_CACHE_BYTES)
    return zarr.open_group(cached, mode="r")


def _listed(names: list[str]) -> str:
    """Names in a message, some of many."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
