"""Metadata of a store that no version has written is rejected, whatever its checksums say."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.experimental.cache_store import CacheStore

from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.integrity import seal
from data_pipeline.store.opening import StoreFiles
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore, is_prepared
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("original")
    make_dataset().to_netcdf(folder / "data.nc")
    return Path(prepare(make_data_config(folder / "data.nc"), folder / "data.zarr").path)


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    """A store that a test may change."""
    return shutil.copytree(original, tmp_path / "data.zarr")


def changed(store: Path, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the metadata of an array, or of the store for ".", and write new checksums."""
    file = store / name / "zarr.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    seal(store)


def denied() -> Exception:
    """The error of a server that does not know the credentials."""
    error = ConnectionError("401, Unauthorized")
    error.status = 401  # pyright: ignore[reportAttributeAccessIssue]
    return error


def failing(error: Exception) -> Callable[..., Any]:
    async def get(*words: object, **options: object) -> None:
        raise error

    return get


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("channels", value) for value in (None, [], [{"name": 3}], "abc", {"name": "t"})],
        ("static_channels", [{"name": "z", "level": "500"}]),
        ("roles", {"prognostic": ["other"], "diagnostic": []}),
        ("roles", 3),
        *[("dtype", value) for value in (None, "float64", 4)],
        ("fingerprint", 5),
        ("settings", []),
        ("timestep", -6),
        ("filled_channels", ["other"]),
    ],
)
def test_an_attribute_of_another_kind_is_named(name: str, value: object, copy: Path) -> None:
    changed(copy, ".", lambda document: document["attributes"].update({name: value}))
    with rejects("damaged-store", str(copy), name):
        PreparedStore(copy)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("fields", "shape", [2**40, 2, 6, 12]),
        ("fields", "shape", [3, 2]),
        ("mean", "shape", [2**40]),
        ("time", "shape", [[50]]),
        ("longitude", "data_type", "int64\0"),
        ("hour", "fill_value", None),
        ("offset", "node_type", -1),
        ("scale", "codecs", [None]),
        ("static", "dimension_names", [[1]]),
    ],
)
def test_metadata_of_another_kind_names_the_array(
    name: str, key: str, value: object, copy: Path
) -> None:
    changed(copy, name, lambda document: document.update({key: value}))
    with rejects("damaged-store", str(copy), name):
        PreparedStore(copy)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 10**5, b"\xa0", b'{"shape": [' + b"9" * 5000]
)
def test_metadata_that_is_no_json(content: bytes, copy: Path) -> None:
    (copy / "mean/zarr.json").write_bytes(content)
    with rejects("damaged-store", str(copy), "mean"):
        PreparedStore(copy)
    (copy / "zarr.json").write_bytes(content)
    assert not is_prepared(copy)
    with rejects("damaged-store", str(copy), "zarr.json"):
        PreparedStore(copy)


@pytest.mark.parametrize(
    ("name", "value"), [("mean", np.nan), ("std", -1.0), ("longitude", np.inf), ("time", 0)]
)
def test_small_arrays_have_possible_values(name: str, value: float, copy: Path) -> None:
    array = zarr.open_group(copy, mode="r+")[name]
    assert isinstance(array, zarr.Array)
    array[1] = value
    seal(copy)
    with rejects("damaged-store", str(copy), name):
        _ = PreparedStore(copy).statistics


def test_a_lost_shard_behind_a_url_is_no_field_of_zeros(copy: Path) -> None:
    remote = PreparedStore(f"file://{copy}")
    shutil.rmtree(copy / "fields/c/0")
    with rejects("damaged-store", "fields/c/0"):
        remote.states.read(np.zeros(1, int))


def test_lost_statistics_behind_a_url_are_no_zeros(copy: Path) -> None:
    (copy / "mean/c/0").unlink()
    with rejects("damaged-store", "mean/c/0"):
        _ = PreparedStore(f"file://{copy}").statistics


def test_a_shard_that_was_cut_off(source: Path, tmp_path: Path) -> None:
    for compression in ("none", "zstd"):
        config = make_data_config(source, storage=StorageConfig(compression=compression))
        store = prepare(config, tmp_path / compression)
        shard = tmp_path / compression / "fields/c/0/0/0/0"
        for size in (0, 3, 1000):
            shard.write_bytes(shard.read_bytes()[:size])
            with rejects("damaged-store", str(tmp_path / compression)):
                PreparedStore(Path(store.path)).states.read(np.zeros(1, int))


def test_files_are_read_once_for_their_checksums(copy: Path) -> None:
    files = StoreFiles(copy)
    (copy / "mean/c/0").unlink()
    assert (files.read("mean") == 0).all()  # opening has found that all was there


@pytest.mark.parametrize(
    ("url", "code"), [("foo://b/x", "missing-file"), ("lakefs://b/x", "missing-package")]
)
def test_a_url_that_nothing_here_can_read(url: str, code: str) -> None:
    with rejects(code, url):
        PreparedStore(url)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConnectionRefusedError("nobody listens"), "transfer-failed"), (denied(), "no-permission")],
)
def test_a_network_that_fails_names_the_url(
    error: Exception, code: str, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    opened, url = StoreFiles(f"file://{copy}"), f"file://{copy}"
    monkeypatch.setattr(CacheStore, "get", failing(error))
    for act in (lambda: StoreFiles(url), lambda: opened.read("mean")):
        with rejects(code, url, str(error)):
            act()
