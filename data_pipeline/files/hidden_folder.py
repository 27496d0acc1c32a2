"""Hidden folders of one process each, for what gets its name when it is complete.

    .abcd1234.partial/NAME        what is written
    .abcd1234.partial/.process    a lock that ends with the process that writes

Each has a name of its own, so that two commands that write one file never meet: either gives it a
complete content. What a killed process left is deleted by the next command that may write in the
same place. That it is ours is told by name and lock, and that it is not in use by the lock.
"""

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.files.locks import hold, is_note, sign

_NAME = re.compile(r"\.[a-z0-9_]{8}\.partial")
_LOCK = ".process"


@contextmanager
def hidden_folder(parent: Path) -> Iterator[Path]:
    """Make a folder for this block alone, which is deleted at its end.

    Only its owner can open it.

    Args:
        parent: Folder to make it in.

    Raises:
        OSError: If it cannot be made.
    """
    delete_left(parent)
    folder, lock = _make(parent)
    try:
        yield folder
    finally:
        with suppress(OSError):
            _delete(folder)
        os.close(lock)


def mode_of_new(folder: Path) -> int:
    """The mode that new files get next to a hidden folder, by the umask."""
    return stat.S_IMODE((folder / _LOCK).stat().st_mode)


def is_hidden_folder(name: str) -> bool:
    """Whether a name is that of a hidden folder."""
    return _NAME.fullmatch(name) is not None


def _make(parent: Path) -> tuple[Path, int]:
    """Make a folder and its lock, again where another process deletes it in between as left."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=".", suffix=".partial", dir=parent))
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:
            continue
        except OSError:
            folder.rmdir()
            raise
        with suppress(BlockingIOError):
            if hold(lock, folder / _LOCK) is not False:
                sign(lock)
                return folder, lock
        os.close(lock)


def delete_left(parent: Path) -> None:
    """Delete the folders of processes that have gone, as far as they can be deleted."""
    folders = list[Path]()
    with suppress(OSError), os.scandir(parent) as entries:
        folders += [Path(e) for e in entries if is_hidden_folder(e.name) and not e.is_symlink()]
    for folder in folders:
        with suppress(OSError):  # in use, of another user, or not ours
            folder.rmdir()  # of one that had no lock yet
        with suppress(OSError):
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if hold(lock, folder / _LOCK) and _is_ours(folder, lock):
                    _delete(folder)
            finally:
                os.close(lock)


def _is_ours(folder: Path, lock: int) -> bool:
    """Whether a lock has our note, or none yet, and then there is nothing else."""
    note = os.pread(lock, 200, 0)
    return is_note(note) if note else os.listdir(folder) == [_LOCK]


def _delete(folder: Path) -> None:
    """Delete a folder, at last the lock that tells that it is ours."""
    for entry in folder.iterdir():
        if entry.name != _LOCK:
            remove(entry)
    (folder / _LOCK).unlink()
    folder.rmdir()


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if there is one; what a link points to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
