"""The one reader of YAML: values as in YAML 1.2, and texts that nobody can have meant."""

import time
from pathlib import Path

import pytest

from data_pipeline.yaml_text import read_settings, read_settings_file, read_yaml
from tests.builders.errors import rejects

REPEATED = ",".join(["*a{0}"] * 10)
LAUGHS = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{REPEATED.format(n - 1)}]\n" for n in range(1, 12)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{REPEATED.format(n - 1)}]}}\n" for n in range(1, 12)
)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("1_000.5", 1000.5),
        ("-.inf", -float("inf")),
        ("12", 12),
        ("2001-01-31", "2001-01-31"),
        ("e5", "e5"),
        ("'1'", "1"),
        ("null", None),
        ("", None),
        ("{a: [1, true]}", {"a": [1, True]}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    read = read_yaml(text, "e.yaml")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a: 1\nb: 2\na: 3", ("'a'", "line 1", "line 3")),
        ("a:\n  b: 1\n  c: 2\n  'b': 3", ("'b'", "line 2", "line 4")),
        ("a: [{b: 1}, {b: 1, b: 2}]", ("'b'", "line 1")),
        ("a:\n- *b", ("line 2", "alias")),
        ("a: 1\nb: &b [*b]", ("line 2",)),
        ("a: [1\nb: 2", ("line 2",)),
        ("a: 1\n---\nb: 2", ("line 2",)),
        ("a:\n  !!python/name:os.system x", ("line 2", "python/name:os.system")),
        ("? [1, 2]\n: 3", ("line 1",)),
        ("a: \0", ()),
        ("a: {b: 1, '': 2}", ("line 1", "empty key")),
        ("a: " + "1" * 5000, ("digits",)),
    ],
)
def test_mistakes_are_named_with_their_lines(text: str, named: tuple[str, ...]) -> None:
    with rejects("bad-yaml", "e.yaml", *named):
        read_yaml(text, "e.yaml")


@pytest.mark.parametrize(
    "text",
    [LAUGHS, MERGED, CHAIN, "[" * 10**5, "- " * 10**5, "[" + "1," * 300_000, "x" * 5_000_000],
    ids=["laughs", "merged", "chain", "brackets", "dashes", "values", "length"],
)
def test_texts_that_would_fill_the_memory_are_rejected_at_once(text: str) -> None:
    started = time.process_time()
    with rejects("bad-yaml", "e.yaml"):
        read_yaml(text, "e.yaml")
    assert time.process_time() - started < 10


def test_tags_of_plain_values_and_merged_keys_mean_what_yaml_says() -> None:
    assert read_yaml("a: !!bool true\nb: !!int 8", "e.yaml") == {"a": True, "b": 8}
    merged = read_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", "e.yaml")
    assert merged["b"] == {"x": 1, "y": 3}


def test_settings_are_a_mapping(tmp_path: Path) -> None:
    assert read_settings("# nothing", "e.yaml") == {}
    with rejects("bad-yaml", "e.yaml", "hostname"):
        read_settings("/etc/hostname", "e.yaml")
    with rejects("bad-yaml", "e.yaml", "1"):
        read_settings("1: 2", "e.yaml")
    path = tmp_path / "e.yaml"
    path.write_text("a: ü", encoding="utf-8")
    assert read_settings_file(path) == {"a": "ü"}
    for content in (b"a: \xff", b"a: 1\na: 2", b"#" * 5_000_000):
        path.write_bytes(content)
        with rejects("bad-yaml", str(path)):
            read_settings_file(path)
    with rejects("bad-yaml", str(tmp_path)):
        read_settings_file(tmp_path)
