"""Messages of GRIB files, checked before a library reads them, which damaged lengths may end.

References:
    WMO Manual on Codes, FM 92 GRIB, editions 1 and 2: section 0 has the edition and the length of a
    message, "7777" ends it, and each section of edition 2 starts with its length.
"""

import mmap

from data_pipeline.errors import InputError

_END = b"7777"
_FIRST_SECTION = 16  # byte of edition 2
_COUNTED_OTHERWISE = 1 << 23  # edition 1: longer than 8 MiB, in units of 120 bytes


def check_messages(file: str) -> None:
    """Reject messages of unknown editions, and those whose lengths do not agree.

    Raises:
        InputError: Naming file, message and byte ("unreadable-file").
    """
    with (
        open(file, "rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        start, number = content.find(b"GRIB"), 1
        while start >= 0:
            length = _length_of(content, start)
            if not length:
                raise InputError(
                    f"cannot read {file}: its message {number}, at byte {start}, is cut off or "
                    "damaged, expected GRIB of edition 1 or 2; copy the file again",
                    code="unreadable-file",
                )
            start, number = content.find(b"GRIB", start + length), number + 1


def _length_of(content: mmap.mmap, start: int) -> int:
    """Bytes of a message, or 0 where its lengths do not agree."""
    edition = content[start + 7 : start + 8]
    if edition == b"\x01":
        length = int.from_bytes(content[start + 4 : start + 7])
        if length & _COUNTED_OTHERWISE:
            return len(b"GRIB")
        return length if content[start + length - 4 : start + length] == _END else 0
    length = int.from_bytes(content[start + 8 : start + 16])
    end, position = start + length - len(_END), start + _FIRST_SECTION
    if edition != b"\x02" or content[end : end + 4] != _END:
        return 0
    while position < end:
        section = int.from_bytes(content[position : position + 4])
        if section < 5:
            return 0
        position += section
    return length if position == end else 0
