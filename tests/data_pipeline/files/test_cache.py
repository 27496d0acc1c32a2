"""The folder of copies."""

from pathlib import Path

import pytest

from data_pipeline.files.cache import cache_folder


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    assert cache_folder("kind") == Path("/scratch/cache/fourcastnet-afno/kind")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder("kind").is_relative_to(Path.home() / ".cache")
