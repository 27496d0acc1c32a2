"""The folder of copies of what others publish, which may be deleted at any time."""

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """``fourcastnet-afno/KIND`` in ``XDG_CACHE_HOME``, by default in ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fourcastnet-afno" / kind
