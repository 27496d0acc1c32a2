"""A zarr store whose chunks are bytes of other files, see ``references``."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from data_pipeline.errors import InputError, TransferError
from data_pipeline.sources.retry import DEFAULT_POLICY, RetryPolicy, storage_options, with_retries
from data_pipeline.sources.virtual.permitted import Permitted, without_scheme
from data_pipeline.sources.virtual.references import (
    Reference,
    References,
    read_references,
    referenced_places,
)


@dataclass(frozen=True)
class FileReader:
    """Reads bytes of local files and URLs.

    Args:
        options: Further options of fsspec for URLs.
        policy: How patiently URLs are read.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    policy: RetryPolicy = DEFAULT_POLICY

    def __call__(self, place: str) -> bytes:
        """All bytes of a file or URL."""
        return self.read(Reference(place, 0, None))

    def read(self, reference: Reference) -> bytes:
        """Some bytes of a file or URL.

        Raises:
            FileNotFoundError: If there is no such file.
            TransferError: If it has fewer bytes, or cannot be read.
        """
        place = without_scheme(reference.url)
        length = reference.length
        if "://" in place:
            content = with_retries(lambda: self._fetch(reference), place, self.policy)
        else:
            with open(place, "rb") as file:
                rest = os.fstat(file.fileno()).st_size - reference.offset
                file.seek(reference.offset)
                content = file.read(max(0, rest if length is None else min(length, rest)))
        if length is not None and len(content) != length:
            raise TransferError(
                f"{place} has {len(content)} bytes from byte {reference.offset} on where {length} "
                "are referred to; the file has changed or is cut off, or its server ignores ranges "
                "of bytes: copy it again, or make the references again",
                code="unreadable-file",
            )
        return content

    def _fetch(self, reference: Reference) -> bytes:
        import fsspec

        url, offset, length = reference
        options = storage_options(url, self.policy.stall) | dict(self.options)
        if url.startswith(("http://", "https://")):
            options["allow_redirects"] = False  # to places that nobody has named
        filesystem, path = fsspec.url_to_fs(url, **options)
        end = None if length is None else offset + length
        return filesystem.cat_file(path, start=offset or None, end=end)


class ReferenceStore(Store):
    """Metadata and chunks as references list them; it is read only.

    Args:
        references: The entries.
        permitted: Places that chunks may be read from.
        reader: Reads them.
    """

    def __init__(self, references: References, permitted: Permitted, reader: FileReader) -> None:
        super().__init__(read_only=True)
        self._references, self._permitted, self._reader = references, permitted, reader

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ReferenceStore) and self._permitted == other._permitted

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return self._permitted.name

    def _read(self, key: str) -> bytes | None:
        entry = self._references.entry(key)
        if not isinstance(entry, Reference):
            return entry
        place = self._permitted.place(entry.url)
        try:
            return self._reader.read(entry._replace(url=place))
        except FileNotFoundError as error:  # zarr would take the chunk as one of missing values
            message = f"{self._permitted.name} refers to {place}, but there is no such file; copy "
            message += "it there, or make the references again"
            raise InputError(message, code="missing-file") from error

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read an entry, or a range of its bytes; None where there is none."""
        content = await asyncio.to_thread(self._read, key)
        if content is None:
            return None
        prototype = prototype or default_buffer_prototype()
        return prototype.buffer.from_bytes(content[_slice(byte_range)])

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Read ranges of several entries."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether there is an entry of this key."""
        return await asyncio.to_thread(self._references.entry, key) is not None

    @property
    def supports_writes(self) -> bool:
        """False."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """False."""
        return False

    @property
    def supports_listing(self) -> bool:
        """True: metadata is always listed."""
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Raise: the store is read only."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Raise: the store is read only."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """List all keys."""
        for key in self._references.keys():  # noqa: SIM118
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """List the keys that start with a prefix."""
        for key in self._references.keys():  # noqa: SIM118
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """List the names below a prefix."""
        folder = prefix.rstrip("/") + "/" if prefix.rstrip("/") else ""
        below = (k[len(folder) :] for k in self._references.keys() if k.startswith(folder))  # noqa: SIM118
        for name in dict.fromkeys(key.partition("/")[0] for key in below):
            yield name


def _slice(byte_range: ByteRequest | None) -> slice:
    match byte_range:
        case None:
            return slice(None)
        case RangeByteRequest(start, end):
            return slice(start, end)
        case OffsetByteRequest(offset):
            return slice(offset, None)
        case SuffixByteRequest(suffix):
            return slice(-suffix, None) if suffix else slice(0, 0)


def open_references(
    name: str, named: Iterable[str], options: Mapping[str, Any], policy: RetryPolicy
) -> ReferenceStore:
    """Open a file or folder of references, or their URL, as a store.

    Args:
        name: Its path.
        named: Folders and URLs that it may lead to besides, see ``permitted``.
        options: Further options of fsspec for URLs.
        policy: How patiently URLs are read.

    Raises:
        InputError: If the references are damaged.
    """
    reader = FileReader(options, policy)
    path = without_scheme(name)
    folder = os.path.dirname(os.path.abspath(path))
    if "://" in path:
        folder = path.partition("?")[0].rstrip("/").rpartition("/")[0]
    permitted = Permitted(name, folder, tuple(named))
    return ReferenceStore(read_references(name, reader), permitted, reader)


def local_targets(file: str) -> list[Path]:
    """Local files that a local file of references names, permitted or not."""
    folder = os.path.dirname(os.path.abspath(file))
    places = map(without_scheme, referenced_places(file))
    return [Path(folder) / place for place in places if "://" not in place]
