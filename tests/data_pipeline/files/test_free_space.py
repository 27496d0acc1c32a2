"""Room on a disk is that of the nearest folder that exists."""

import shutil
from pathlib import Path

import pytest

from data_pipeline.files.free_space import find_free_space, require_free_space
from tests.builders.errors import rejects


def test_folders_that_do_not_exist_yet_count_as_their_parent(tmp_path: Path) -> None:
    folder, free = find_free_space(tmp_path / "run" / "data.zarr")
    assert folder == tmp_path
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)


def test_a_small_disk_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**30))
    require_free_space(tmp_path / "a", 2**30, "the store", "take fewer years")
    with rejects("disk-full", "the store", "2.00 GiB", "1.00 GiB", str(tmp_path), "fewer years"):
        require_free_space(tmp_path / "a", 2**31, "the store", "take fewer years")
