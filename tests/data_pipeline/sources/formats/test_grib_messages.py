"""Damaged messages of GRIB are named before a library reads them."""

from pathlib import Path

import pytest

from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.formats.grib_messages import check_messages
from tests.builders.errors import rejects


def message(edition: int, size: int = 9) -> bytes:
    """A message whose lengths agree, with one section."""
    if edition == 1:
        return b"GRIB" + (12 + size).to_bytes(3) + b"\1" + bytes(size) + b"7777"
    section = (4 + size).to_bytes(4) + bytes(size)
    total = 16 + len(section) + 4
    return b"GRIB\0\0\0\2" + total.to_bytes(8) + section + b"7777"


@pytest.mark.parametrize("edition", [1, 2])
def test_messages_with_bytes_between_them(edition: int, tmp_path: Path) -> None:
    (tmp_path / "data.grib").write_bytes(b"header" + message(edition) + bytes(7) + message(2))
    check_messages(str(tmp_path / "data.grib"))


def test_long_messages_of_edition_1_count_otherwise(tmp_path: Path) -> None:
    (tmp_path / "data.grib").write_bytes(b"GRIB\x80\0\1\1" + bytes(100) + b"7777" + message(2))
    check_messages(str(tmp_path / "data.grib"))


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_message_without_its_start_is_named(lost: int, tmp_path: Path) -> None:
    content = [message(2, size) for size in (9, 10, 11)]
    content[lost] = b"GRIX" + content[lost][4:]
    (tmp_path / "data.grib").write_bytes(b"".join(content))
    with rejects("unreadable-file", "data.grib", f"message {lost + 1}"):
        check_messages(str(tmp_path / "data.grib"))


def field(heading: int, value: int) -> bytes:
    """A message with a section that says which field it is, and one of values."""
    sections = b"".join(
        (9).to_bytes(4) + bytes([number]) + content.to_bytes(4)
        for number, content in ((1, 0), (4, heading), (7, value))
    )
    return b"GRIB\0\0\0\2" + (20 + len(sections)).to_bytes(8) + sections + b"7777"


def test_two_messages_of_one_field_must_not_differ(tmp_path: Path) -> None:
    path = tmp_path / "data.grib"
    path.write_bytes(field(1, 5) + field(2, 5) + field(1, 5))
    check_messages(str(path))
    path.write_bytes(field(1, 5) + field(2, 5) + field(1, 6))
    with rejects("files-differ", "data.grib", "1 and 3"):
        check_messages(str(path))


DAMAGES = {
    "cut": message(2)[:-1],
    "cut in its header": message(2)[:6],
    "section too long": message(2)[:16] + (2**31).to_bytes(4) + message(2)[20:],
    "section without end": message(2)[:16] + bytes(4) + message(2)[20:],
    "other edition": message(2)[:7] + b"\3" + message(2)[8:],
    "cut, of edition 1": message(1)[:-2],
    "no length": b"GRIB\0\0\0\1" + bytes(9) + b"7777",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_message_is_named(damage: str, tmp_path: Path) -> None:
    (tmp_path / "data.grib").write_bytes(message(1) + DAMAGES[damage])
    with rejects("unreadable-file", "data.grib", "message 2", f"byte {len(message(1))}"):
        open_source(SourceConfig(path=str(tmp_path / "data.grib")))
