"""Names that users give to variables and axes of their files: ``data.source.rename``."""

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import xarray as xr

from data_pipeline.errors import InputError

Renames = Mapping[str, str | Mapping[str, str]]


def renames_of(rename: Renames, file: str) -> dict[str, str]:
    """New names by those in ``file``; entries for files by a pattern win over those for all."""
    for_all = {old: new for old, new in rename.items() if isinstance(new, str)}
    for pattern, names in rename.items():
        if not isinstance(names, str) and _matches(file, pattern):
            for_all |= names
    return for_all


def check_renames(rename: Renames, datasets: Sequence[xr.Dataset]) -> None:
    """Reject names that no file has, and patterns that match no file.

    Args:
        rename: ``data.source.rename``.
        datasets: As opened, each with the name of its file in ``encoding["source"]``.

    Raises:
        InputError: With the nearest of the names that there are ("unknown-name").
    """
    by_file: dict[str, set[str]] = {}
    for dataset in datasets:
        names = {*map(str, dataset.variables), *map(str, dataset.dims)}
        by_file.setdefault(str(dataset.encoding.get("source", "")), set()).update(names)
    every = set().union(*by_file.values())
    _reject_unknown([old for old, new in rename.items() if isinstance(new, str)], every, "the data")
    for pattern, names in rename.items():
        if isinstance(names, str):
            continue
        matching = [known for file, known in by_file.items() if _matches(file, pattern)]
        if not matching:
            files = ", ".join(sorted(Path(file).name for file in by_file)[:4])
            message = f"data.source.rename has names for files {pattern!r}, which matches none of "
            raise InputError(f"{message}{files}; correct the pattern", code="unknown-name")
        _reject_unknown(list(names), set().union(*matching), f"files {pattern!r}")


def present_renames(rename: Renames, datasets: Sequence[xr.Dataset]) -> dict[str, Any]:
    """The part of a table of names that files have."""
    present: dict[str, Any] = {}
    for key, new in rename.items():
        part = {key: new} if isinstance(new, str) else {key: dict(new)}
        try:
            check_renames(part, datasets)
        except InputError:
            continue
        present |= part
    return present


def _matches(file: str, pattern: str) -> bool:
    return fnmatch(Path(file).name, pattern) or fnmatch(file, pattern)


def _reject_unknown(names: Sequence[str], known: set[str], where: str) -> None:
    unknown = [name for name in names if name not in known]
    if not unknown:
        return
    by_lower = {name.lower(): name for name in sorted(known)}
    near = [
        by_lower[match]
        for name in unknown
        for match in difflib.get_close_matches(name.lower(), by_lower, n=2)
    ]
    hint = f"did you mean {', '.join(dict.fromkeys(near))}?" if near else f"has {sorted(known)}"
    raise InputError(
        f"data.source.rename has {unknown}, which {where} lacks; {hint}", code="unknown-name"
    )
