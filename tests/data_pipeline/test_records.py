"""Plain values of JSON as types, and what is rejected."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Required, TypedDict

import pytest
from annotated_types import Ge

from data_pipeline.errors import InputError
from data_pipeline.records import from_plain, naming_file, parse_json
from tests.builders.errors import rejects


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A record with each kind of entry."""

    sides: tuple[float, ...]
    corner: tuple[int, str] = (0, "")
    name: str | None = None
    count: Annotated[int, Ge(0)] = 0
    kind: Literal["plane", "sphere"] = "plane"
    notes: Mapping[str, bool] | None = None


class Drawing(TypedDict, total=False):
    """A record that may have further entries."""

    shapes: Required[list[Shape]]
    title: str


def test_records_become_what_they_were() -> None:
    record = {"sides": [1, 2.5], "corner": [3, "a"], "notes": {"b": True}, "kind": "sphere"}
    shape = Shape(sides=(1.0, 2.5), corner=(3, "a"), notes={"b": True}, kind="sphere")
    assert from_plain(Shape, record, "shape") == shape
    drawing = from_plain(Drawing, {"shapes": [record], "further": 1}, "drawing")
    assert drawing == {"shapes": [shape], "further": 1}


@pytest.mark.parametrize(
    ("entry", "value", "named"),
    [
        ("sides", "12", "shape.sides"),
        ("sides", [1, True], "shape.sides.1"),
        ("sides", [10**400], "shape.sides.0"),
        ("corner", [1], "shape.corner"),
        ("corner", [1.0, "a"], "shape.corner.0"),
        ("name", 3, "shape.name"),
        ("count", -1, "shape.count"),
        ("count", None, "shape.count"),
        ("kind", [], "shape.kind"),
        ("notes", [1], "shape.notes"),
        ("notes", {"b": 1}, "shape.notes.b"),
        ("color", "red", "'color'"),
    ],
)
def test_an_entry_of_another_type_is_named(entry: str, value: Any, named: str) -> None:  # noqa: ANN401
    with rejects("bad-record", named):
        from_plain(Shape, {"sides": [1.0], entry: value}, "shape")


def test_missing_entries_are_named() -> None:
    with rejects("bad-record", "shape", "sides"):
        from_plain(Shape, {}, "shape")
    with rejects("bad-record", "drawing", "shapes"):
        from_plain(Drawing, {"title": "a"}, "drawing")
    with rejects("bad-record", "drawing", "list"):
        from_plain(Drawing, [], "drawing")


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "[" * 100_000, "9" * 5000, b"\xff"])
def test_text_that_is_no_json_is_rejected(text: str | bytes) -> None:
    with rejects("bad-record", "header"):
        parse_json(text, "header")


def test_a_key_is_stated_once() -> None:
    assert parse_json('{"a": {"b": [1]}}', "header") == {"a": {"b": [1]}}
    with rejects("bad-record", "header", "'b'"):
        parse_json('{"a": {"b": 1, "b": 2}}', "header")


def test_errors_name_the_file_but_other_versions_have_their_own() -> None:
    with (
        rejects("damaged", "a.bin", "shape.sides", "copy it"),
        naming_file(Path("a.bin"), "copy it", "damaged"),
    ):
        from_plain(Shape, {"sides": 1}, "shape")
    with rejects("other-version", "newer"), naming_file("a.bin", "copy it", "damaged"):
        raise InputError("newer", code="other-version")
