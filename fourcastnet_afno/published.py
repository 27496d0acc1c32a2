"""Published checkpoints: folders of others, and local copies of those behind URLs.

A published folder, as ``interop.publish.save_pretrained`` writes it, holds

    model.safetensors   the checkpoint
    config.json         its size and SHA-256
    README.md           the model card

A URL leads to such a folder or to a checkpoint (``.safetensors``), by https, s3, gs and whatever
fsspec reads. A name of ``SHIPPED``, such as ``quickstart``, leads to a folder that every
installation holds. ``hf://ORG/NAME`` and ``hf://ORG/NAME@REVISION`` are folders of the Hugging Face
Hub, or of the server of ``HF_ENDPOINT``, to which the token ``HF_TOKEN`` is sent. The SHA-256 of a
file can be stated as ``URL#sha256=...``.

Copies are kept in ``~/.cache/fourcastnet-afno`` (``XDG_CACHE_HOME``). They are read again only if
they changed there. Without a network, or with ``HF_HUB_OFFLINE=1``, the copy is used as it is. A
download is used only if it is what was published; see ``local_checkpoint``.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypedDict
from uuid import uuid4

from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.atomic import make_folder, replacing, write_text
from data_pipeline.files.cache import cache_folder
from data_pipeline.files.locks import locked
from data_pipeline.records import from_plain, parse_json
from data_pipeline.redaction import redacted, remember_secrets
from data_pipeline.sources.files import missing_packages
from data_pipeline.sources.retry import DEFAULT_POLICY, RetryPolicy, storage_options, with_retries
from fourcastnet_afno.shipped import names_shipped, shipped_folder

WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"
_HUB = re.compile(r"hf://(?P<name>[\w.-]+/[\w.-]+)(@(?P<revision>[^/]+))?(/(?P<path>.*))?")
_STATED = re.compile(r"#sha256=([0-9a-f]{64})$")
_MOST_BYTES = 2**20  # of a description
_TRUE = ("1", "true", "yes", "on")
_VERSIONS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "generation", "created")


class PublishedFile(TypedDict):
    """The entry ``checkpoint`` of a description."""

    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Content:
    """Digest, size and version of a file, as far as known.

    Args:
        sha256: Digest in hexadecimal digits.
        size: Bytes.
        version: What tells one version of a remote file from others, such as its ETag.
    """

    sha256: str = ""
    size: int | None = None
    version: str = ""

    def is_true_of(self, other: "Content") -> bool:
        """Whether all that is known of this is true of the other."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return all(own in ("", None) or own == theirs for own, theirs in pairs)


def content_of(path: Path) -> Content:
    """Digest and size of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Content(sha256=digest, size=path.stat().st_size)


def is_url(location: str | Path) -> bool:
    """Whether a location is a URL and no path."""
    return "://" in str(location)


def local_checkpoint(
    location: str | Path,
    check: Callable[[Path], object],
    policy: RetryPolicy = DEFAULT_POLICY,
) -> Path:
    """The file of a checkpoint, downloaded where a URL is given.

    Args:
        location: A file, a published folder, the URL of one, or a name of ``SHIPPED``.
        check: Raises an error for a damaged checkpoint; a download enters the cache after it.
        policy: How patiently it is read.

    Raises:
        InputError: If there is none, it is not the file that was published, or it is damaged.
        TransferError: If it cannot be read, and there is no copy of before.
    """
    if not is_url(location):
        path = shipped_folder(location) if names_shipped(location) else Path(location)
        return path / WEIGHTS if (path / WEIGHTS).is_file() else path
    url = str(location)
    stated = _STATED.search(url)
    remote = _Remote(_STATED.sub("", url), stated[1] if stated else "", policy)
    folder = cache_folder("checkpoints") / hashlib.sha256(remote.url.encode()).hexdigest()[:32]
    copy, record = folder / WEIGHTS, folder / "content.json"
    make_folder(folder)
    with locked(folder / "lock"):
        known = _known(record, copy)
        expected = remote.expected(known)
        if known is not None and expected.is_true_of(known):
            return copy
        with replacing(copy) as temporary:
            remote.download(temporary)
            found = content_of(temporary)
            if not Content(sha256=expected.sha256, size=expected.size).is_true_of(found):
                raise TransferError(
                    f"{remote.name} is not the file that was published: it has {found.size} bytes "
                    f"and the SHA-256 {found.sha256}, expected {expected.size or 'any number of'} "
                    f"bytes and {expected.sha256}; try again later, or tell its publisher",
                    code="transfer-failed",
                )
            check(temporary)
            record.unlink(missing_ok=True)  # that of the file which is replaced now
        content = Content(sha256=found.sha256, size=found.size, version=expected.version)
        write_text(record, json.dumps(asdict(content)))
    return copy


def _known(record: Path, copy: Path) -> Content | None:
    """The content of an intact copy; None without one."""
    with suppress(OSError, InputError):
        content = from_plain(Content, parse_json(record.read_bytes(), "record"), "record")
        if content_of(copy) == Content(sha256=content.sha256, size=content.size):
            return content
    return None


class _Remote:
    """A checkpoint behind a URL."""

    def __init__(self, url: str, sha256: str, policy: RetryPolicy) -> None:
        self.url, self.name, self._sha256, self._policy = url, redacted(url), sha256, policy
        is_file = url.partition("?")[0].endswith(".safetensors")  # a signature may follow
        self._folder = None if is_file else url.rstrip("/")
        _hub_parts(url)

    def expected(self, known: Content | None) -> Content:
        """Content of the file there now; that of its copy, where it cannot be asked for."""
        if known is not None and known.sha256 == self._sha256:
            return known
        try:
            if os.environ.get("HF_HUB_OFFLINE", "").lower() in _TRUE:
                message = f"there is no copy of {self.name} yet, and HF_HUB_OFFLINE is set; unset "
                raise TransferError(message + "it for the first time", code="transfer-failed")
            policy = self._policy if known is None else replace(self._policy, attempts=1)
            folder = self._folder
            return self._versioned(policy) if folder is None else self._described(folder, policy)
        except TransferError:
            if known is None or self._sha256:
                raise
            return known

    def download(self, path: Path) -> None:
        """Write the checkpoint to a path."""
        url = self.url if self._folder is None else f"{self._folder}/{WEIGHTS}"
        _call(url, lambda files, place: files.get_file(place, str(path)), self._policy)

    def _versioned(self, policy: RetryPolicy) -> Content:
        """Size and version of a file that nothing describes; without a version it is a new one."""
        info = _call(self.url, lambda files, place: files.info(place), policy)
        version = " ".join(str(info[name]) for name in _VERSIONS if info.get(name) is not None)
        version = version or uuid4().hex
        return Content(sha256=self._sha256, size=info.get("size"), version=version)

    def _described(self, folder: str, policy: RetryPolicy) -> Content:
        """Size and digest that a folder's description states."""
        url, where = f"{folder}/{DESCRIPTION}", f"{self.name}/{DESCRIPTION}"
        text = _call(url, lambda files, place: files.cat_file(place, end=_MOST_BYTES), policy)
        record = from_plain(dict[str, Any], parse_json(text, where), where)
        stated = from_plain(PublishedFile, record.get("checkpoint"), f"{where}: checkpoint")
        return Content(sha256=self._sha256 or stated["sha256"], size=stated["size"])


def _call(url: str, read: Callable[[Any, str], Any], policy: RetryPolicy) -> Any:  # noqa: ANN401
    """Read from the file system of a URL, with its place there, again where a network fails."""
    name = redacted(url)
    try:
        import fsspec

        address, options = _address(url)
        files, place = fsspec.url_to_fs(address, **options)
        return with_retries(lambda: read(files, place), name, policy)
    except ImportError as error:
        raise missing_packages(name, error) from error
    except FileNotFoundError as error:
        raise InputError(
            f"there is no file at {name}; give the URL of a checkpoint (.safetensors), or of a "
            f"folder of save_pretrained, which has {WEIGHTS} and {DESCRIPTION}",
            code="missing-file",
        ) from error
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        message = f"cannot read {name}: {error}; correct the URL"
        raise TransferError(message, code="transfer-failed") from error


def _address(url: str) -> tuple[str, dict[str, Any]]:
    """A URL that fsspec knows, and its options."""
    parts = _hub_parts(url)
    if parts is None:
        return url, storage_options(url)
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    place = parts["name"], "resolve", parts["revision"] or "main", parts["path"] or ""
    address = "/".join([endpoint.rstrip("/"), *place])
    options = storage_options(address)
    if token := os.environ.get("HF_TOKEN"):
        remember_secrets({"token": token})
        options["client_kwargs"]["headers"] = {"Authorization": f"Bearer {token}"}
    return address, options


def _hub_parts(url: str) -> re.Match[str] | None:
    """Name, revision and path in the hub; None for URLs of others."""
    match = _HUB.fullmatch(url)
    if match is None and url.startswith("hf://"):
        raise InputError(
            f"{redacted(url)} is no address of the hub, expected hf://ORG/NAME or "
            "hf://ORG/NAME@REVISION, and a path in it if need be",
            code="bad-setting",
        )
    return match
