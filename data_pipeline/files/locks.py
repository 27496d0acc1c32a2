"""A lock of a folder that ends with the process that holds it, however it ends."""

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.errors import InputError

_NOTE = b"process "  # how a lock file begins
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # as some cluster file systems say


@contextmanager
def only_process(lock: Path, activity: str) -> Iterator[None]:
    """Be the only process of an activity while the block runs.

    Where the file cannot be made (a disk that is read only), nobody else can write there either,
    and the block runs without a lock; likewise on file systems that have no locks.

    Args:
        lock: File that names the process; it is removed at the end.
        activity: For the message, such as "trains in FOLDER".

    Raises:
        InputError: If another process is active ("busy").
    """
    file = _acquire(lock, activity)
    if file is None:
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # before it is released, so that nobody holds a file without a name
        os.close(file)


def _acquire(lock: Path, activity: str) -> int | None:
    """Make and lock a file, instead of that of a process which has gone; None without locks."""
    while True:
        file, is_new = _open(lock)
        if file is None:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), lock.lstat()):
                if is_new:
                    with suppress(OSError):  # a note for people; the disk may be full
                        os.write(file, _NOTE + f"{os.getpid()} on {socket.gethostname()}".encode())
                if is_new or not _remove(lock):
                    return file
        except FileNotFoundError:
            pass  # the process before this one has just ended and removed its file
        except BlockingIOError as error:
            holder = os.pread(file, 200, 0).decode(errors="replace")
            os.close(file)
            raise InputError(
                f"another process {activity}{f' ({holder})' if holder else ''}; wait until it "
                "ends, or give another --output",
                code="busy",
            ) from error
        except OSError as error:
            os.close(file)
            if error.errno in _NO_LOCKS:
                return None
            raise
        os.close(file)


def _open(lock: Path) -> tuple[int | None, bool]:
    """Open a lock file, and tell whether it was made; nothing is ever written to an older one."""
    with suppress(OSError):
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), True
    _require_lock(lock)
    for flags in (os.O_RDWR, os.O_RDONLY):  # the file may be of another user
        with suppress(OSError):
            return os.open(lock, flags | os.O_NOFOLLOW | os.O_CLOEXEC), False
    return None, False


def _remove(lock: Path) -> bool:
    """Remove the file of a process that has gone; False where nobody may."""
    try:
        lock.unlink()
    except OSError:
        return False
    return True


def _require_lock(lock: Path) -> None:
    """Reject a file of this name that holds something else, and would be removed."""
    if not os.path.lexists(lock):
        return
    with suppress(OSError):  # it has just been removed, or is of another user
        is_file = stat.S_ISREG(lock.lstat().st_mode)
        if not is_file or not _NOTE.startswith(lock.read_bytes()[: len(_NOTE)]):
            raise InputError(
                f"{lock} is no lock of this package, and is not removed; move it away",
                code="output-exists",
            )
