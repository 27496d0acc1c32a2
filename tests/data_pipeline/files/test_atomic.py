"""Files and folders appear complete, or not at all."""

from pathlib import Path

import pytest

from data_pipeline.files.atomic import replacing
from tests.builders.errors import rejects


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "scores.json"
    with replacing(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(RuntimeError):
        _fail_half_way(path)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def _fail_half_way(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError


def test_folders_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "store"
    for name in ("first", "second"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [entry.name for entry in path.iterdir()] == ["second"]


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        rejects("not-a-folder", str(tmp_path / "file" / "new")),
        replacing(tmp_path / "file" / "new") as temporary,
    ):
        temporary.touch()
