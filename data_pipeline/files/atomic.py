"""Atomic writes: a file appears under its name only when it is complete, and replaces only a file.

What keeps a system from writing (a full or read-only disk, a missing permission, a name that is too
long, ...) is one kind of error, with the path, the reason and a remedy.
"""

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.hidden_folder import (
    delete_left,
    hidden_folder,
    is_hidden_folder,
    mode_of_new,
)


class _Reason(NamedTuple):
    code: str
    remedy: str
    kind: type[InputError] = InputError


_AGAIN = "run the same command again, which resumes where it can"
_FULL = _Reason("disk-full", f"finished work is kept: free some space and {_AGAIN}", TransferError)
_BROKEN = _Reason("cannot-write", f"check the disk and {_AGAIN}", TransferError)
_UNKNOWN = _BROKEN._replace(remedy=f"check the disk and the space that is left, and {_AGAIN}")
_FORBIDDEN = _Reason("no-permission", "choose another folder, or change who may write there")
_IN_THE_WAY = _Reason(
    "not-a-folder", "part of this path is a file or a link to nothing; choose another"
)
_UNUSABLE = _Reason("cannot-write", "choose another path")
_REASONS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: _FULL._replace(
        remedy=f"finished work is kept: allow larger files (ulimit -f) and {_AGAIN}"
    ),
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: _FORBIDDEN._replace(remedy="choose a folder on a disk that can be written to"),
    errno.EEXIST: _IN_THE_WAY,
    errno.ENOTDIR: _IN_THE_WAY,
    errno.EISDIR: _Reason("not-a-file", "a folder has this name; choose another"),
    errno.ENAMETOOLONG: _Reason("cannot-write", "choose a shorter name"),
    errno.ELOOP: _Reason("cannot-write", "its links lead in a circle; remove them"),
    errno.EINVAL: _UNUSABLE,
    errno.EILSEQ: _UNUSABLE,
    errno.ENOENT: _Reason("cannot-write", f"its folder has gone; {_AGAIN}"),
    errno.ENXIO: _BROKEN,
    errno.ENODEV: _BROKEN,
    errno.EIO: _BROKEN,
    errno.ESTALE: _BROKEN,
    errno.EBUSY: _BROKEN,
    errno.ETXTBSY: _BROKEN,
    errno.EMFILE: _BROKEN._replace(remedy=f"allow more open files (ulimit -n) and {_AGAIN}"),
    errno.ENFILE: _BROKEN._replace(remedy=f"close other programs and {_AGAIN}"),
}

_STATES = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ESTALE, errno.EBUSY, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE, errno.ENFILE,
)  # fmt: skip


@contextmanager
def replacing(path: Path, *errors: type[Exception], private: bool = False) -> Iterator[Path]:
    """Give a temporary name, in a folder next to ``path``, which becomes ``path`` at the end.

    If the block fails, ``path`` stays as it is.

    A file or a link at ``path`` is replaced (what a link points to stays); anything else, such as a
    folder, stays and is an error. The mode of the file follows the umask.

    Args:
        path: File to write. Its folder is made where missing.
        errors: Errors of the library that writes, see ``writing_to``.
        private: Whether nobody but the owner may read the file.

    Yields:
        A path of the same name that does not exist yet, alone in a folder of this process.

    Raises:
        InputError: If the file cannot be written.
    """
    with writing_to(path, *errors):
        require_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with hidden_folder(path.parent) as folder:
            temporary = folder / path.name
            yield temporary
            require_replaceable(path)
            mode = 0o600 if private else mode_of_new(folder)
            if stat.S_IMODE(temporary.stat().st_mode) != mode:  # some libraries have their own
                with suppress(PermissionError):  # of file systems without modes
                    temporary.chmod(mode)
            os.replace(temporary, path)


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Write a text, see ``replacing``; a file that holds it already is left as it is."""
    is_same = path.is_file() and path.read_bytes() == text.encode()
    if is_same and not (private and path.stat().st_mode & 0o077):
        return
    with replacing(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_writable(*paths: Path) -> None:
    """Reject files that cannot be written, before the work whose results they will hold.

    A hidden folder is made and removed, in the folder or in the nearest one above that exists.

    Raises:
        InputError: As ``replacing`` does.
    """
    for path in paths:
        with writing_to(path):
            require_replaceable(path)
            folder = path.parent
            while not os.path.lexists(folder) and folder != folder.parent:
                folder = folder.parent
            with hidden_folder(folder) as hidden:
                (hidden / path.name).touch()


def require_replaceable(path: Path) -> None:
    """Reject a folder or a device where a file is to be written ("not-a-file")."""
    if path.is_dir() or (path.exists() and not path.is_file()):
        kind = "a folder" if path.is_dir() else "no file"
        raise InputError(
            f"cannot write {full_path(path)}: it is {kind}, and only a file is replaced; choose "
            "another name, or move it away",
            code="not-a-file",
        )


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they do not exist.

    Raises:
        InputError: If it cannot be made, see ``writing_to``.
    """
    with writing_to(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def writing_to(path: Path, *errors: type[Exception]) -> Iterator[None]:
    """Report what keeps the block from writing ``path`` as an ``InputError``.

    Args:
        path: What is written, for the message.
        errors: Errors of the library that writes which are no ``OSError``.

    Raises:
        InputError: With the codes "no-permission" (a missing one, or a read-only disk),
            "not-a-folder", "not-a-file" or "cannot-write".
        TransferError: With the codes "disk-full" (quotas and limits too) or "cannot-write" (a disk
            that fails).
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None or not _concerns(error, reason, path):
            raise
        raise _cannot_write(path, error, reason) from error
    except errors as error:
        number = re.search(r"os error (\d+)", str(error))  # as libraries in Rust say it
        reason = _REASONS.get(int(number[1]) if number else 0, _UNKNOWN)
        raise _cannot_write(path, error, reason) from error


def explain_state(error: OSError) -> str:
    """Explain an error that is a state of the system and no defect, wherever it was met.

    Empty for all others.
    """
    if error.errno not in _STATES or error.errno not in _REASONS:
        return ""
    name = f"cannot use {error.filename}: " if error.filename is not None else ""
    return f"{name}{error.strerror}; {_REASONS[error.errno].remedy}"


def _concerns(error: OSError, reason: _Reason, path: Path) -> bool:
    """Whether an error is that of writing a path, not of reading elsewhere."""
    if error.errno == errno.EROFS or reason.code == _FULL.code:
        return True
    if not isinstance(error.filename, str | os.PathLike):
        return error.errno != errno.ENOENT
    hidden, given = f".{path.name}.", Path(error.filename)
    for name, place in ((given, path), (full_path(given), full_path(path))):
        if name.is_relative_to(place) or place.is_relative_to(name):
            return True
        if any(part.startswith(hidden) or is_hidden_folder(part) for part in name.parts):
            return True
    return False


def _cannot_write(path: Path, error: Exception, reason: _Reason) -> InputError:
    what, name = getattr(error, "strerror", None) or str(error), getattr(error, "filename", None)
    where = f" ({name})" if isinstance(name, str | os.PathLike) else ""
    message = f"cannot write {full_path(path)}: {what}{where}; {reason.remedy}"
    return reason.kind(message, code=reason.code)


def full_path(path: Path) -> Path:
    """The path from the root on, without links; as it is where the working directory has gone."""
    try:
        return Path(os.path.realpath(path))
    except OSError:
        return path


def sweep(folder: Path) -> None:
    """Delete what writers that were killed have left: zarr renames a file when it is complete."""
    for path in list(folder.rglob("*.partial")):
        if path.is_dir():
            delete_left(path.parent)
        else:
            path.unlink(missing_ok=True)
