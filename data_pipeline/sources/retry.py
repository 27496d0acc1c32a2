"""Reads that are repeated where a network fails, and errors that name what was read."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import xarray as xr

from data_pipeline.errors import InputError, TransferError

_ATTEMPTS = 5


_T = TypeVar("_T")


_Lazy = TypeVar("_Lazy", xr.DataArray, xr.Dataset)


def with_retries(call: Callable[[], _T], what: str, attempts: int = _ATTEMPTS) -> _T:
    """Call again after a failed or stalled transfer, after 1, 2, 4, ... seconds.

    A missing file or a refused permission is final at once.

    Raises:
        TransferError: If every attempt failed.
        PermissionError: If a server refuses the permission.
    """
    for attempt in range(attempts):
        try:
            return call()
        except (FileNotFoundError, PermissionError, InputError):
            raise
        except Exception as error:
            if getattr(error, "status", None) in (401, 403):
                raise PermissionError(str(error)) from error
            if not _is_transient(error):
                raise
            if attempt == attempts - 1:
                raise TransferError(
                    f"cannot read {what} after {attempts} attempts: {error or type(error).__name__}"
                    "; check the network and the server, or copy the data to a local disk",
                    code="transfer-failed",
                ) from error
            time.sleep(_delay(attempt))
    raise AssertionError("unreachable")


def load(lazy: _Lazy, what: str) -> _Lazy:
    """Read lazy values into memory, asking again where a network fails.

    Raises:
        TransferError: If every attempt failed, or the data is damaged.
    """
    with read_errors_as_input_errors(what):
        return with_retries(lambda: lazy.compute(), what)


@contextmanager
def read_errors_as_input_errors(what: str) -> Iterator[None]:
    """Say that data may be damaged where reading it fails.

    Raises:
        TransferError: Instead of the errors of the readers.
    """
    try:
        yield
    except PermissionError as error:
        raise TransferError(
            f"no permission to read {what} ({error}); change it", code="no-permission"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        raise TransferError(
            f"cannot read {what}: {error}; a file or chunk may be damaged: copy it again",
            code="unreadable-file",
        ) from error


def _delay(attempt: int) -> float:
    return 2.0**attempt


def _is_transient(error: Exception) -> bool:
    """Whether an error is one of a network, which the next attempt may not meet."""
    network = type(error).__module__.split(".")[0] in ("aiohttp", "botocore", "gcsfs", "fsspec")
    return network or isinstance(error, (TimeoutError, ConnectionError))
