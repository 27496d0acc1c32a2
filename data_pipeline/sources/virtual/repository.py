"""Repositories of Icechunk: a store with versions, of which a commit changes all files at once.

    PLACE                     the tip of the branch main, where PLACE is a local repository
    PLACE@branch.NAME         that of another branch
    PLACE@tag.NAME            a tag
    PLACE@SNAPSHOT            a snapshot, by the 20 characters of its name
    PLACE@VERSION/GROUP       a group of it
    icechunk://PLACE...       the same where PLACE is a URL of s3, gs, r2 or of local files

References:
    https://icechunk.io/en/stable/spec/
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

import zarr
from zarr.storage import StorePath

from data_pipeline.errors import InputError, TransferError
from data_pipeline.sources.virtual.permitted import Permitted, without_scheme

if TYPE_CHECKING:
    import icechunk

SCHEME = "icechunk://"
_MAIN = "branch.main"
_VERSION = re.compile(
    r"(?P<place>.+?)@(?P<version>(branch|tag)\.[^/]+|[0-9A-Z]{20})(/(?P<group>.+))?"
)
_LOGIN = re.compile("anonymous|from_env|key|token|credentials|service_account")
_CONTEXT = re.compile(r"context:|\d+:|with |at icechunk")


class RepositoryPath(NamedTuple):
    """A version of a repository, and a group of it.

    Args:
        place: Folder or URL.
        version: ``branch.NAME``, ``tag.NAME`` or the name of a snapshot.
        group: Empty for the root.
    """

    place: str
    version: str = _MAIN
    group: str = ""

    def __str__(self) -> str:
        scheme = SCHEME if "://" in self.place else ""
        return f"{scheme}{self.place}@{self.version}" + (f"/{self.group}" if self.group else "")


def is_repository(folder: str | Path) -> bool:
    """Whether a local folder is an Icechunk repository."""
    path = Path(folder)
    has_references = (path / "refs").is_dir() or (path / "repo").is_file()
    return has_references and (path / "snapshots").is_dir()


def repository_path(path: str) -> RepositoryPath | None:
    """The version that a path names; None for anything else than repositories.

    A folder that exists under the very name is meant, whatever the name looks like.
    """
    if not path.startswith(SCHEME) and ("://" in path or not _may_be_repository(path)):
        return None
    rest = without_scheme(path.removeprefix(SCHEME))
    if "://" not in rest and os.path.isdir(rest):
        return RepositoryPath(rest)
    found = _VERSION.fullmatch(rest)
    if found is None:
        return RepositoryPath(rest.rstrip("/"))
    return RepositoryPath(found["place"], found["version"], (found["group"] or "").strip("/"))


def _may_be_repository(path: str) -> bool:
    if is_repository(path):
        return True
    found = _VERSION.fullmatch(path)
    return found is not None and not os.path.exists(path) and is_repository(found["place"])


class OpenedRepository(NamedTuple):
    """A version of a repository as a zarr store, and the path of its snapshot."""

    store: StorePath
    snapshot: RepositoryPath


def open_repository(
    path: RepositoryPath, options: Mapping[str, Any], referenced: tuple[str, ...]
) -> OpenedRepository:
    """Open a version for reading.

    Args:
        path: Which one.
        options: Arguments of icechunk's storage, such as {region: us-east-1} or {from_env: true}
            for s3; buckets are read without login by default.
        referenced: Folders and URLs that virtual chunks may be read from, see ``permitted``.

    Raises:
        InputError: If there is no repository or version ("missing-file"), it is damaged
            ("unreadable-file"), or its chunks are in other places ("outside-of-source").
    """
    with _errors_of(path):
        storage, containers = _found(path, options)
        settings, access = _readable(containers) if referenced else (None, None)
        session, snapshot = _session(path, storage, settings, access)
        if containers:
            _check_locations(path, session.all_virtual_chunk_locations(), referenced)
        store, found = StorePath(session.store, path.group), path._replace(version=snapshot)
        try:
            zarr.open_group(store, mode="r")
        except FileNotFoundError as error:
            message = f"{found} has no group {path.group or 'at its root'}, or its snapshot is "
            message += "damaged; correct data.source.path, or copy the repository again"
            raise InputError(message, code="missing-file") from error
    return OpenedRepository(store, found)


def current_snapshot(path: RepositoryPath, options: Mapping[str, Any]) -> RepositoryPath:
    """The path of the snapshot that a version of a repository is now.

    Raises:
        InputError: As by ``open_repository``.
    """
    with _errors_of(path):
        storage, _ = _found(path, options)
        return path._replace(version=_session(path, storage, None, None)[1])


@contextmanager
def _errors_of(path: RepositoryPath) -> Iterator[None]:
    import icechunk

    icechunk.set_logs_filter("off")
    try:
        yield
    except icechunk.IcechunkError as error:
        raise TransferError(
            f"cannot read the Icechunk repository {path}: {brief(error)}; it may be damaged or "
            "incomplete: copy it again, or give another version of it",
            code="unreadable-file",
        ) from error


def _found(
    path: RepositoryPath, options: Mapping[str, Any]
) -> tuple["icechunk.Storage", dict[str, Any]]:
    """The storage of a repository that exists, and its containers of virtual chunks."""
    import icechunk

    is_there = "://" in path.place or is_repository(path.place)  # storage would make the folder
    if not (is_there and icechunk.Repository.exists(storage := _storage(path.place, options))):
        message = f"there is no Icechunk repository at {path.place}; correct data.source.path"
        raise InputError(message, code="missing-file")
    config = icechunk.Repository.fetch_config(storage)
    return storage, dict((config and config.virtual_chunk_containers) or {})


def _session(
    path: RepositoryPath,
    storage: "icechunk.Storage",
    settings: "icechunk.RepositoryConfig | None",
    access: dict[str, Any] | None,
) -> tuple["icechunk.Session", str]:
    """The version for reading, and the name of its snapshot."""
    import icechunk

    repository = icechunk.Repository.open(storage, settings, access)
    snapshot = _snapshot_of(repository, path)
    return repository.readonly_session(snapshot_id=snapshot), snapshot


def brief(error: Exception) -> str:
    """Text of an error; one of Icechunk without the places in its own source."""
    if not type(error).__module__.startswith("icechunk"):
        return str(error) or type(error).__name__
    lines = (line.strip(" `|->x") for line in str(error).splitlines())
    said = (line for line in lines if line and not _CONTEXT.match(line))
    return next(said, type(error).__name__)


def _storage(place: str, options: Mapping[str, Any]) -> "icechunk.Storage":
    import icechunk

    scheme, _, rest = place.rpartition("://")
    bucket, _, prefix = rest.partition("/")
    makers: Mapping[str, Any] = {
        "s3": icechunk.s3_storage,
        "gs": icechunk.gcs_storage,
        "gcs": icechunk.gcs_storage,
        "r2": icechunk.r2_storage,
    }
    login = {} if any(map(_LOGIN.search, options)) else {"anonymous": True}
    if not scheme:
        return icechunk.local_filesystem_storage(place)
    if scheme not in makers:
        known = ", ".join(f"{name}://" for name in makers)
        message = f"{SCHEME}{place} names a repository on {scheme}://, expected {known} or a local "
        raise InputError(message + "folder; copy it there", code="bad-setting")
    try:
        return makers[scheme](bucket=bucket, prefix=prefix.rstrip("/"), **login, **options)
    except TypeError as error:  # options may be secret: only their names are shown
        message = f"data.source.storage_options has {sorted(options)}, which do not all suit "
        message += f"icechunk's storage for {scheme}://; see the docs of icechunk"
        raise InputError(message, code="bad-setting") from error


def _snapshot_of(repository: "icechunk.Repository", path: RepositoryPath) -> str:
    """Name of the snapshot of a version."""
    import icechunk

    kind, _, name = path.version.partition(".")
    if not name:
        kind, name = "snapshot", path.version
    listed = {"branch": repository.list_branches, "tag": repository.list_tags}
    if kind in listed and name not in (known := listed[kind]()):
        raise InputError(
            f"{path.place} has no {kind} {name!r}, expected one of {sorted(known)[:20]}; correct "
            f"it in data.source.path, such as {path.place}@branch.main",
            code="missing-file",
        )
    if kind == "branch":
        return repository.lookup_branch(name)
    if kind == "tag":
        return repository.lookup_tag(name)
    try:
        repository.lookup_snapshot(name)
    except icechunk.IcechunkError as error:
        message = f"{path.place} has no snapshot {name} that can be read ({brief(error)}); correct "
        raise InputError(message + "it in data.source.path", code="missing-file") from error
    return name


def _readable(containers: Mapping[str, Any]) -> tuple["icechunk.RepositoryConfig", dict[str, Any]]:
    """Settings and permissions by which virtual chunks are read.

    Whoever wrote the repository shall not choose the server behind a bucket: what its own settings
    say of containers is replaced, except for the region.
    """
    import icechunk

    config, access = icechunk.RepositoryConfig.default(), {}
    for prefix, container in containers.items():
        scheme, _, rest = prefix.partition("://")
        if scheme == "file":
            store, login = icechunk.local_filesystem_store(rest), None
        elif scheme == "s3":
            region = getattr(getattr(container.store, "_0", None), "region", None)
            store = icechunk.s3_store(region=region, anonymous=True)
            login = icechunk.s3_anonymous_credentials()
        else:
            continue  # reading its chunks is an error of the library
        config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(prefix, store))
        access[prefix] = login
    return config, icechunk.containers_credentials(access)


def _check_locations(
    path: RepositoryPath, locations: list[str], referenced: tuple[str, ...]
) -> None:
    permitted = Permitted(str(path), "", referenced)
    for location in dict.fromkeys(locations):
        is_local = "://" not in without_scheme(location)
        permitted.place(unquote(location) if is_local else location)
