"""Reads that are repeated where a network fails, and errors that name what was read."""

import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import xarray as xr

from data_pipeline.errors import InputError, TransferError

_T = TypeVar("_T")
_Lazy = TypeVar("_Lazy", xr.DataArray, xr.Dataset)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How patiently a source is read.

    Args:
        attempts: Attempts in all.
        delay: Seconds before the second attempt; each further wait is twice as long.
        stall: Seconds without a byte after which a transfer has failed.
    """

    attempts: int = 5
    delay: float = 1.0
    stall: float = 60.0


DEFAULT_POLICY = RetryPolicy()


def storage_options(path: str, stall: float = DEFAULT_POLICY.stall) -> dict[str, Any]:
    """Options of fsspec for a URL: public buckets are read without login, no transfer may stall.

    ``stall`` bounds the seconds for connecting, and of silence, not the length of a transfer.
    """
    protocol = path.split("://")[0]
    if protocol == "s3":
        return {"anon": True}  # s3fs has time limits of its own
    if protocol not in ("gs", "gcs", "http", "https"):
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=stall, sock_read=stall)
    if protocol in ("gs", "gcs"):
        return {"token": "anon", "requests_timeout": timeout}
    return {"client_kwargs": {"timeout": timeout}}


def with_retries(call: Callable[[], _T], name: str, policy: RetryPolicy = DEFAULT_POLICY) -> _T:
    """Call again after a failed or stalled transfer.

    A missing file or permission is final at once; messages have the ``name`` of the data.

    Raises:
        TransferError: If every attempt failed, or a server denies access.
    """
    for attempt in range(policy.attempts):
        try:
            return call()
        except (FileNotFoundError, PermissionError, InputError):
            raise
        except Exception as error:
            if getattr(error, "status", None) in (401, 403):
                message = f"no permission to read {name} ({error}); check its credentials"
                raise TransferError(message, code="no-permission") from error
            if not is_of_network(error):
                raise
            if attempt == policy.attempts - 1:
                message = f"cannot read {name} after {policy.attempts} attempts: "
                message += f"{error or type(error).__name__}; check the network, or copy the data"
                raise TransferError(message, code="transfer-failed") from error
            time.sleep(policy.delay * 2.0**attempt)
    raise AssertionError("unreachable")


def is_of_network(error: Exception) -> bool:
    """Whether an error is of a transfer, which may succeed if it is repeated."""
    module = type(error).__module__.split(".")[0]
    libraries = ("aiohttp", "botocore", "gcsfs", "fsspec")
    return module in libraries or isinstance(error, (TimeoutError, ConnectionError))


def load(lazy: _Lazy, name: str, policy: RetryPolicy = DEFAULT_POLICY) -> _Lazy:
    """Read lazy values into memory, again where a network fails.

    Raises:
        TransferError: If every attempt failed, or the data is damaged.
    """
    with read_errors_as_input_errors(name):
        return with_retries(lambda: lazy.compute(), name, policy)


@contextmanager
def read_errors_as_input_errors(name: str) -> Iterator[None]:
    """Report data that cannot be read as damaged, by its name, as a ``TransferError``."""
    try:
        yield
    except PermissionError as error:
        message = f"no permission to read {name} ({error}); change it"
        raise TransferError(message, code="no-permission") from error
    except (OSError, ValueError, RuntimeError, EOFError, MemoryError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        message = f"cannot read {name}: {error}; a file or chunk may be damaged: copy it again"
        raise TransferError(message, code="unreadable-file") from error
