"""Work folders: the finished pieces of an interrupted command, so that the next one resumes there.

    .NAME.partial/identity.json        what must be the same to resume
    .NAME.partial/store                what will be NAME
    .NAME.partial/ledger-RANK.jsonl    the pieces that a process has finished, each with a record
    .NAME.partial/lock, lock-RANK      locks that end with the process that holds them
    .NAME.partial/other                other interrupted work, until the present has a first piece

Processes that share the work never wait for each other: whichever finishes the last piece gives the
store its name. Until version 0.1 a preparation wrote ``ledger.jsonl``, which is read too. No error
deletes a finished piece, not even one of other work.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.atomic import full_path, replacing, sweep, writing_to
from data_pipeline.files.hidden_folder import hidden_folder, remove
from data_pipeline.files.locks import locked
from data_pipeline.files.outputs import Marker, may_replace, never, work_folder_of

_MARK = re.compile(r"identity\.json|lock(-\d+)?")
_ENTRY = re.compile(  # of every verb and version, and of systems
    rf"{_MARK.pattern}|store|other|moving|replaced|ledger(-\d+)?\.jsonl|output\.nc"
    r"|restart-\d+\.safetensors|records-\d+\.json|scores(-\d+)?\.npz|\..*\.partial|\.tmp.{6}|\.DS_Store|\.nfs.*"
)
_EMPTY = ("identity.json", "store", "other")  # in a work folder without a finished piece


class WorkFolder:
    """A folder next to the output that outlives a killed process.

    Args:
        path: File or folder to make; it appears when it is complete. A link to a folder, or to a
            place where nothing is yet, is followed.
        identity: Text that must be the same to resume.
        rank: Of this process; others may work in the same folder.
    """

    def __init__(self, path: Path, identity: str, rank: int = 0) -> None:
        path = full_path(path) if os.path.islink(path) and not os.path.isfile(path) else path
        self.path, self.folder = path, work_folder_of(path)
        self.identity, self._rank = identity, rank
        self.store = self.folder / "store"  # will be the output
        self._note = self.folder / "identity.json"
        self._ledger = self.folder / f"ledger-{rank}.jsonl"
        self._other, self._moving = self.folder / "other", self.folder / "moving"
        self.records: dict[int, dict[str, Any]] = {}

    @property
    def token(self) -> str:
        """Name that no other work has, nor the same work begun again; empty where none is."""
        if not self._note.exists():
            return ""
        status = self._note.stat()
        return f"{status.st_mtime_ns:x}-{status.st_ino:x}"

    @contextmanager
    def opened(
        self,
        *,
        create: Callable[[], object] = lambda: None,
        replace: Callable[[str], object] = lambda identity: None,
        keep: bool = False,
    ) -> Iterator[None]:
        """Resume the work, or start anew; other work is dropped with the first finished piece.

        Args:
            create: Makes an empty store where work starts.
            replace: Receives the identity of other work before it is replaced; may raise instead.
            keep: Whether work that this call has started outlives an ``InputError`` of the block
                before its first piece. It outlives a ``TransferError`` and any other exception.

        Raises:
            InputError: If the folder cannot be written to, another process of this rank works, or
                the folder is no work folder.
            TransferError: If the disk is full.
        """
        with writing_to(self.path):
            self._check_is_ours()
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / f"lock-{self._rank}", f"writes {self.path}"):
                with locked(self.folder / "lock"):
                    is_new = self._start_or_resume(create, replace)
                try:
                    yield
                except InputError as error:
                    if is_new and not (isinstance(error, TransferError) or keep):
                        with suppress(OSError):  # the error of the work is what counts
                            self._undo()
                    raise

    def _check_is_ours(self) -> None:
        """Reject a folder of this name that holds something else, which would be deleted."""
        names = [entry.name for entry in self.folder.iterdir()] if self.folder.is_dir() else []
        others = [name for name in names if not _ENTRY.fullmatch(name)]
        if others or (names and not any(map(_MARK.fullmatch, names))):
            raise InputError(
                f"{full_path(self.folder)} is no folder of interrupted work: it holds "
                f"{', '.join(sorted(others or names)[:3])}; move it away",
                code="output-exists",
            )

    def _start_or_resume(
        self, create: Callable[[], object], replace: Callable[[str], object]
    ) -> bool:
        """Read the records of this work, or make an empty store; returns whether it was made."""
        self._move_back()
        before = _read_text(self._note)
        if before != self.identity and _read_text(self._other / "identity.json") == self.identity:
            self._clear()
            self._other.rename(self._moving)
            self._move_back()
            before = self.identity
        is_new = before != self.identity or not self.store.exists()
        if is_new:
            if before is not None and before != self.identity:
                replace(before)
                self._set_aside()
            self._clear()
            create()
            with replacing(self._note) as temporary:
                temporary.write_text(self.identity)
        self.read_records()
        return is_new

    @property
    def _entries(self) -> list[Path]:
        """All files and folders but the locks."""
        return [e for e in self.folder.iterdir() if not e.name.startswith("lock")]

    def _has_pieces(self) -> bool:
        return any(entry.name not in _EMPTY for entry in self._entries)

    def _clear(self) -> None:
        """Delete the present work, first what makes it valid; other work stays."""
        self._note.unlink(missing_ok=True)
        for entry in self._entries:
            if entry != self._other:
                remove(entry)

    def _set_aside(self) -> None:
        """Make the work in the folder the other work, if it has finished pieces."""
        if self._has_pieces():
            remove(self._other)
            self._moving.mkdir()
            for entry in self._entries:
                if entry != self._moving:
                    entry.rename(self._moving / entry.name)
            self._moving.rename(self._other)

    def _move_back(self) -> None:
        """Complete a move that was interrupted, back to where the entries were."""
        if self._moving.exists():
            for entry in self._moving.iterdir():
                remove(self.folder / entry.name)
                entry.rename(self.folder / entry.name)
            self._moving.rmdir()

    def _undo(self) -> None:
        """Drop work that has no finished piece: other work, or no folder, is there again."""
        if not self.folder.is_dir() or self._has_pieces():
            return
        self._clear()
        if self._other.exists():
            self._other.rename(self._moving)
            self._move_back()
        else:
            self._remove()

    def _remove(self) -> None:
        """Delete the folder as far as possible; a link to one stays, for the next time."""
        for entry in self.folder.iterdir() if self.folder.is_symlink() else [self.folder]:
            with suppress(OSError):
                remove(entry)

    def read_records(self) -> None:
        """Read what all processes have recorded; a line that was cut off does not count."""
        self.records = {}
        for path in sorted(self.folder.glob("ledger*.jsonl")):
            lines = path.read_text(errors="replace").split("\n")
            records = [r for line in lines[:-1] if (r := _parse_record(line)) is not None]
            self.records |= {record.pop("start"): record for record in records}
            if lines[-1] and path == self._ledger:  # of a killed process
                with replacing(path) as temporary:
                    temporary.write_text("".join(line + "\n" for line in lines[:-1]))

    def record(self, piece: int, record: dict[str, Any]) -> None:
        """Note that a piece is safe in the store."""
        with self._ledger.open("a") as file:
            file.write(json.dumps({"start": piece, **record}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if not self.records:
            shutil.rmtree(self._other, ignore_errors=True)
        self.records[piece] = record

    def publish(
        self,
        num_pieces: int = 0,
        complete: Callable[[Path], Path | None] = lambda store: store,
        *,
        is_ours: Marker = never,
    ) -> bool:
        """Give the store its name if all pieces of all processes are finished.

        Args:
            num_pieces: Number of all pieces.
            complete: Completes the store's folder; returns the file or folder that gets the name,
                or None where it has put it into its place itself.
            is_ours: Marker of an output that is replaced; by default none is.

        Returns:
            Whether the output exists.

        Raises:
            InputError: If something else has appeared since the work began; the work is kept.
        """
        if not self._note.exists():
            return True  # another process was faster
        with locked(self.folder / "lock"):
            if not self._note.exists():
                return True
            self.read_records()
            if len(self.records) < num_pieces:
                return False
            if not may_replace(self.path, is_ours):
                raise InputError(
                    f"{full_path(self.path)} has appeared during this work, which {self.folder} "
                    "keeps; move the output away and run the same command again, which resumes",
                    code="output-exists",
                )
            sweep(self.store)
            if (output := complete(self.store)) is not None:
                _give_name(output, self.path, self.folder / "replaced")
            self._note.unlink()
            self._remove()
        return True


def _read_text(path: Path) -> str | None:
    return path.read_text(errors="replace") if path.exists() else None


def _parse_record(line: str) -> dict[str, Any] | None:
    """Read a line of a ledger; None if it is damaged, so that its piece is done again."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and isinstance(record.get("start"), int) else None


def _give_name(output: Path, path: Path, aside: Path) -> None:
    """Move an output to its name, where the work folder may be a link to another disk.

    A folder of that name is moved ``aside``: a kill while it is deleted would leave half of it.
    """
    try:
        remove(aside)
        if path.is_dir() and not path.is_symlink():
            os.replace(path, aside)
        remove(path)
        os.replace(output, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with hidden_folder(path.parent) as folder:
            copy = folder / path.name
            (shutil.copytree if output.is_dir() else shutil.copyfile)(output, copy)
            remove(path)
            os.replace(copy, path)


@contextmanager
def resumable(path: Path, identity: str) -> Iterator[WorkFolder]:
    """The work folder of one process; ``path`` appears when the block succeeds.

    Other work in the folder is dropped with the first piece.

    Raises:
        InputError: If the folder cannot be written to, another process is writing it, or ``path``
            exists at the end; then the work is kept.
    """
    work = WorkFolder(path, identity)
    with work.opened():
        yield work
        work.publish()
