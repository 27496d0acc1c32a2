"""References as JSON and as Parquet, by hand; the packages' own ones are read in other tests."""

import base64
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from data_pipeline.sources.formats.first_bytes import format_of
from data_pipeline.sources.virtual.references import (
    Reference,
    is_reference_folder,
    is_reference_url,
    read_references,
    referenced_places,
)
from tests.builders.errors import rejects

ARRAY = {"shape": [3, 4], "chunks": [1, 2], "dtype": "<f4", "zarr_format": 2}


def read(place: str) -> bytes:
    return Path(place).read_bytes()


def written(folder: Path, content: object) -> str:
    path = folder / "refs.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


REFS = {
    ".zgroup": '{"zarr_format": 2}',
    "a/.zarray": ARRAY,
    "a/0.0": "base64:" + base64.b64encode(b"\x00\xff").decode(),
    "a/0.1": ["{{u}}/x.nc", 10, 20],
    "a/1.0": ["y.nc"],
}


@pytest.mark.parametrize("version", [0, 1])
def test_entries_of_json(tmp_path: Path, version: int) -> None:
    refs = {"version": 1, "templates": {"u": "s3://bucket"}, "refs": REFS}
    if version == 0:
        refs = {**REFS, "a/0.1": ["s3://bucket/x.nc", 10, 20]}
    name = written(tmp_path, refs)
    references = read_references(name, read)
    assert references.entry("a/0.0") == b"\x00\xff"
    assert references.entry("a/0.1") == Reference("s3://bucket/x.nc", 10, 20)
    assert references.entry("a/1.0") == Reference("y.nc", 0, None)
    assert json.loads(references.entry("a/.zarray") or b"") == ARRAY
    assert references.entry("a/2.0") is None
    assert set(references.keys()) == REFS.keys()
    assert referenced_places(name) == {"s3://bucket/x.nc", "y.nc"}
    assert format_of(name) == "references"


@pytest.mark.parametrize(
    "template", ["{{ ().__class__.__base__ }}", "{{ u(c=1) }}", "{{f}}", "{{unknown}}"]
)
def test_programs_in_templates_are_not_run(tmp_path: Path, template: str) -> None:
    templates = {"u": "{{c}}.nc", "f": "{% for i in range(9) %}x{% endfor %}"}
    refs = {"version": 1, "templates": templates, "refs": {"a/0": [template, 0, 1]}}
    with rejects("other-layout", "refs.json", "a/0", "programs"):
        read_references(written(tmp_path, refs), read)


def test_generated_references_are_not_run(tmp_path: Path) -> None:
    generated = [{"key": "a/{{i}}", "url": "x", "dimensions": {"i": {"stop": 10**12}}}]
    with rejects("other-layout", "refs.json", "gen"):
        read_references(written(tmp_path, {"version": 1, "gen": generated, "refs": {}}), read)


@pytest.mark.parametrize(
    "content",
    [
        '{"version": 1, "refs": {"a/0": ["x", 0',
        '{"version": 1, "refs": 3}',
        '{"version": 1, "refs": {}, "templates": [1]}',
        '{"version": 1, "refs": {"a/0": 3}}',
        '{"version": 1, "refs": {"a/0": ["x", 1]}}',
        '{"version": 1, "refs": {"a/0": ["x", -1, 5]}}',
        '{"version": 1, "refs": {"a/0": ["x", 0, 1e300]}}',
        '{"version": 1, "refs": {"a/0": [3, 0, 1]}}',
        '{"version": 1, "refs": {"a/0": "base64:!"}}',
        '{"version": ' + "[" * 10**5,
        "[]",
    ],
)
def test_damaged_json(tmp_path: Path, content: str) -> None:
    with rejects("unreadable-file", "refs.json"):
        read_references(written(tmp_path, content), read)


def tables(folder: Path, record_size: int = 4, **columns: list[object]) -> str:
    """References to the six chunks of an array, four in a file."""
    fastparquet = pytest.importorskip("fastparquet", reason="needs fastparquet")
    metadata = {".zgroup": {"zarr_format": 2}, "a/.zarray": ARRAY, "b/.zarray": {**ARRAY}}
    metadata["b/.zarray"] = {**ARRAY, "shape": [], "chunks": []}
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    note = {"metadata": metadata, "record_size": record_size}
    (folder / ".zmetadata").write_text(json.dumps(note))
    whole = {
        "path": ["x.nc", "x.nc", None, None, "y.nc", None],
        "offset": [5, 25, 0, 0, 0, 0],
        "size": [20, 20, 0, 0, 0, 0],
        "raw": [None, None, b"\x01\x02", None, None, None],
    } | columns
    for number in range(2):
        part = {k: v[4 * number : 4 * number + 4] for k, v in whole.items()}
        fastparquet.write(str(folder / f"a/refs.{number}.parq"), pd.DataFrame(part))
    scalar = pd.DataFrame({"path": [None], "offset": [0], "size": [0], "raw": [b"\x07"]})
    fastparquet.write(str(folder / "b/refs.0.parq"), scalar)
    return str(folder)


def test_entries_of_parquet(tmp_path: Path) -> None:
    name = tables(tmp_path / "refs.parq")
    references = read_references(name, read)
    found = [references.entry(f"a/{i}.{j}") for i, j in np.ndindex(3, 2)]
    first, second = Reference("x.nc", 5, 20), Reference("x.nc", 25, 20)
    assert found == [first, second, b"\x01\x02", None, Reference("y.nc", 0, None), None]
    assert references.entry("b/0") == b"\x07"
    for absent in ("a/3.0", "a/0.2", "a/0", "a/x.y", "c/0", "../a/0.0"):
        assert references.entry(absent) is None
    assert set(references.keys()) == {".zgroup", "a/.zarray", "b/.zarray"}
    assert is_reference_folder(name)


def test_damaged_parquet(tmp_path: Path) -> None:
    name = tables(tmp_path / "refs.parq")
    file = tmp_path / "refs.parq/a/refs.1.parq"
    file.write_bytes(file.read_bytes()[:40])
    references = read_references(name, read)
    with rejects("unreadable-file", "a/refs.1.parq"):
        references.entry("a/2.0")
    note = tmp_path / "refs.parq/.zmetadata"
    for change in (("4}", "0}"), ("[3, 4]", '["x"]'), ('"metadata"', '"other"')):
        note.write_text(note.read_text().replace(*change))
        with rejects("unreadable-file", "refs.parq"):
            read_references(name, read)


def test_folders_of_zarr_hold_no_references(tmp_path: Path) -> None:
    (tmp_path / ".zmetadata").write_text('{"metadata": {}, "zarr_consolidated_format": 1}')
    assert not is_reference_folder(str(tmp_path))


def test_urls_of_references_are_known_by_their_names() -> None:
    for url in ("https://host/a.json?sig=x", "s3://b/a.parq/", "s3://b/a.parquet"):
        assert is_reference_url(url)
    for url in ("https://host/a.zarr", "https://host/a.zarr/zarr.json"):
        assert not is_reference_url(url)
