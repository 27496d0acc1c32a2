"""Bytes of a file behind a web address, read again where a network fails."""

import http.client
import urllib.error
import urllib.request
from email.message import Message

from data_pipeline.errors import InputError, TransferError
from data_pipeline.redaction import redact
from data_pipeline.sources.retry import RetryPolicy, with_retries

_NAME = "fourcastnet-afno"
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_LARGEST_INDEX = 64 * 2**20  # bytes


def read_text(url: str, policy: RetryPolicy) -> str:
    """Read a small file.

    Raises:
        FileNotFoundError: If the server does not have it.
        TransferError: If every attempt failed, or access is denied.
    """
    content = with_retries(lambda: _get(url, None, policy), redact(url), policy)
    return content.decode(errors="replace")


def read_bytes(url: str, first: int, length: int | None, policy: RetryPolicy) -> bytes:
    """Read bytes of a file, from ``first`` on, to its end if there is no ``length``.

    Raises:
        FileNotFoundError: If the server does not have it.
        InputError: If it does not send parts of files, or the file ends before these bytes.
        TransferError: If every attempt failed, or access is denied.
    """
    return with_retries(lambda: _get(url, (first, length), policy), redact(url), policy)


def _get(url: str, part: tuple[int, int | None] | None, policy: RetryPolicy) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": _NAME})
    if part is not None:
        first, length = part
        last = "" if length is None else first + length - 1
        request.add_header("Range", f"bytes={first}-{last}")
    try:
        with urllib.request.urlopen(request, timeout=policy.stall) as response:
            if part is None:
                content = response.read(_LARGEST_INDEX)
                _require_all(content, _length_of(response.headers))
                return content
            if response.status != 206:
                message = f"{redact(url)} cannot be read in parts, as its server ignores byte "
                message += "ranges, and would travel in full; give another mirror"
                raise InputError(message, code="other-layout")
            content = response.read()
            _require_all(content, part[1] or _length_of(response.headers))
            return content
    except urllib.error.HTTPError as error:
        with error:
            raise _explained(error, url) from error
    except urllib.error.URLError as error:
        raise ConnectionError(str(error.reason)) from error
    except http.client.HTTPException as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error


def _length_of(headers: Message) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _require_all(content: bytes, length: int | None) -> None:
    if length is not None and len(content) != length:
        raise ConnectionError(f"the transfer ended after {len(content)} of {length} bytes")


def _explained(error: urllib.error.HTTPError, url: str) -> Exception:
    if error.code in (404, 410):
        return FileNotFoundError(url)
    if error.code in (401, 403):
        message = f"no permission to read {redact(url)} ({error}); give another mirror"
        return TransferError(message, code="no-permission")
    if error.code == 416:
        message = f"{redact(url)} ends before the bytes that its index names; it may still be "
        return InputError(message + "written: try again later", code="unreadable-file")
    if error.code in _BUSY:
        return ConnectionError(f"the server is busy ({error})")
    message = f"cannot read {redact(url)} ({error}); give another mirror"
    return TransferError(message, code="transfer-failed")
