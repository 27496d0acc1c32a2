"""Places in Icechunk repositories that forecasts are committed to.

    F.icechunk                      the branch main, where the repository need not exist
    F.icechunk@branch.NAME          another branch
    F.icechunk@branch.NAME/GROUP    a group

A repository that exists may have any name. Sources are read under the same names, see
``sources.virtual.repository``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import zarr
from zarr.storage import StorePath

from data_pipeline.errors import InputError, TransferError
from data_pipeline.sources.files import missing_packages
from data_pipeline.sources.virtual.repository import (
    SCHEME,
    RepositoryPath,
    brief,
    is_repository,
    repository_path,
)

if TYPE_CHECKING:
    import icechunk

FORECAST_MARKS = {"fingerprint", "blow_ups"}  # attributes that every finished forecast has
FORECAST_GROUPS = {"diagnostics", "quantiles", "spread"}
_SUFFIX, _BRANCH = ".icechunk", "branch."


@dataclass(frozen=True)
class CommitTarget:
    """A branch of a local repository, and the group of it that holds forecasts.

    Args:
        path: Where; the repository and the branch need not exist.
    """

    path: RepositoryPath

    @property
    def place(self) -> Path:
        """Folder of the repository."""
        return Path(self.path.place)

    @property
    def branch(self) -> str:
        """Name of the branch."""
        return self.path.version.removeprefix(_BRANCH)

    @property
    def working_name(self) -> Path:
        """Path next to the repository by which the work folder is called; nothing is there."""
        parts = [f"{self.place.name}@{self.path.version}", *self.path.group.split("/")]
        return self.place.with_name("+".join(filter(None, parts)))

    def found(self) -> "Found":
        """Contents of the newest commit in the place of the forecasts."""
        with self.errors():
            repository = self._repository()
            if repository is None or self.branch not in repository.list_branches():
                return "nothing"
            return found_at(repository.readonly_session(self.branch).store, self.path.group)

    def may_be_replaced(self, place: Path) -> bool:
        """Whether a folder is a repository that loses nothing but forecasts in a new commit."""
        return is_repository(place) and self.found() != "else"

    def is_committed(self, work: str) -> bool:
        """Whether a commit of the branch is of the work folder with this token."""
        with self.errors():
            repository = self._repository()
            if repository is None or not work or self.branch not in repository.list_branches():
                return False
            history = repository.ancestry(branch=self.branch)
            return any(commit.metadata.get("work") == work for commit in history)

    def holds_others(self, work: str) -> bool:
        """Whether forecasts are there, and not those of the work folder with this token."""
        return self.found() == "forecasts" and not self.is_committed(work)

    def _repository(self) -> "icechunk.Repository | None":
        import icechunk

        if not is_repository(self.place):
            return None
        return icechunk.Repository.open(icechunk.local_filesystem_storage(self.path.place))

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Name the repository in errors of Icechunk.

        Raises:
            TransferError: In their place.
        """
        import icechunk

        icechunk.set_logs_filter("off")
        try:
            yield
        except (
            icechunk.IcechunkError,
            icechunk.ConflictError,
            icechunk.RebaseFailedError,
        ) as error:
            raise TransferError(
                f"cannot commit to the Icechunk repository {self.path}: {brief(error)}; finished "
                "forecasts are kept: check the disk and the repository, to which another command "
                "may have committed meanwhile, and run the same command again",
                code="cannot-write",
            ) from error


Found = Literal["nothing", "forecasts", "else"]


def found_at(store: "icechunk.IcechunkStore", group: str) -> Found:
    """Contents of a group in a version of a repository; groups inside of it do not count."""
    above = group.split("/")[:-1]
    for depth in range(len(above)):
        if _opened(store, "/".join(above[: depth + 1])) == "else":
            return "else"
    found = _opened(store, group)
    if not isinstance(found, zarr.Group):
        return found
    if found.attrs.keys() >= FORECAST_MARKS:
        return "forecasts"
    has_own = any(found.array_keys()) or FORECAST_GROUPS & set(found.group_keys()) or found.attrs
    return "else" if has_own else "nothing"


def _opened(store: "icechunk.IcechunkStore", group: str) -> zarr.Group | Literal["nothing", "else"]:
    """A group, or whether nothing or an array is there."""
    try:
        found = zarr.open(StorePath(store, group), mode="r")
    except FileNotFoundError:
        return "nothing"
    return found if isinstance(found, zarr.Group) else "else"


def commit_target(path: Path) -> CommitTarget | None:
    """The place in a repository that a path names; None for stores and files.

    Raises:
        InputError: If it is no branch, or Icechunk is not installed.
    """
    found = repository_path(str(path)) or repository_path(f"{SCHEME}{path}")
    if found is None or not (Path(found.place).suffix == _SUFFIX or is_repository(found.place)):
        return None
    if not found.version.startswith(_BRANCH):
        raise InputError(
            f"forecasts are committed to a branch, got {path}; give a branch, such as "
            f"{found.place}@branch.main",
            code="bad-setting",
        )
    try:
        import icechunk  # noqa: F401
    except ImportError as error:
        raise missing_packages(str(path), error) from error
    return CommitTarget(found)
