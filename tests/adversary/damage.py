"""Damage of files and folders, whatever they hold."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path


def _cut(path: Path, random: random.Random) -> None:
    os.truncate(path, random.randrange(path.stat().st_size or 1))


def _flip(path: Path, random: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(min(len(content), random.choice([1, 8, 64]))):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _fill(path: Path, random: random.Random) -> None:
    byte = random.choice([b"\0", b"\xff", b"{"])
    path.write_bytes(byte * path.stat().st_size)


def _extend(path: Path, random: random.Random) -> None:
    path.write_bytes(path.read_bytes() + random.randbytes(random.choice([1, 100, 10_000])))


def _to_folder(path: Path, random: random.Random) -> None:
    path.unlink()
    (path / "child").mkdir(parents=True)


def _to_loop(path: Path, random: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _to_nothing(path: Path, random: random.Random) -> None:
    path.unlink()
    path.symlink_to("not-here")


def _to_text(path: Path, random: random.Random) -> None:
    path.write_text("a file of someone else\n")


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": _cut,
    "flipped": _flip,
    "filled": _fill,
    "extended": _extend,
    "emptied": lambda path, random: path.write_bytes(b"") and None,
    "removed": lambda path, random: path.unlink(),
    "made a folder": _to_folder,
    "made a link to itself": _to_loop,
    "made a link to nothing": _to_nothing,
    "made a text": _to_text,
}


def damage_file(path: Path, random: random.Random) -> str:
    """Damage a file, and return what was done."""
    name = random.choice(sorted(DAMAGES))
    DAMAGES[name](path, random)
    return f"{name}: {path.name}"


def damage_folder(path: Path, random: random.Random) -> str:
    """Remove a folder, or put something else in its place."""
    kind = random.choice(["removed", "emptied", "a file", "a link to itself"])
    shutil.rmtree(path)
    if kind == "emptied":
        path.mkdir()
    elif kind == "a file":
        path.write_text("in the way")
    elif kind == "a link to itself":
        path.symlink_to(path.name)
    return f"{kind}: {path.name}"
