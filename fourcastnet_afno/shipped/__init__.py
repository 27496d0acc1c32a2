"""Checkpoints that are installed with this package: published folders, each with its model card."""

from pathlib import Path

SHIPPED = ("quickstart",)
"""Their names, which stand for them wherever a checkpoint is asked for."""

_FOLDER = Path(__file__).parent


def names_shipped(location: str | Path) -> bool:
    """Whether a location is the name of one of them, and no file or folder of the user."""
    return str(location) in SHIPPED and not Path(location).exists()


def shipped_folder(name: str | Path) -> Path:
    """The published folder of this name."""
    return _FOLDER / name


def is_shipped(path: Path) -> bool:
    """Whether a file is in one of them."""
    return _FOLDER in path.parents
