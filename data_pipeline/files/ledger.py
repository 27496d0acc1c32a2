"""What an interrupted preparation has finished, so that the next one goes on there."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.atomic import remove, replacing, sweep, writing_to


class Ledger:
    """The blocks of a store that are safe on disk, each with a record of what is known of it.

    Args:
        path: A text file with a line for each block; a last line that is cut off does not count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.records: dict[int, dict[str, Any]] = {}
        *lines, rest = path.read_text().split("\n") if path.exists() else [""]
        for line in lines:
            record = json.loads(line)
            self.records[record.pop("start")] = record
        if rest:  # what a killed process left after the last whole line
            with replacing(path) as temporary:
                temporary.write_text("".join(line + "\n" for line in lines))

    def record(self, start: int, record: dict[str, Any]) -> None:
        """Note that the block from index ``start`` is complete."""
        with self._path.open("a") as file:
            file.write(json.dumps({"start": start, **record}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[start] = record


@contextmanager
def resumable(path: Path, identity: str) -> Iterator[tuple[Path, Ledger]]:
    """A work folder beside ``path`` that outlives a killed process.

    Args:
        path: Folder to make; it appears when the block succeeds.
        identity: Whatever must be the same for work to be gone on with; other work is dropped.

    Yields:
        The folder to write, which may hold an earlier process's work, and its ledger.

    Raises:
        InputError: If the folder cannot be written to, or another process is writing it.
    """
    work = path.with_name(f".{path.name}.partial")
    with writing_to(path):
        work.mkdir(parents=True, exist_ok=True)
        try:
            with locked(work / "lock", _busy(path)):
                yield _opened(work, identity)
                sweep(work / "store")
                os.replace(work / "store", path)
        except InputError as error:
            if not isinstance(error, (TransferError, BusyError)):
                shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work)


def _busy(path: Path) -> str:
    return (
        f"another process is preparing {path.resolve()}; wait for it, or give another --output or "
        "data.store"
    )


class BusyError(InputError):
    """Another process is at work."""


@contextmanager
def locked(lock: Path, busy: str) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends.

    Args:
        lock: A file, made where it is missing.
        busy: What to say where another process holds it.

    Raises:
        BusyError: If another process holds it.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BusyError(busy) from error
        yield


def _opened(work: Path, identity: str) -> tuple[Path, Ledger]:
    note = work / "identity.json"
    if not note.exists() or note.read_text() != identity:
        for name in ("store", "ledger.jsonl"):
            remove(work / name)
        note.write_text(identity)
    return work / "store", Ledger(work / "ledger.jsonl")
