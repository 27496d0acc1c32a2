"""Room on a disk, before much is written to it."""

import shutil
from pathlib import Path

from data_pipeline.errors import InputError

_GIB = 2**30


def find_free_space(path: Path) -> tuple[Path, int]:
    """Find the nearest existing folder of a path, and the bytes that are free on its disk."""
    folder = next(p for p in (path.absolute(), *path.absolute().parents) if p.is_dir())
    return folder, shutil.disk_usage(folder).free


def require_free_space(path: Path, needed: int, contents: str, remedy: str) -> None:
    """Raise an ``InputError`` where a disk has no room for ``needed`` bytes.

    Args:
        path: File or folder to be written.
        needed: Bytes.
        contents: Subject of the message, such as "the store".
        remedy: End of the message.
    """
    folder, free = find_free_space(path)
    if needed > free:
        raise InputError(
            f"{contents} of {needed / _GIB:.2f} GiB does not fit in {folder}, which has "
            f"{free / _GIB:.2f} GiB free; {remedy}",
            code="disk-full",
        )
