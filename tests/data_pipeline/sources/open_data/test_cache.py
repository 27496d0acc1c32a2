"""Copies of messages, checked whenever they are used."""

from collections.abc import Collection
from pathlib import Path

import pytest

from data_pipeline.sources.open_data.cache import CachedFile

PIECES = {0: b"zero", 10: b"ten", 20: b"twenty"}


class Remote:
    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, starts: Collection[int]) -> dict[int, bytes]:
        self.asked += starts
        return {start: PIECES[start] for start in starts}


@pytest.fixture
def file(tmp_path: Path) -> CachedFile:
    return CachedFile("https://mirror/f000", tmp_path)


def test_each_message_is_fetched_once(file: CachedFile) -> None:
    remote = Remote()
    assert file.complete([10], remote) == 3
    assert file.complete([20, 0, 10], remote) == 10
    assert file.complete([0, 20], remote) == 0
    assert remote.asked == [10, 0, 20]
    assert file.path.read_bytes() == b"tenzerotwenty"
    assert file.path.name == "f000"


@pytest.mark.parametrize(
    ("record", "content", "asked"),
    [
        ("", b"tenzero", [0, 10]),
        ("[]", b"tenzero", [0, 10]),
        ('{"a": 1}', b"tenzero", [0, 10]),
        ("[[0, 3, 4]]", b"tenzero", [0, 10]),
        (None, b"tenzer", [0]),
        (None, b"tonzero", [10]),
    ],
)
def test_what_is_damaged_is_fetched_again(
    file: CachedFile, record: str | None, content: bytes, asked: list[int]
) -> None:
    file.complete([10], Remote())
    file.complete([0], Remote())
    file.path.write_bytes(content)
    if record is not None:
        (file.path.parent / "record.json").write_text(record)
    remote = Remote()
    file.complete([0, 10], remote)
    assert remote.asked == asked
    assert file.complete([0, 10], remote) == 0


def test_files_of_two_mirrors_are_two(file: CachedFile, tmp_path: Path) -> None:
    assert CachedFile("https://other/f000", tmp_path).path != file.path


def test_an_index_is_kept(file: CachedFile) -> None:
    assert file.index == ""
    file.keep_index("1:0:")
    assert file.index == "1:0:"
