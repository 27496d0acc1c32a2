"""What a folder holds, to compare before and after."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


def digests(folder: Path, without: Path) -> Mapping[str, str]:
    """A digest of everything below a folder but what is ``without``."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_relative_to(without):
            continue
        if path.is_symlink():
            content = os.readlink(path).encode()
        else:
            content = path.read_bytes() if path.is_file() else b""
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "file"
        found[str(path.relative_to(folder))] = f"{kind} {hashlib.sha256(content).hexdigest()}"
    return found
