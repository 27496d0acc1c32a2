"""Indices of GRIB files: which messages a file has, and at which bytes.

``.idx`` of NCEP, a line each: ``number:byte:d=start:name:level:forecast:``; the length is up to the
next message. ``.index`` of ECMWF, a JSON object each: MARS's keys, ``_offset`` and ``_length``.

References:
    wgrib2, https://www.cpc.ncep.noaa.gov/products/wesley/wgrib2/
    ECMWF open data, index files, https://confluence.ecmwf.int/display/DAC
"""

import itertools
import json
import re
from dataclasses import dataclass

from data_pipeline.errors import InputError


@dataclass(frozen=True, kw_only=True)
class IndexedMessage:
    """A message of a file behind a URL.

    Args:
        name: In the words of the index, such as ``HGT`` or ``gh``.
        level: Likewise: ``500 mb`` of NCEP, ``pl 500`` or ``sfc`` of ECMWF.
        steps: Hours of the forecast that it holds, first and last; the same for an instant.
        start: Its first byte.
        length: Bytes; None for the last one of NCEP.
    """

    name: str
    level: str
    steps: tuple[int, int]
    start: int
    length: int | None


def read_index(text: str, url: str) -> list[IndexedMessage]:
    """Read an index of either kind.

    Raises:
        InputError: If a line cannot be read ("unreadable-file").
    """
    is_json = text.lstrip().startswith("{")
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        messages = [_of_ecmwf(line) for line in lines] if is_json else _of_ncep(lines)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        messages = []
        reason = f" ({error})"
    else:
        reason = ""
    if not messages or any(
        m.start < 0 or (m.length is not None and m.length <= 0) for m in messages
    ):
        message = f"cannot read {url}{reason}, expected an index of GRIB messages such as "
        message += "'1:0:d=2026113000:PRMSL:mean sea level:anl:' or JSON with _offset and _length; "
        message += "it may still be written: try again later, or give another mirror"
        raise InputError(message, code="unreadable-file")
    return messages


def _of_ncep(lines: list[str]) -> list[IndexedMessage]:
    """Messages of NCEP, each up to the next that starts elsewhere: some hold several fields."""
    rows = [line.split(":") for line in lines]
    starts = [int(row[1]) for row in rows]
    following = sorted(set(starts))
    lengths = {s: n - s for s, n in itertools.pairwise(following)}
    return [
        IndexedMessage(
            name=row[3],
            level=row[4],
            steps=_steps(row[5]),
            start=start,
            length=lengths.get(start),
        )
        for row, start in zip(rows, starts, strict=True)
    ]


def _steps(forecast: str) -> tuple[int, int]:
    """Hours of ``anl``, ``6 hour fcst``, ``0-6 hour acc fcst`` or ``0-1 day acc fcst``."""
    found = re.match(r"(?:(\d+)-)?(\d+) (hour|day)", forecast)
    if forecast == "anl":
        return 0, 0
    if found is None:
        return -1, -1  # of another kind, such as monthly means
    hours = 24 if found[3] == "day" else 1
    return hours * int(found[1] or found[2]), hours * int(found[2])


def _of_ecmwf(line: str) -> IndexedMessage:
    record = json.loads(line)
    first, _, last = str(record["step"]).rpartition("-")
    level = str(record.get("levelist", ""))
    kind = record["levtype"]
    return IndexedMessage(
        name=record["param"],
        level=f"{kind} {level}".strip(),
        steps=(int(first or last), int(last)),
        start=int(record["_offset"]),
        length=int(record["_length"]),
    )
