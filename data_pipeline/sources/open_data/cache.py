"""Copies of messages of remote files, checked by their digests whenever they are used.

A remote file has a file here with the messages that were read so far, in the order in which they
came, and a record next to it with their places and digests. What is there stays at its place, as
another process may be reading it; what is damaged is left out and fetched again.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from data_pipeline.files.atomic import make_folder, replacing, write_text
from data_pipeline.files.locks import locked

Digest = str


@dataclass(frozen=True)
class CachedFile:
    """The messages of a remote file that are here.

    Args:
        url: Of the remote file.
        folder: Of the cache.
    """

    url: str
    folder: Path

    @property
    def path(self) -> Path:
        """The file of messages, with the name of the remote file."""
        return self._place / self.url.rpartition("/")[2]

    @property
    def index(self) -> str:
        """The index as it was read last, or ""."""
        file = self._place / "index"
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    def keep_index(self, text: str) -> None:
        """Keep an index."""
        make_folder(self._place)
        write_text(self._place / "index", text)

    def complete(
        self,
        starts: Collection[int],
        fetch: Callable[[Collection[int]], Mapping[int, bytes]],
    ) -> int:
        """Have the messages with these first bytes, of which missing ones are fetched.

        Returns:
            The bytes that were fetched.

        Raises:
            InputError: If the cache cannot be written, or ``fetch`` raises one.
        """
        make_folder(self._place)
        with locked(self._place / ".lock"):
            held = self._held()
            missing = [start for start in sorted(starts) if start not in held]
            if not missing:
                return 0
            fetched = fetch(missing)
            self._write({**held, **fetched})
            return sum(map(len, fetched.values()))

    @property
    def _place(self) -> Path:
        return self.folder / blake2b(self.url.encode(), digest_size=8).hexdigest()

    def _held(self) -> dict[int, bytes]:
        """The undamaged messages by their first bytes in the remote file."""
        try:
            record = json.loads((self._place / "record.json").read_text(encoding="utf-8"))
            content = self.path.read_bytes()
            places = [(int(start), int(at), int(size), known) for start, at, size, known in record]
        except (OSError, ValueError, TypeError):
            return {}
        return {
            start: content[at : at + size]
            for start, at, size, known in places
            if _digest(content[at : at + size]) == known
        }

    def _write(self, messages: Mapping[int, bytes]) -> None:
        record, at = [], 0
        for start, piece in messages.items():
            record.append((start, at, len(piece), _digest(piece)))
            at += len(piece)
        with replacing(self.path) as temporary:
            temporary.write_bytes(b"".join(messages.values()))
        write_text(self._place / "record.json", json.dumps(record))


def _digest(content: bytes) -> Digest:
    return blake2b(content, digest_size=16).hexdigest()
