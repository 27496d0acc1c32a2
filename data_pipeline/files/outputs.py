"""Outputs of a command, compared with its inputs and with what exists, before anything is written.

Three rules hold for every verb, and for the functions behind it:

1. No output is an input, is in a store that is read, or holds an input. Paths are the same if they
   lead to the same place on the disk, through links, hard links, ``..`` or another letter case.
2. No output is another one, nor the hidden work folder ``.NAME.partial`` of another.
3. What exists is replaced only if this package has written it as this output, which its marker
   tells, and only where the verb replaces such an output.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from data_pipeline.errors import DAMAGE, InputError
from data_pipeline.files.atomic import check_writable, full_path
from data_pipeline.files.hidden_folder import delete_left

Marker = Callable[[Path], bool]
"""Whether this package has written the file or folder at a path as an output of some kind."""

_Identity = tuple[int, int]  # device and number of a file
_URL = re.compile(r"[a-z][a-z0-9+.-]+:/")
_HEAD_BYTES = 64 * 1024


def never(path: Path) -> bool:
    """Recognize nothing: the marker of outputs that are not replaced."""
    return False


class Output(NamedTuple):
    """A file or a store that a command writes.

    Args:
        path: Its place.
        kind: What the command writes there, for messages, such as "scores".
        is_ours: Marker of what may be replaced.
        has_work_folder: Whether it is made in a work folder, see ``work_folder_of``.
        is_certain: Whether it is written whatever exists, so that a disk that cannot be written to
            is an error before the work whose result it holds.
        remedy: What to do where another file or store is in its place.
        made_as: Path whose name the work folder has, if not its own: of one among several outputs
            in the same place.
    """

    path: Path
    kind: str
    is_ours: Marker = never
    has_work_folder: bool = False
    is_certain: bool = False
    remedy: str = "move it away, or give another output"
    made_as: Path | None = None

    @property
    def working_path(self) -> Path:
        """Path whose name the work folder has."""
        return self.made_as or self.path

    @property
    def places(self) -> set[Path]:
        """Its path, and the work folders of it and of what it links to."""
        hidden = map(work_folder_of, (self.working_path, full_path(self.working_path)))
        return {self.path, *(hidden if self.has_work_folder else ())}


def work_folder_of(path: Path) -> Path:
    """The hidden folder next to an output in which it is made."""
    return path.parent / f".{path.name}.partial"


def check_outputs(outputs: Sequence[Output], inputs: Mapping[str, Iterable[Path]]) -> None:
    """Check that writing the outputs loses nothing; call it before anything is written.

    What killed processes left next to them is deleted, see ``hidden_folder``.

    Args:
        outputs: All that the command writes, with the files next to its main output.
        inputs: Files and stores that it reads, by the name of their option or setting; those that
            do not exist do not count.

    Raises:
        InputError: With the codes "output-is-input", "same-output", "output-exists" (something else
            is there), "not-a-folder" (a file is where a folder has to be) or "bad-setting" (a URL);
            those of ``check_writable`` for outputs that are certain.
    """
    read = _Read.of(inputs)
    for output in outputs:
        _check_place(output)
        for path in output.places:
            if found := read.conflict(path):
                raise InputError(
                    f"cannot write {output.kind} to {full_path(output.path)}: {found}, which "
                    "stays as it is; give another output",
                    code="output-is-input",
                )
    _check_names(outputs)
    for output in outputs:
        require_ours(output)
    check_writable(*(output.path for output in outputs if output.is_certain))
    for folder in {output.path.parent for output in outputs}:
        delete_left(folder)


def require_ours(output: Output) -> None:
    """Reject an output at whose place is something that this package has not written as such."""
    if may_replace(output.path, output.is_ours):
        return
    reason = "exists"
    if output.is_ours is not never:
        found = "a folder" if os.path.isdir(output.path) else "a file"
        reason = f"is {found} that this package has not written as {output.kind}, or is damaged"
    raise InputError(
        f"{full_path(output.path)} {reason}, and is not replaced; {output.remedy}",
        code="output-exists",
    )


def may_replace(path: Path, is_ours: Marker) -> bool:
    """Whether replacing a path loses nothing: it is free, an empty file, or recognized."""
    if not os.path.exists(path):  # a link to nothing too
        return True
    try:
        if path.is_file():
            return path.stat().st_size == 0 or is_ours(path)
        return path.is_dir() and is_ours(path)  # reading a pipe would wait
    except DAMAGE:
        return False


class _Read(NamedTuple):
    """The inputs of a command, by what they are on the disk."""

    names: dict[_Identity, str]
    paths: dict[Path, str]

    @classmethod
    def of(cls, inputs: Mapping[str, Iterable[Path]]) -> "_Read":
        names, paths = dict[_Identity, str](), dict[Path, str]()
        for option, path in ((option, path) for option, group in inputs.items() for path in group):
            paths.setdefault(path, f"{option} {path}")
            if (place := _identity(path)) is not None:
                names.setdefault(place, paths[path])
        return cls(names, paths)

    def conflict(self, path: Path) -> str:
        """Describe how writing ``path`` would destroy an input; empty if it would not."""
        place, *above = _lineage(path)
        if place in self.names:
            return f"it is the input {self.names[place]}"
        for folder in above:
            if folder in self.names:
                return f"it is inside of the input {self.names[folder]}"
        for folder, name in self._folders() if os.path.isdir(path) else ():
            if place in _lineage(folder):
                return f"it holds the input {name}"
        return ""

    def _folders(self) -> Iterator[tuple[Path, str]]:
        """Folders of the inputs, and of what they link to, with an input in each."""
        folders = {path.parent: name for path, name in self.paths.items()}
        for path, name in self.paths.items():
            if os.path.islink(path):
                folders[full_path(path).parent] = name
        yield from folders.items()


def _identity(path: Path) -> _Identity | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _lineage(path: Path) -> list[_Identity | None]:
    """Identities of a path and of all folders above it; None for those that do not exist."""
    place = full_path(path)
    return [_identity(each) for each in (place, *place.parents)]


def _check_names(outputs: Sequence[Output]) -> None:
    """Reject two outputs of which one is the other, is inside of it, or is its hidden name."""
    owners = dict[Path | _Identity, Output]()
    for output in outputs:
        for path in output.places:
            for key in filter(None, (_without_case(path), _identity(path))):
                _require_different(owners.setdefault(key, output), output)
    for output in outputs:
        for folder in _without_case(output.path).parents:
            _require_different(owners.get(folder, output), output)


def _require_different(first: Output, second: Output) -> None:
    if first is not second:
        raise InputError(
            f"{first.kind} ({full_path(first.path)}) and {second.kind} ({full_path(second.path)}) "
            "cannot both be written; give them different names",
            code="same-output",
        )


def _without_case(path: Path) -> Path:
    return Path(str(full_path(path)).casefold())


def _check_place(output: Output) -> None:
    path = output.path
    if _URL.match(str(path)) and not os.path.exists(path.parts[0]):
        raise InputError(
            f"{output.kind} can be written to local folders alone, got {path}; write there and "
            "copy it afterwards",
            code="bad-setting",
        )
    above = next((p for p in full_path(path).parents if os.path.exists(p)), Path("/"))
    if not above.is_dir():
        raise InputError(
            f"cannot write {output.kind} to {full_path(path)}: {above} is a file, expected a "
            "folder; choose another path",
            code="not-a-folder",
        )


def read_head(path: Path, size: int = _HEAD_BYTES) -> bytes:
    """The first bytes of a file, in which markers are searched."""
    with path.open("rb") as file:
        return file.read(size)


def read_tail(path: Path, size: int = _HEAD_BYTES) -> bytes:
    """The last bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - size))
        return file.read(size)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """A file's JSON; a ``ValueError`` where it holds none."""
    return json.loads(path.read_text(encoding="utf-8"))


def zarr_attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a zarr v3 group that is alone in its folder; empty where it is not.

    A folder that holds anything else, such as a file of the user, is no store of this package.
    """
    if not all(_belongs(entry) for entry in folder.iterdir()):
        return {}
    return read_json(folder / "zarr.json").get("attributes") or {}


def _belongs(entry: Path) -> bool:
    """Whether an entry of a group's folder is metadata, or an array or group of such entries."""
    if entry.name in ("zarr.json", ".DS_Store") or entry.name.endswith(".partial"):
        return entry.is_file()
    metadata = entry / "zarr.json"
    if not metadata.is_file():
        return False
    if read_json(metadata).get("node_type") == "array":
        return all(each.name == "c" or _belongs(each) for each in entry.iterdir())
    return all(_belongs(each) for each in entry.iterdir())
