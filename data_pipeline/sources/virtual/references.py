"""References of kerchunk and VirtualiZarr: which bytes of which files are the chunks of a store.

Read are JSON files of version 0 and 1, and the folders of Parquet files for many references, whose
records are read when a chunk of theirs is. Templates are names in double braces and nothing else:
the expressions of Jinja, which version 1 allows, are programs.

References:
    https://fsspec.github.io/kerchunk/spec.html
"""

import base64
import binascii
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from data_pipeline.errors import InputError
from data_pipeline.sources.virtual.permitted import without_scheme

TABLE_SUFFIXES = (".parq", ".parquet")
_HEAD = re.compile(rb'^\s*\{\s*"(version|templates|gen|refs|[^"]*\.z\w+|[^"]*zarr\.json)"\s*:')
_TEMPLATE = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_LARGEST = 2**30  # bytes of a file of references, which is read at once
_KEPT = 8  # tables of records in memory
_HEAD_BYTES = 4096


class Reference(NamedTuple):
    """Bytes of a file or URL; all of them where no length is given."""

    url: str
    offset: int
    length: int | None


ReadFile = Callable[[str], bytes]
"""Reads all bytes of a file or URL."""


@runtime_checkable
class References(Protocol):
    """The entries of a store: its metadata, and its chunks or where they are."""

    def entry(self, key: str) -> bytes | Reference | None:
        """The entry of a key, if there is one."""
        ...

    def keys(self) -> Iterator[str]:
        """Keys of all metadata, and of chunks as far as they are listed."""
        ...


def is_reference_file(head: bytes) -> bool:
    """Whether a file with these first bytes holds references as JSON."""
    return _HEAD.match(head) is not None


def is_reference_folder(path: str) -> bool:
    """Whether a local folder holds references as Parquet."""
    note = Path(path) / ".zmetadata"
    if not note.is_file() or any((Path(path) / name).exists() for name in ("zarr.json", ".zgroup")):
        return False
    with note.open("rb") as file:
        if b'"record_size"' in file.read(_HEAD_BYTES):
            return True
        file.seek(max(0, note.stat().st_size - _HEAD_BYTES))
        return b'"record_size"' in file.read()


def is_reference_url(url: str) -> bool:
    """Whether the name of a URL is that of references, as JSON or Parquet."""
    name = url.partition("?")[0].rstrip("/").lower()
    return name.endswith((".json", *TABLE_SUFFIXES)) and not name.endswith("/zarr.json")


def read_references(name: str, read: ReadFile) -> References:
    """The references in a JSON file, or in a folder of Parquet files.

    Args:
        name: File, folder or URL.
        read: Reads files of it.

    Raises:
        InputError: If they are damaged ("unreadable-file"), too large ("too-large"), or use
            templates that are programs ("other-layout").
    """
    if is_reference_folder(without_scheme(name)) or (
        "://" in name and name.partition("?")[0].rstrip("/").lower().endswith(TABLE_SUFFIXES)
    ):
        return _Tables.opened(name, read)
    return _Listed(_listed(_parsed(read(name), name), name))


@lru_cache(4)
def _read_local(file: str, size: int, changed: int) -> frozenset[str]:
    """Places that a local file of references names, kept while it stays the same."""
    listed = _listed(_parsed(Path(file).read_bytes(), file), file)
    return frozenset(entry.url for entry in listed.values() if isinstance(entry, Reference))


def referenced_places(file: str) -> frozenset[str]:
    """Files and URLs that a local JSON file of references names.

    Raises:
        InputError: If it is damaged.
    """
    status = os.stat(file)
    _check_size(status.st_size, file)
    return _read_local(file, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class _Listed:
    entries: dict[str, bytes | Reference]

    def entry(self, key: str) -> bytes | Reference | None:
        return self.entries.get(key)

    def keys(self) -> Iterator[str]:
        yield from self.entries


def _check_size(size: int, name: str) -> None:
    if size > _LARGEST:
        raise InputError(
            f"{name} has {size} bytes of references, expected at most {_LARGEST}; write them as "
            "Parquet, such as by kerchunk.df.refs_to_dataframe",
            code="too-large",
        )


def _damaged(name: str, why: str) -> InputError:
    message = f"cannot read the references {name}: {why}; copy or make them again"
    return InputError(message, code="unreadable-file")


def _parsed(text: bytes, name: str) -> dict[str, Any]:
    _check_size(len(text), name)
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(name, str(error) or "nested too deep") from error
    if not isinstance(found, dict):
        raise _damaged(name, "expected an object")
    return found


def _listed(found: dict[str, Any], name: str) -> dict[str, bytes | Reference]:
    entries, templates = found, {}
    if "refs" in found and not isinstance(found["refs"], list | str):
        entries, templates = found["refs"], found.get("templates") or {}
        if found.get("gen"):
            raise _programs(name, "generated references (gen)")
    if not isinstance(entries, dict) or not isinstance(templates, dict):
        raise _damaged(name, "refs or templates are no objects")
    return {key: _entry(value, templates, f"{name}: {key}") for key, value in entries.items()}


def _programs(name: str, what: str) -> InputError:
    return InputError(
        f"{name} has {what}, which are programs, and are not run; write the references out, such "
        "as by json.dump of fsspec.filesystem('reference', fo=FILE).references, if you trust them",
        code="other-layout",
    )


def _entry(value: Any, templates: Mapping[str, Any], name: str) -> bytes | Reference:  # noqa: ANN401
    if isinstance(value, dict):
        return json.dumps(value).encode()
    if isinstance(value, str):
        return _inline(value, name)
    if not isinstance(value, list) or len(value) not in (1, 3):
        raise _damaged(name, "expected text, [URL] or [URL, offset, length]")
    url, *numbers = value
    if not isinstance(url, str):
        raise _damaged(name, f"expected the URL as text, found {url!r}")

    def filled(match: re.Match[str]) -> str:
        text = templates.get(match[1])
        if not isinstance(text, str) or "{{" in text or "{%" in text:
            raise _programs(name, f"the template {match[0]}")
        return text

    url = _TEMPLATE.sub(filled, url)
    return _reference(url, *numbers, name=name)


def _inline(text: str, name: str) -> bytes:
    if not text.startswith("base64:"):
        return text.encode("utf-8", "surrogateescape")
    try:
        return base64.b64decode(text[7:], validate=True)
    except binascii.Error as error:
        raise _damaged(name, str(error)) from error


def _reference(url: str, offset: Any = 0, length: Any = None, *, name: str) -> Reference:  # noqa: ANN401
    for number in (offset, 0 if length is None else length):
        if type(number) is not int or not 0 <= number < 2**63:
            raise _damaged(name, f"expected offset and length, found {number!r}")
    return Reference(url, offset, length)


class _Tables:
    """References in Parquet files, a folder for each array, with as many records in each file."""

    def __init__(
        self, name: str, read: ReadFile, metadata: dict[str, bytes], record_size: int
    ) -> None:
        self._name, self._read, self._record_size = name.rstrip("/"), read, record_size
        self._metadata = metadata
        self._shapes = {
            key.removesuffix(".zarray").rstrip("/"): _chunk_counts(text, f"{name}: {key}")
            for key, text in metadata.items()
            if key.endswith(".zarray")
        }
        self._tables = dict[str, Any]()

    @classmethod
    def opened(cls, name: str, read: ReadFile) -> "_Tables":
        found = _parsed(read(f"{name.rstrip('/')}/.zmetadata"), name)
        metadata, size = found.get("metadata"), found.get("record_size")
        if not isinstance(metadata, dict) or type(size) is not int or not 0 < size <= 10**9:
            raise _damaged(name, "expected metadata and record_size in .zmetadata")
        entries = {
            key: value.encode() if isinstance(value, str) else json.dumps(value).encode()
            for key, value in metadata.items()
        }
        return cls(name, read, entries, size)

    def keys(self) -> Iterator[str]:
        yield from self._metadata

    def entry(self, key: str) -> bytes | Reference | None:
        if key in self._metadata:
            return self._metadata[key]
        array, _, chunk = key.rpartition("/")
        counts = self._shapes.get(array)
        if counts is None or not re.fullmatch(r"\d+(\.\d+)*", chunk):
            return None
        indices = [int(part) for part in chunk.split(".")]
        indices = indices if counts else []
        if len(indices) != len(counts) or any(i >= n for i, n in zip(indices, counts, strict=True)):
            return None
        number = 0
        for index, count in zip(indices, counts, strict=True):
            number = number * count + index
        table = self._table(f"{array}/refs.{number // self._record_size}.parq")
        return self._record(table, number % self._record_size, f"{self._name}: {key}")

    def _record(self, table: Any, row: int, name: str) -> bytes | Reference | None:  # noqa: ANN401
        if row >= len(table):
            return None
        raw = table["raw"].iloc[row] if "raw" in table else None
        if isinstance(raw, bytes | str):
            return raw if isinstance(raw, bytes) else _inline(raw, name)
        path = table["path"].iloc[row]
        if not isinstance(path, str):
            return None
        offset, length = int(table["offset"].iloc[row]), int(table["size"].iloc[row])
        return _reference(path, offset, length or None, name=name)

    def _table(self, file: str) -> Any:  # noqa: ANN401
        if file not in self._tables:
            from fastparquet import ParquetFile

            name = f"{self._name}/{file}"
            content = self._read(name)
            try:
                table = ParquetFile(io.BytesIO(content)).to_pandas()
                _ = table["path"], table["offset"], table["size"]
            except ImportError:
                raise
            except Exception as error:  # of any library
                raise _damaged(name, str(error) or type(error).__name__) from error
            while len(self._tables) >= _KEPT:
                self._tables.pop(next(iter(self._tables)), None)
            self._tables[file] = table
        return self._tables[file]


def _chunk_counts(text: bytes, name: str) -> tuple[int, ...]:
    metadata = _parsed(text, name)
    try:
        pairs = zip(metadata["shape"], metadata["chunks"], strict=True)
        return tuple(math.ceil(size / chunk) for size, chunk in pairs)
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise _damaged(name, "expected shape and chunks of numbers") from error
