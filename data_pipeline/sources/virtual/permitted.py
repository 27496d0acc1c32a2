"""Places that references may lead to: who wrote them shall not choose what is read.

A file of references, like the virtual chunks of a repository, names files and servers in the words
of somebody else. Only these are read:

- files in the folder of the references and below, of which no folder or file is hidden; for
  references behind a URL, what is below the URL of their folder;
- files below the folders, and URLs below the URLs, that ``data.source.referenced`` lists.

Links and ``..`` are followed before places are compared, nothing but regular files is read, and
answers of servers that lead to another address are no data.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from data_pipeline.errors import InputError

_LOCAL = re.compile(r"^(file|local)://")


def without_scheme(place: str) -> str:
    """The path of a local file's URL; anything else as it is."""
    return _LOCAL.sub("", place)


@dataclass(frozen=True)
class Permitted:
    """Places that the references of one file or repository may lead to.

    Args:
        name: File or repository, for messages.
        folder: Folder or URL whose files it may name, besides; empty for none.
        named: Further folders and URLs, of ``data.source.referenced``.
    """

    name: str
    folder: str
    named: tuple[str, ...] = ()

    def place(self, reference: str) -> str:
        """Path of the regular file, or the URL, that a reference leads to.

        Relative paths are counted from the folder of the references.

        Raises:
            InputError: If it may not be read ("outside-of-source"), or is no file
                ("missing-file").
        """
        reference = without_scheme(reference)
        if "://" not in self.folder and "://" not in reference:
            return self._file(os.path.join(self.folder, reference))
        if "://" not in reference:
            is_absolute = os.path.isabs(reference)
            reference = reference if is_absolute else f"{self.folder.rstrip('/')}/{reference}"
        if "://" not in reference:
            return self._file(reference)
        roots = [root for root in (self.folder, *self.named) if "://" in without_scheme(root)]
        if _is_plain(reference) and any(_is_below(reference, root) for root in roots):
            return reference
        raise self._outside(reference, reference.rpartition("/")[0])

    def _file(self, path: str) -> str:
        real = Path(os.path.realpath(path))
        own = "" if "://" in self.folder else self.folder
        if not (
            (own and _has_no_hidden_part(real, own))
            or any(
                real.is_relative_to(os.path.realpath(without_scheme(root)))
                for root in self.named
                if "://" not in without_scheme(root)
            )
        ):
            raise self._outside(str(real), str(real.parent))
        if not real.is_file():
            found = "it is no regular file" if real.exists() else "there is no such file"
            message = f"{self.name} refers to {real}, but {found}; copy the file there, or make "
            raise InputError(message + "the references again", code="missing-file")
        return str(real)

    def _outside(self, place: str, root: str) -> InputError:
        roots = ", ".join(filter(None, (self.folder, *self.named)))
        expected = f"files below {roots}, not hidden" if roots else "no file but its own"
        return InputError(
            f"{self.name} refers to the file {place}, expected {expected}; if it may be read, set "
            f"data.source.referenced: [{root}]",
            code="outside-of-source",
        )


def _has_no_hidden_part(file: Path, folder: str) -> bool:
    root = os.path.realpath(folder)
    if not file.is_relative_to(root):
        return False
    return not any(part.startswith(".") for part in file.relative_to(root).parts)


def _is_plain(url: str) -> bool:
    """Whether a URL is one address without steps upward, however they are written."""
    steps = re.split(r"[/\\?#]", unquote(unquote(url.partition("://")[2])))
    return "::" not in url and url.count("://") == 1 and ".." not in steps


def _is_below(url: str, root: str) -> bool:
    return url.startswith(root.partition("?")[0].rstrip("/") + "/")
