"""Checksums of a training store, which cover every file of it.

    attribute ``checksums``  digest by file, except of the shards of fields and filled; that of the
                             root's own zarr.json is of its content without this digest
    array ``checksum``       of the stored values of fields in each shard, known when it is written
    array ``filled_checksum``  the same of filled
    attribute ``fingerprint``  of the values of all small arrays

Stores of earlier versions have no ``checksums`` and no ``filled_checksum``: their small arrays are
compared with the fingerprint.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from data_pipeline.errors import InputError

SMALL_ARRAYS = (
    *("offset", "scale", "empty", "filled_share"),
    *("mean", "std", "diff_std", "minimum", "maximum", "num_missing"),
    *("rounding", "checksum", "static", "hour"),
)
"""Arrays in the order of the fingerprint, which the axes precede."""
_ROOT = "zarr.json"
_SHARDED = ("fields/c/", "filled/c/")
_FILE_NAME = re.compile(r"[a-z_]+(/c(/[0-9]+)*)?(/zarr\.json)?|zarr\.json")


def content_fingerprint(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Digest of a store's content: the arrays that it has of its axes and ``SMALL_ARRAYS``.

    ``record`` has the channels, the type of stored values, the attributes of the grid and the
    filled channels.
    """
    digest = hashlib.blake2b(json.dumps(record).encode(), digest_size=16)
    for name in ("time", "latitude", "longitude", "y", "x", *SMALL_ARRAYS):
        if name in arrays:
            digest.update(arrays[name].tobytes())
    return digest.hexdigest()


def seal(path: Path) -> None:
    """Write the checksums of a complete store's files into its attributes."""
    files = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    named = [name for name in files if _FILE_NAME.fullmatch(name) and name != _ROOT]
    covered = [name for name in named if not name.startswith(_SHARDED)]
    document = json.loads((path / _ROOT).read_text())
    checksums = {name: _digest((path / name).read_bytes()) for name in covered}
    document["attributes"]["checksums"] = checksums
    document["attributes"]["checksums"] = {**checksums, _ROOT: _digest_of_root(document)}
    temporary = path / f"{_ROOT}.partial"  # as zarr writes; what a kill leaves of it is swept
    temporary.write_text(json.dumps(document, indent=2))
    temporary.replace(path / _ROOT)


def files_of(checksums: object, location: Path | str) -> dict[str, str]:
    """The attribute ``checksums``; empty where a store of an earlier version has none.

    Raises:
        InputError: If it is of another kind, or names files that no store has ("damaged-store").
    """
    if checksums is None:
        return {}
    is_mapping = isinstance(checksums, dict)
    unknown = [name for name in checksums if not _FILE_NAME.fullmatch(name)] if is_mapping else []
    if not is_mapping or unknown:
        raise InputError(
            f"{location}/{_ROOT} has {str(unknown or checksums)[:200]} in its attribute checksums, "
            "expected a digest for each file of the store; delete the store and prepare it again",
            code="damaged-store",
        )
    return {name: str(digest) for name, digest in checksums.items()}


def changed_files(
    checksums: Mapping[str, str],
    read: Callable[[str], bytes | None],
    selected: Callable[[str], bool] = lambda name: True,
) -> Iterator[str]:
    """Name the selected files that are missing or differ from their checksums.

    ``read`` gives the bytes of a file by its name in the store, or None.
    """
    for name, expected in checksums.items():
        if not selected(name):
            continue
        content = read(name)
        if content is None:
            yield f"{name} (missing)"
        elif expected != (_digest_of_root(_parsed(content)) if name == _ROOT else _digest(content)):
            yield name


def read_local(path: Path) -> Callable[[str], bytes | None]:
    """Reader of the files in a folder, for ``changed_files``."""

    def read(name: str) -> bytes | None:
        file = path / PurePosixPath(name)
        return file.read_bytes() if file.is_file() else None  # never a pipe or a device

    return read


def _parsed(content: bytes) -> Any:  # noqa: ANN401
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _digest_of_root(document: Any) -> str:  # noqa: ANN401
    """Digest of the content of the root's metadata, whatever its spaces, without this digest."""
    try:
        attributes = document["attributes"]
        others = {k: v for k, v in attributes["checksums"].items() if k != _ROOT}
        document = {**document, "attributes": {**attributes, "checksums": others}}
    except (KeyError, TypeError, AttributeError):
        return ""
    return _digest(json.dumps(document, sort_keys=True).encode())
