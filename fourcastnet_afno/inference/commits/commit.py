"""The commit of a finished forecast store to an Icechunk repository.

All files change at once with the commit: a reader, and whoever resumes after a kill, finds the
forecasts as a whole or not at all. What a killed commit has copied belongs to no version; Icechunk
calls it garbage and collects it.

References:
    https://icechunk.io/en/stable/spec/
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import full_path
from data_pipeline.files.hidden_folder import hidden_folder
from data_pipeline.sources.virtual.repository import RepositoryPath, is_repository
from fourcastnet_afno.inference.commits.target import FORECAST_GROUPS, CommitTarget, found_at

if TYPE_CHECKING:
    import icechunk


class Committed(NamedTuple):
    """A commit of forecasts.

    Args:
        snapshot: Its path.
        before: Path of the snapshot with the forecasts that it replaced, if there were any.
    """

    snapshot: RepositoryPath
    before: RepositoryPath | None

    def __str__(self) -> str:
        text = f"the forecasts are committed as {self.snapshot}"
        return text if self.before is None else f"{text}; those before stay, as {self.before}"


def commit(
    store: Path, target: CommitTarget, metadata: Mapping[str, str], *, replace: bool
) -> Committed:
    """Commit a store's files as they are, without decoding them.

    A repository that is missing appears with the commit. A missing branch starts without contents.

    Args:
        store: Finished forecast store, a folder.
        target: Where; other groups stay as they are.
        metadata: Of the commit.
        replace: Whether forecasts in this place may be replaced; they stay in the history.

    Raises:
        InputError: If something else is there ("output-exists").
        TransferError: If Icechunk cannot write.
    """
    import icechunk

    with target.errors():
        if is_repository(target.place):
            storage = icechunk.local_filesystem_storage(target.path.place)
            return _commit(store, icechunk.Repository.open(storage), target, metadata, replace)
        place = full_path(target.place)
        with hidden_folder(place.parent) as folder:
            storage = icechunk.local_filesystem_storage(str(folder / place.name))
            repository = icechunk.Repository.create(storage)
            committed = _commit(store, repository, target, metadata, replace)
            os.replace(folder / place.name, place)
        return committed


def _commit(
    store: Path,
    repository: "icechunk.Repository",
    target: CommitTarget,
    metadata: Mapping[str, str],
    replace: bool,
) -> Committed:
    import icechunk

    if target.branch not in repository.list_branches():
        *_, first = repository.ancestry(branch="main")
        repository.create_branch(target.branch, first.id)
    session = repository.writable_session(target.branch)
    found = found_at(session.store, target.path.group)
    if found == "else" or (found == "forecasts" and not replace):
        raise _appeared(target, store)
    before = target.path._replace(version=session.snapshot_id) if found == "forecasts" else None
    group = zarr.open_group(session.store, path=target.path.group, mode="a")
    for name in [*group.array_keys(), *(FORECAST_GROUPS & set(group.group_keys()))]:
        del group[name]
    if {entry.name for entry in store.iterdir()} & set(group.group_keys()):
        raise _appeared(target, store)
    sync(_copy(store, session.store, target.path.group))
    message = f"Forecasts of checkpoint {metadata.get('checkpoint_digest') or 'unknown'}, "
    message += f"settings {metadata.get('fingerprint', 'unknown')}"
    detector = icechunk.ConflictDetector()
    snapshot = session.commit(message, dict(metadata), rebase_with=detector)
    return Committed(target.path._replace(version=snapshot), before)


def _appeared(target: CommitTarget, store: Path) -> InputError:
    return InputError(
        f"{target.path} holds something else since this work began, which {store.parent} keeps; "
        "move that to another group and run the same command again, which resumes",
        code="output-exists",
    )


async def _copy(folder: Path, store: "icechunk.IcechunkStore", group: str) -> None:
    """Copy a store's files, one after the other, into a group."""
    make = default_buffer_prototype().buffer.from_bytes
    for file in _files(folder):
        key = "/".join(filter(None, (group, file.relative_to(folder).as_posix())))
        await store.set(key, make(file.read_bytes()))


def _files(folder: Path) -> Iterator[Path]:
    """Files of a zarr store, those of metadata before the chunks that they describe."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        if "zarr.json" in names:
            yield Path(place, "zarr.json")
        yield from (Path(place, name) for name in names if name != "zarr.json" and name[0] != ".")
