"""The reference of settings is complete, and says what the dataclasses say."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Annotated, Literal, get_args, get_type_hints

import pytest
from annotated_types import Ge, Gt, Le, Lt, MinLen

from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from website.settings import (
    bounds_in_words,
    groups_of,
    page_of_settings,
    place_of,
    sections,
    type_in_words,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    """Inner things.

    Args:
        width: Of a thing.
    """

    width: Annotated[int, Ge(1), Le(9)] = 3


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Outer things.

    They have a second paragraph.

    Args:
        names: Names of
            things.
        rate: Share, or ``auto``.
        inner: A group.
        parts: Groups.
    """

    names: Annotated[list[str], MinLen(1)]
    rate: Annotated[float, Gt(0), Lt(1)] | Literal["auto"] = "auto"
    inner: Inner = field(default_factory=lambda: Inner(width=5))
    parts: list[Inner] = field(default_factory=list)


def test_a_setting_has_type_bounds_default_and_text() -> None:
    outer, inner, part = groups_of(Outer, "outer")
    assert outer.summary == "Outer things.\n\nThey have a second paragraph."
    names, rate, _, parts = outer.settings
    assert (names.kind, names.bounds) == ("list of text", ("must have at least 1 entries",))
    assert (names.default, names.text) == ("required", "Names of things.")
    assert (rate.kind, rate.default) == ("float or auto", "auto")
    assert rate.bounds == ("must be above 0 and below 1",)
    assert (parts.kind, parts.default) == ("list of groups of settings", "[]")
    # The default of the outer group is the inner one's, that of a list's entries their own.
    assert (inner.name, inner.settings[0].default) == ("outer.inner", "5")
    assert (part.name, part.settings[0].default) == ("outer.parts", "3")
    assert part.settings[0].bounds == ("must lie in 1..9",)


@pytest.mark.parametrize(
    ("hint", "words", "bounds"),
    [
        (bool, "true or false", []),
        (str | None, "text or null", []),
        (Literal[0, 1, "all"], "0 | 1 | all", []),
        (dict[str, Annotated[float, Ge(0)]],
         "mapping of names to float", ["each must be at least 0"]),
        (list[str | int], "list of (text or int)", []),
        (tuple[Annotated[int, Ge(1), Le(4)], Annotated[int, Ge(1), Le(4)]],
         "list of 2 int", ["each must lie in 1..4"]),
    ],
)  # fmt: skip
def test_types_and_bounds_are_in_words(hint: object, words: str, bounds: list[str]) -> None:
    assert type_in_words(hint) == words
    assert list(dict.fromkeys(bounds_in_words(hint))) == bounds


def names_of(kind: type, prefix: str) -> Iterator[tuple[str, object]]:
    """Dotted name and type of every setting, found without the reference's own code."""
    hints = get_type_hints(kind, include_extras=True)
    for each in fields(kind):
        yield f"{prefix}.{each.name}", hints[each.name]
        for inner in (hints[each.name], *get_args(hints[each.name])):
            for group in (inner, *get_args(inner)):
                if isinstance(group, type) and is_dataclass(group) and "Config" in str(group):
                    yield from names_of(group, f"{prefix}.{each.name}")


@pytest.mark.parametrize(
    "section", [each.name for each in fields(ExperimentConfig)] + ["execution"]
)
def test_every_setting_has_an_entry_with_type_default_and_bounds(section: str) -> None:
    kind = get_type_hints(ExperimentConfig).get(section, ExecutionConfig)
    page = page_of_settings(section)
    entries = dict(re.findall(r"^### (\S+) \{.*\n\n(.*)\n", page, re.MULTILINE))
    expected = dict(names_of(kind, section))
    assert len(expected) >= len(fields(kind))
    assert expected.keys() <= entries.keys()
    for name, hint in expected.items():
        facts = entries[name]
        assert facts.startswith(f"`{type_in_words(hint)}`"), name
        is_group = isinstance(hint, type) and is_dataclass(hint)
        assert is_group or "default `" in facts or "**required**" in facts, name
        if re.search(r"\b(int|float)\b", type_in_words(hint)):
            assert "must " in facts, f"{name} is a number without bounds"


def test_sections_are_those_of_an_experiment_and_the_execution() -> None:
    assert list(sections()) == [*(each.name for each in fields(ExperimentConfig)), "execution"]


def test_a_configuration_has_one_place() -> None:
    assert place_of(ExecutionConfig.__name__) == "execution.md"
    assert place_of(SourceConfig.__name__) == "data.md#data.source"
    assert place_of("Forecaster") is None
