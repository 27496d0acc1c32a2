"""Work that is shared by processes and goes on after a kill.

    .NAME.partial/identity.json           what must be the same for work to be gone on with
    .NAME.partial/store                   what will be NAME
    .NAME.partial/ledger-RANK.jsonl       the parts that a process has finished, with checksums
    .NAME.partial/restart-UNIT.safetensors    the state of unfinished work
    .NAME.partial/records-UNIT.json       what is to be told at the end

Work consists of units, and these of parts. Unit u is done by the process of rank u modulo the
number of processes. Processes never wait for each other: whichever finishes the last part gives the
store its name. A kill costs the parts since the last restart file.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import remove, replacing, sweep, writing_to
from data_pipeline.files.ledger import Ledger, locked
from fourcastnet_afno.inference.config import IfExists

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Work:
    """A work folder beside the output.

    Args:
        path: What is to be made.
        identity: Plain values that must be the same for work to be gone on with.
        num_units: Units of work.
        num_parts: Parts of each unit.
        rank: Of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        num_units: int,
        num_parts: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.path, self.folder = path, path.with_name(f".{path.name}.partial")
        self._identity = json.dumps(identity, sort_keys=True, indent=1)
        self._num_units, self._num_parts = num_units, num_parts
        self._rank, self._world_size = rank, world_size

    @property
    def store(self) -> Path:
        """Where the store is written."""
        return self.folder / "store"

    @property
    def fingerprint(self) -> str:
        """Of the identity, 16 hexadecimal digits."""
        return hashlib.blake2b(self._identity.encode(), digest_size=8).hexdigest()

    @contextmanager
    def opened(self, create: Callable[[], object], existing: IfExists) -> Iterator["Work"]:
        """Prepare the folder, or go on with it.

        Args:
            create: Called without arguments to make an empty store at ``store``.
            existing: What to do with an output or other work that is there already.

        Raises:
            InputError: If there is one and it is to be refused, the folder cannot be written to,
                the disk is full, or another process does the same work. If a single process
                meets a mistake in the input before its first part, nothing is left behind.
        """
        self._check_existing(existing)
        with writing_to(self.path), disk_full_as_input_error(self.path):
            self.folder.mkdir(parents=True, exist_ok=True)
            with locked(self.folder / f"lock-{self._rank}", _busy(self.path)):
                with _exclusive(self.folder / "lock"):
                    self._prepare(create, existing)
                try:
                    yield self
                except InputError:
                    if self._world_size == 1 and not self._read_ledgers():
                        shutil.rmtree(self.folder)
                    raise

    def _check_existing(self, existing: IfExists) -> None:
        interrupted = existing == "resume" and (self.folder / "identity.json").exists()
        if self.path.exists() and existing != "overwrite" and not interrupted:
            raise InputError(
                f"{self.path.resolve()} exists; give another --output, --existing overwrite to "
                "replace it, or --existing resume to go on with the same forecast"
            )

    def _prepare(self, create: Callable[[], object], existing: IfExists) -> None:
        note = self.folder / "identity.json"
        same = note.exists() and note.read_text() == self._identity
        if same and self.store.exists():
            self._ledgers = self._read_ledgers()
            return
        if note.exists() and not same and existing != "overwrite":
            raise InputError(
                f"{self.folder.resolve()} holds an interrupted forecast of other settings, "
                f"differing in {', '.join(self._differences(note))}; give another --output, or "
                "--existing overwrite to drop it"
            )
        note.unlink(missing_ok=True)
        for entry in self.folder.iterdir():
            if not entry.name.startswith("lock"):
                remove(entry)
        create()
        note.write_text(self._identity)
        self._ledgers = self._read_ledgers()

    def _differences(self, note: Path) -> list[str]:
        before, now = json.loads(note.read_text()), json.loads(self._identity)
        return [
            key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)
        ]

    def _read_ledgers(self) -> dict[int, str]:
        self._own = Ledger(self.folder / f"ledger-{self._rank}.jsonl")
        checksums = {start: record["checksum"] for start, record in self._own.records.items()}
        for path in self.folder.glob("ledger-*.jsonl"):
            checksums |= _finished_lines(path)
        return checksums

    @property
    def units(self) -> list[int]:
        """Units that this process has still to finish."""
        return [
            unit
            for unit in range(self._rank, self._num_units, self._world_size)
            if self.missing_parts(unit)
        ]

    def missing_parts(self, unit: int) -> list[int]:
        """Parts of a unit that are not finished."""
        first = unit * self._num_parts
        parts = range(self._num_parts)
        return [part for part in parts if first + part not in self._ledgers]

    def record(self, unit: int, part: int, checksum: str) -> None:
        """Note that a part is safe in the store."""
        self._own.record(unit * self._num_parts + part, {"checksum": checksum})
        self._ledgers[unit * self._num_parts + part] = checksum

    def save_restart(self, unit: int, tensors: Mapping[str, Tensor], note: Any) -> None:  # noqa: ANN401
        """Keep the state of a unit; what was kept before is replaced at once."""
        with replacing(self.folder / f"restart-{unit}.safetensors") as temporary:
            contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(contiguous, temporary, {"note": json.dumps(note)})

    def load_restart(self, unit: int) -> tuple[dict[str, Tensor], Any] | None:
        """What ``save_restart`` has kept last, if anything."""
        path = self.folder / f"restart-{unit}.safetensors"
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})["note"])
            return {name: file.get_tensor(name) for name in file.keys()}, note  # noqa: SIM118

    def save_records(self, unit: int, records: Any) -> None:  # noqa: ANN401
        """Keep what is to be told of a unit at the end."""
        with replacing(self.folder / f"records-{unit}.json") as temporary:
            temporary.write_text(json.dumps(records))

    def drop_restart(self, unit: int) -> None:
        """Forget the state of a finished unit."""
        (self.folder / f"restart-{unit}.safetensors").unlink(missing_ok=True)

    def records(self) -> list[Any]:
        """What was told of each unit, in order."""
        paths = [self.folder / f"records-{unit}.json" for unit in range(self._num_units)]
        return [json.loads(path.read_text()) for path in paths if path.exists()]

    def finish(self, complete: Callable[[Path], Path]) -> bool:
        """Give the store its name if all parts of all processes are finished.

        Args:
            complete: Called with the store's folder before, to complete it; returns the file or
                folder that gets the name.

        Returns:
            Whether the output is there.
        """
        if not self.folder.exists():
            return True  # another process was faster
        with _exclusive(self.folder / "lock"):
            if not (self.folder / "identity.json").exists():
                return True
            self._ledgers = self._read_ledgers()
            if len(self._ledgers) < self._num_units * self._num_parts:
                return False
            sweep(self.store)
            made = complete(self.store)
            remove(self.path)
            os.replace(made, self.path)
            (self.folder / "identity.json").unlink()
        shutil.rmtree(self.folder, ignore_errors=True)
        return True


def _finished_lines(path: Path) -> dict[int, str]:
    """The whole lines of a ledger that another process may be writing."""
    *lines, _ = path.read_text().split("\n")
    records = [json.loads(line) for line in lines]
    return {record["start"]: record["checksum"] for record in records}


def _busy(path: Path) -> str:
    return f"another process is writing {path.resolve()}; wait for it, or give another --output"


@contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Wait for the lock; it ends with the process, however it ends."""
    with lock.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def disk_full_as_input_error(path: Path) -> Iterator[None]:
    """Say that the disk is full where the block finds it so."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        raise InputError(
            f"the disk of {path.resolve()} is full ({error.strerror}); what is written is kept: "
            "free some space and run the same command again, it goes on there"
        ) from error
