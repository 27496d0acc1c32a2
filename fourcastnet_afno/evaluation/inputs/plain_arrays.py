"""Zarr arrays whose chunks are files of little-endian floats and nothing else.

Their files can be read without zarr and xarray. An array counts as plain only if all of its
metadata is known here to leave the stored numbers as they are; any other is read as every zarr
array is.

References:
    Zarr core specification, version 3, https://zarr-specs.readthedocs.io/en/latest/v3/core/
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from data_pipeline.errors import InputError

_DTYPES = {"float32": "<f4", "float64": "<f8"}
_CODECS = [{"name": "bytes", "configuration": {"endian": "little"}}]
_MEMBERS = {  # of an array's metadata; any other could ask for more
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding"),
    *("fill_value", "codecs", "attributes", "storage_transformers", "dimension_names"),
}
_ENCODING = {  # what xarray keeps of an array that it passes on as it is
    *("chunks", "preferred_chunks", "compressors", "filters", "shards", "serializer"),
    *("fill_value", "dtype", "source", "original_shape", "coordinates", "grid_mapping"),
}


@dataclass(frozen=True, kw_only=True)
class PlainArray:
    """Numbers in files, one for each chunk that has others than the fill value."""

    folder: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype
    fill_value: float
    prefix: str  # of the key of a chunk
    separator: str
    metadata: bytes  # of the array, when it was inspected

    @property
    def chunk_bytes(self) -> int:
        """Size of a chunk's file."""
        return int(np.prod(self.chunks)) * self.dtype.itemsize

    def chunk_path(self, chunk: tuple[int, ...]) -> str:
        """File of a chunk."""
        return f"{self.folder}/{self.prefix}{self.separator.join(map(str, chunk))}"

    def require_unchanged(self) -> None:
        """Reject an array whose metadata is no longer that which was inspected."""
        try:
            metadata = (Path(self.folder) / "zarr.json").read_bytes()
        except FileNotFoundError:
            metadata = b""
        if metadata != self.metadata:
            raise InputError(
                f"{self.folder} was written again since it was opened; open it again, once it is "
                "complete",
                code="files-differ",
            )


def plain_array(store: str, name: str, encoding: Mapping[str, Any]) -> PlainArray | None:
    """The array of a variable in a local store if its files are plain, else ``None``.

    Args:
        store: Folder of the store.
        name: Name of the array.
        encoding: What xarray has decoded of the variable (``Variable.encoding``).
    """
    folder = Path(store) / name
    try:
        text = (folder / "zarr.json").read_bytes()
        stored = json.loads(text)
        is_plain = _is_plain(stored) and _has_no_other(store, name, stored)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None  # damaged, or not there: others read it, or report it
    if not (is_plain and _is_undecoded(encoding)):
        return None
    key_encoding = stored["chunk_key_encoding"]
    by_default = key_encoding["name"] == "default"
    separator = key_encoding.get("configuration", {}).get("separator", "/" if by_default else ".")
    fill_value: Any = zarr.open_array(folder, mode="r").fill_value
    return PlainArray(
        folder=str(folder),
        shape=tuple(stored["shape"]),
        chunks=tuple(stored["chunk_grid"]["configuration"]["chunk_shape"]),
        dtype=np.dtype(_DTYPES[stored["data_type"]]),
        fill_value=float(fill_value),
        prefix=f"c{separator}" if by_default else "",
        separator=separator,
        metadata=text,
    )


def _is_plain(stored: Mapping[str, Any]) -> bool:
    """Whether every entry of an array's metadata is one that is known."""
    grid, keys = stored.get("chunk_grid", {}), stored.get("chunk_key_encoding", {})
    return (
        stored.get("zarr_format") == 3
        and stored.get("node_type") == "array"
        and set(stored) <= _MEMBERS
        and stored["data_type"] in list(_DTYPES)
        and stored["codecs"] == _CODECS
        and not stored.get("storage_transformers")
        and grid.get("name") == "regular"
        and set(grid.get("configuration", {})) == {"chunk_shape"}
        and len(grid["configuration"]["chunk_shape"]) == len(stored["shape"]) > 0
        and keys.get("name") in ("default", "v2")
        and set(keys.get("configuration", {})) <= {"separator"}
        and keys.get("configuration", {}).get("separator", "/") in ("/", ".")
    )


def _is_undecoded(encoding: Mapping[str, Any]) -> bool:
    """Whether xarray has changed no value: NaN may be named as what is missing."""
    missing = [encoding.get(name, np.nan) for name in ("_FillValue", "missing_value")]
    others = set(encoding) - _ENCODING - {"_FillValue", "missing_value"}
    return not others and bool(np.isnan(np.asarray(missing, float)).all())


def _has_no_other(store: str, name: str, stored: Mapping[str, Any]) -> bool:
    """Whether consolidated metadata, by which others read the array, says the same, if any."""
    root = json.loads((Path(store) / "zarr.json").read_bytes())
    consolidated = (root.get("consolidated_metadata") or {}).get("metadata")
    return consolidated is None or consolidated.get(name) == stored
