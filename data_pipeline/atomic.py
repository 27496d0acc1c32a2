"""Atomic writes: a file or folder appears under its name only when it is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside ``path`` to write to; it becomes ``path`` if the block succeeds.

    Args:
        path: File or folder to write; an old one is replaced. Its folder is made where missing.

    Yields:
        A name that does not exist yet.

    Raises:
        InputError: If the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except PermissionError as error:
        raise InputError(
            f"cannot write {path.resolve()}: {error.strerror}; choose another folder"
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise InputError(
            f"cannot write {path.resolve()}: a part of this path is a file; choose another folder"
        ) from error
    finally:
        # After a failed mkdir the parent may be a file, so that even looking would raise.
        if path.parent.is_dir():
            _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
