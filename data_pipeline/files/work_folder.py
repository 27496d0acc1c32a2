"""Work folders: the finished pieces of an interrupted command, so that the next one resumes there.

    .NAME.partial/identity.json        what must be the same to resume
    .NAME.partial/store                what will be NAME
    .NAME.partial/ledger-RANK.jsonl    the pieces that a process has finished, each with a record
    .NAME.partial/lock, lock-RANK      locks that end with the process that holds them

Processes that share the work never wait for each other: whichever finishes the last piece gives the
store its name. Until version 0.1 a preparation wrote ``ledger.jsonl``, which is read too.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.atomic import remove, replacing, sweep, writing_to


class WorkFolder:
    """A folder next to the output that outlives a killed process.

    Args:
        path: File or folder to make; it appears when it is complete.
        identity: Text that must be the same to resume.
        rank: Of this process; others may work in the same folder.
    """

    def __init__(self, path: Path, identity: str, rank: int = 0) -> None:
        self.path, self.folder = path, path.with_name(f".{path.name}.partial")
        self.identity, self._rank = identity, rank
        self.store = self.folder / "store"  # will be the output
        self._note = self.folder / "identity.json"
        self._ledger = self.folder / f"ledger-{rank}.jsonl"
        self.records: dict[int, dict[str, Any]] = {}

    @contextmanager
    def opened(
        self,
        *,
        create: Callable[[], object] = lambda: None,
        replace: Callable[[str], object] = lambda identity: None,
        keep: Callable[[], bool] = lambda: False,
    ) -> Iterator[None]:
        """Resume the work, or start anew.

        Args:
            create: Makes an empty store where work starts.
            replace: Receives the identity of other work before it is dropped; may raise instead.
            keep: Whether the work outlives an ``InputError`` of the block. It always outlives a
                ``TransferError`` and any other exception.

        Raises:
            InputError: If the folder cannot be written to, or another process of this rank works.
            TransferError: If the disk is full.
        """
        with writing_to(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder / f"lock-{self._rank}", self.path):
                with _locked(self.folder / "lock"):
                    self._start_or_resume(create, replace)
                try:
                    yield
                except InputError as error:
                    if not (isinstance(error, TransferError) or keep()):
                        shutil.rmtree(self.folder, ignore_errors=True)
                    raise

    def _start_or_resume(
        self, create: Callable[[], object], replace: Callable[[str], object]
    ) -> None:
        before = self._note.read_text() if self._note.exists() else None
        if before != self.identity or not self.store.exists():
            if before is not None and before != self.identity:
                replace(before)
            self._note.unlink(missing_ok=True)
            for entry in self.folder.iterdir():
                if not entry.name.startswith("lock"):
                    remove(entry)
            create()
            self._note.write_text(self.identity)
        self.read_records()

    def read_records(self) -> None:
        """Read what all processes have recorded; a line that was cut off does not count."""
        self.records = {}
        for path in sorted(self.folder.glob("ledger*.jsonl")):
            *lines, rest = path.read_text().split("\n")
            for line in lines:
                record = json.loads(line)
                self.records[record.pop("start")] = record
            if rest and path == self._ledger:  # of a killed process
                with replacing(path) as temporary:
                    temporary.write_text("".join(line + "\n" for line in lines))

    def record(self, piece: int, record: dict[str, Any]) -> None:
        """Note that a piece is safe in the store."""
        with self._ledger.open("a") as file:
            file.write(json.dumps({"start": piece, **record}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records[piece] = record

    def publish(
        self,
        num_pieces: int = 0,
        complete: Callable[[Path], Path] = lambda store: store,
        *,
        overwrite: bool = False,
    ) -> bool:
        """Give the store its name if all pieces of all processes are finished.

        Args:
            num_pieces: Number of all pieces.
            complete: Completes the store's folder; returns the file or folder that gets the name.
            overwrite: Whether an output that exists is replaced.

        Returns:
            Whether the output exists.

        Raises:
            InputError: If an output has appeared since the work began; the work is kept.
        """
        if not self.folder.exists():
            return True  # another process was faster
        with _locked(self.folder / "lock"):
            if not self._note.exists():
                return True
            self.read_records()
            if len(self.records) < num_pieces:
                return False
            if self.path.exists() and not overwrite:
                raise InputError(
                    f"{self.path.resolve()} has appeared during this work, which {self.folder} "
                    "keeps; move the output away and run the same command again, which resumes",
                    code="output-exists",
                )
            sweep(self.store)
            output = complete(self.store)
            remove(self.path)
            os.replace(output, self.path)
            self._note.unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        return True


@contextmanager
def resumable(path: Path, identity: str) -> Iterator[WorkFolder]:
    """The work folder of one process; ``path`` appears when the block succeeds.

    Other work in the folder is dropped.

    Raises:
        InputError: If the folder cannot be written to, another process is writing it, or ``path``
            exists at the end; then the work is kept.
    """
    work, finished = WorkFolder(path, identity), False
    with work.opened(keep=lambda: finished):
        yield work
        finished = True
        work.publish()


@contextmanager
def _locked(lock: Path, path: Path | None = None) -> Iterator[None]:
    """Hold a lock that ends with the process; wait for it, or raise if it is for a ``path``."""
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if path else 0))
        except BlockingIOError as error:
            raise InputError(
                f"another process writes {path}; wait, or give another output", code="busy"
            ) from error
        yield
