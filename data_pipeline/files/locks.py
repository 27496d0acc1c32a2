"""Locks that end with the process that holds them, however it ends."""

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
    """Be the only process of an activity while the block runs, see ``locked``.

    The file is removed at the end.

    Raises:
        InputError: If another process is active ("busy").
    """
    with locked(lock, activity) as file:
        try:
            yield
        finally:
            if file is not None and _is_name_of(lock, file):
                _remove(lock)  # before it is released, so that nobody holds a file without a name


@contextmanager
def locked(lock: Path, activity: str = "") -> Iterator[int | None]:
    """Hold a lock while the block runs; wait for it, or raise if an activity is given.

    Where the file cannot be made (a disk that is read only), nobody else can write there either,
    and the block runs without a lock; likewise on file systems that have no locks.

    Args:
        lock: File that names the process.
        activity: For the message, such as "trains in FOLDER".

    Yields:
        The open file; None without locks.

    Raises:
        InputError: If another process is active ("busy").
    """
    file = _acquire(lock, activity)
    try:
        yield file
    finally:
        if file is not None:
            os.close(file)


def hold(file: int, lock: Path, *, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed, or the process ends.

    Returns:
        Whether ``lock`` still is the name of the file; None on file systems that have no locks.

    Raises:
        BlockingIOError: If another process holds it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return _is_name_of(lock, file)


def sign(file: int) -> None:
    """Note the process in a new lock, for people; the disk may be full."""
    with suppress(OSError):
        os.write(file, _NOTE + f"{os.getpid()} on {socket.gethostname()}".encode())


def is_note(content: bytes) -> bool:
    """Whether a file that begins so is a lock of this package, or an empty one."""
    return _NOTE.startswith(content[: len(_NOTE)])


def _acquire(lock: Path, activity: str) -> int | None:
    """Make and lock a file, instead of that of a process which has gone; None without locks."""
    while True:
        file, is_new = _open(lock)
        if file is None:
            return None
        try:
            is_held = hold(file, lock, wait=not activity)
            if is_held and is_new:
                sign(file)
            if is_held and (is_new or not _remove(lock)):
                return file
        except BlockingIOError as error:
            holder = os.pread(file, 200, 0).decode(errors="replace")
            os.close(file)
            raise InputError(
                f"another process {activity}{f' ({holder})' if holder else ''}; wait until it "
                "ends, or give another --output",
                code="busy",
            ) from error
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        if is_held is None:
            return None


def _is_name_of(lock: Path, file: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file), lock.lstat())
    return False


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
        if not is_file or not is_note(lock.read_bytes()):
            raise InputError(
                f"{lock} is no lock of this package, and is not removed; move it away",
                code="output-exists",
            )
