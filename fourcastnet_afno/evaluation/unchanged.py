"""Files that stay as they are while they are read: half of two forecasts is no forecast."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.errors import InputError
from data_pipeline.sources.files import file_fingerprints


@contextmanager
def unchanged(paths: Sequence[str], state: Path | None = None) -> Iterator[None]:
    """Reject files and stores that are written again, or cannot be read, while the block runs.

    Args:
        paths: Of which local ones are watched: files by size and time of change, stores by those of
            their metadata.
        state: File of the work done, which is deleted where what was read has changed.

    Raises:
        InputError: If one has changed ("files-differ"), whatever the block has raised, or a file
            cannot be read or decompressed ("unreadable-file").
    """
    before = {path: _files(path) for path in paths}
    try:
        yield
    except Exception as error:
        _require_same(before, state, error)
        is_of_reading = isinstance(error, OSError) or "decompress" in str(error).lower()
        if isinstance(error, InputError) or not is_of_reading:
            raise
        raise InputError(
            f"cannot read all of {', '.join(paths)}: {error}; a file is damaged or cannot be "
            "reached: write or copy it again",
            code="unreadable-file",
        ) from error
    _require_same(before, state)


def _files(path: str) -> list[tuple[str, int, int]]:
    with suppress(InputError, OSError):
        return file_fingerprints(path)
    return []


def _require_same(
    before: dict[str, list[tuple[str, int, int]]],
    state: Path | None,
    error: Exception | None = None,
) -> None:
    changed = [path for path, files in before.items() if _files(path) != files]
    if changed:
        if state is not None:
            state.unlink(missing_ok=True)
        raise InputError(
            f"{', '.join(changed)} was written again while it was read; wait until it is complete, "
            "and run the same command again",
            code="files-differ",
        ) from error
