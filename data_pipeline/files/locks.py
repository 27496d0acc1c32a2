"""A lock of a folder that ends with the process that holds it, however it ends."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.errors import InputError

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
        with suppress(OSError):  # a note for people; the disk may be full
            os.ftruncate(file, 0)
            os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        with suppress(OSError):
            lock.unlink()  # before it is released, so that nobody holds a file without a name
        os.close(file)


def _acquire(lock: Path, activity: str) -> int | None:
    """Open and lock a file; None where there are no locks."""
    while True:
        file = _open(lock)
        if file is None:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file), lock.stat()):
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


def _open(lock: Path) -> int | None:
    for flags in (os.O_RDWR | os.O_CREAT, os.O_RDONLY):  # the file may be of another user
        with suppress(OSError):
            return os.open(lock, flags | os.O_CLOEXEC, 0o666)
    return None
