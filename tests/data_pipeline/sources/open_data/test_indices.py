"""Indices of NCEP and of ECMWF."""

import json

import pytest

from data_pipeline.sources.open_data.indices import read_index
from tests.builders.errors import rejects

NCEP = """\
1:0:d=2026113000:PRMSL:mean sea level:anl:
2.1:100:d=2026113000:UGRD:500 mb:6 hour fcst:
2.2:100:d=2026113000:VGRD:500 mb:6 hour fcst:
3:250:d=2026113000:APCP:surface:0-6 hour acc fcst:
4:300:d=2026113000:APCP:surface:0-1 day acc fcst:
5:310:d=2026113000:TMP:surface:monthly ave:
"""


def test_a_message_of_ncep_ends_where_another_starts() -> None:
    messages = read_index(NCEP, "gfs.idx")
    assert [m.length for m in messages] == [100, 150, 150, 50, 10, None]
    assert [m.steps for m in messages] == [(0, 0), (6, 6), (6, 6), (0, 6), (0, 24), (-1, -1)]
    assert (messages[1].name, messages[1].level) == ("UGRD", "500 mb")


def test_a_message_of_ecmwf_has_keys_of_mars() -> None:
    place = {"_offset": 7, "_length": 9}
    upper = {"levtype": "pl", "levelist": "500", "param": "gh", "step": "0-24", **place}
    single = {"levtype": "sfc", "param": "2t", "step": "6", **place}
    messages = read_index("\n".join(map(json.dumps, (upper, single))), "ifs.index")
    assert [(m.name, m.level) for m in messages] == [("gh", "pl 500"), ("2t", "sfc")]
    assert [m.steps for m in messages] == [(0, 24), (6, 6)]
    assert (messages[0].start, messages[0].length) == (7, 9)


@pytest.mark.parametrize(
    "text",
    [
        *("", "<html>", "1:0:d=2026113000", "1:x:d=2026113000:A:b:anl:", '{"param": "gh"}'),
        *('{"param": ', "{}", '{"levtype": "sfc", "param": "a", "step": 0, "_offset": -1}'),
        '{"levtype": "sfc", "param": "a", "step": 0, "_offset": 0, "_length": 0}',
        "[1]",
    ],
)
def test_what_is_no_index_is_named(text: str) -> None:
    with rejects("unreadable-file", "https://mirror/x.idx"):
        read_index(text, "https://mirror/x.idx")
