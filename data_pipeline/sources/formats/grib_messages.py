"""Messages of GRIB files, checked before a library reads them, which damaged lengths may end.

References:
    WMO Manual on Codes, FM 92 GRIB, editions 1 and 2: section 0 has the edition and the length of a
    message, "7777" ends it, and each section of edition 2 starts with its length and number.
"""

import mmap
from hashlib import blake2b
from typing import NamedTuple

from data_pipeline.errors import InputError

_START, _END = b"GRIB", b"7777"
_FIRST_SECTION = {1: 8, 2: 16}  # byte of a message, by edition
_DISCIPLINE = 6  # byte of edition 2, which tells air from soil and sea
_COUNTED_OTHERWISE = 1 << 23  # edition 1: longer than 8 MiB, in units of 120 bytes
_VALUES = (5, 6, 7)  # sections of edition 2 that do not tell which field it is
_HAS_GRID = 0x80  # flag of edition 1


class Message(NamedTuple):
    """A message of a file.

    Args:
        start: Its first byte.
        length: Bytes; 4 where the message does not tell (long ones of edition 1).
        num_fields: Fields that it holds.
    """

    start: int
    length: int
    num_fields: int = 1


def check_messages(file: str) -> list[Message]:
    """Reject messages of unknown editions, whose lengths do not agree, or that lack their start.

    Of two messages of one field, which must not differ, a library would drop one.

    Returns:
        The messages, those that repeat another one once.

    Raises:
        InputError: Naming file, message and byte ("unreadable-file"), or both ("files-differ").
    """
    with (
        open(file, "rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        fields: dict[bytes, tuple[int, int, int]] = {}
        messages = []
        start, number, end = content.find(_START), 1, 0
        while start >= 0:
            if content.find(_END, end, start) >= 0:
                raise _damaged(file, number, end)
            length, field, num_fields = _read(content, start)
            if not length:
                raise _damaged(file, number, start)
            other, *place = fields.setdefault(field, (number, start, start + length))
            if field and content[slice(*place)] != content[start : start + length]:
                raise InputError(
                    f"{file} contradicts itself: its messages {other} and {number}, at the bytes "
                    f"{place[0]} and {start}, are of one field, time and level and differ; remove "
                    "one of them, or copy the file again",
                    code="files-differ",
                )
            if other == number:
                messages.append(Message(start, length, num_fields))
            end = start + length if field else len(content)
            start, number = content.find(_START, start + length), number + 1
        if content.find(_END, end) >= 0:
            raise _damaged(file, number, end)
    return messages


def _damaged(file: str, number: int, byte: int) -> InputError:
    return InputError(
        f"cannot read {file}: its message {number}, at byte {byte}, is cut off or damaged, "
        "expected GRIB of edition 1 or 2; copy the file again",
        code="unreadable-file",
    )


def _read(content: mmap.mmap, start: int) -> tuple[int, bytes, int]:
    """Bytes of a message, 0 where its lengths do not agree, a digest of its fields, and how many.

    The length of a long message of edition 1 is not known, nor its field: they are 4 and empty.
    """
    edition = content[start + 7] if start + 7 < len(content) else 0
    if edition == 1:
        length = int.from_bytes(content[start + 4 : start + 7])
        if length & _COUNTED_OTHERWISE:
            return len(_START), b"", 1
        heading, num_fields = _heading_of_edition_1(content, start + _FIRST_SECTION[1]), 1
    elif edition == 2:
        length = int.from_bytes(content[start + 8 : start + 16])
        discipline = content[start + _DISCIPLINE : start + _DISCIPLINE + 1]
        first = start + _FIRST_SECTION[2]
        heading, num_fields = _heading_of_edition_2(content, discipline, first, start + length - 4)
    else:
        return 0, b"", 0
    if not heading or content[start + length - len(_END) : start + length] != _END:
        return 0, b"", 0
    return length, blake2b(heading, digest_size=16).digest(), num_fields


def _heading_of_edition_1(content: mmap.mmap, position: int) -> bytes:
    """The product definition and, where there is one, the grid."""
    product = content[position : position + int.from_bytes(content[position : position + 3])]
    grid = position + len(product)
    has_grid = len(product) > 7 and product[7] & _HAS_GRID
    size = int.from_bytes(content[grid : grid + 3]) if has_grid else 0
    return b"1" + product + content[grid : grid + size]


def _heading_of_edition_2(
    content: mmap.mmap, discipline: bytes, position: int, end: int
) -> tuple[bytes, int]:
    """The discipline and all sections but those of the values, and the number of fields.

    Empty where lengths do not agree.
    """
    heading, num_fields = b"2" + discipline, 0
    while position < end:
        section = int.from_bytes(content[position : position + 4])
        if section < 5:
            return b"", 0
        num_fields += content[position + 4] == _VALUES[-1]
        if content[position + 4] not in _VALUES:
            heading += content[position : min(position + section, end)]
        position += section
    return (heading, num_fields) if position == end else (b"", 0)
