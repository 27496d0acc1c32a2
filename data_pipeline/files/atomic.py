"""Atomic writes: a file or folder appears under its name only when it is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.errors import InputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name next to ``path``, which becomes ``path`` if the block succeeds.

    Args:
        path: File or folder to write; an old one is replaced. Its folder is made where missing.

    Yields:
        A name that does not exist yet.

    Raises:
        InputError: If the folder cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove(temporary)
            yield temporary
            if path.is_dir():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        # After a failed mkdir the parent may be a file, so that even looking would raise.
        if path.parent.is_dir():
            remove(temporary)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Report, as an ``InputError``, a missing permission or a file where a folder has to be."""
    try:
        yield
    except PermissionError as error:
        message = f"cannot write {path.resolve()}: {error.strerror}; choose another folder"
        raise InputError(message, code="no-permission") from error
    except (FileExistsError, NotADirectoryError) as error:
        message = f"cannot write {path.resolve()}: part of this path is a file; choose another"
        raise InputError(message, code="not-a-folder") from error


def remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Delete files of writers that were killed: zarr renames a file when it is complete."""
    for file in folder.rglob("*.partial"):
        file.unlink(missing_ok=True)
