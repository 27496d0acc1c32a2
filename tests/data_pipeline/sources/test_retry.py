"""Stores behind URLs: retries, limits of time, and errors that are final at once."""

import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr
from xarray.backends import ZarrStore

from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.retry import RetryPolicy, load, with_retries
from tests.builders.errors import rejects
from tests.builders.layouts import FaultyServer, publish, serving

Server = tuple[str, type[FaultyServer]]
QUICK = RetryPolicy(delay=0.01, stall=0.5)
VARIABLES = ["2m_temperature", "land_sea_mask"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def published(tmp_path: Path) -> xr.Dataset:
    return publish(tmp_path / "era5.zarr", "weatherbench2_64x32", VARIABLES)


def assert_same(dataset: xr.Dataset, published: xr.Dataset) -> None:
    for name in VARIABLES:
        expected = (
            published[name].transpose(*dataset[name].dims).sortby("latitude", ascending=False)
        )
        np.testing.assert_array_equal(dataset[name].values, expected.values)


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_policy_bounds_the_attempts(attempts: int) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise TimeoutError("slow")

    with rejects("transfer-failed", "the data", f"{attempts} attempts", "slow"):
        with_retries(fail, "the data", RetryPolicy(attempts=attempts, delay=0.0))
    assert len(calls) == attempts


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("damaged")])
def test_errors_that_stay_are_raised_at_once(error: Exception) -> None:
    calls = []

    def fail() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)):
        with_retries(fail, "the data", RetryPolicy(delay=100.0))
    assert len(calls) == 1


@pytest.mark.parametrize("fault", ["failures", "stalls"])
def test_a_server_that_recovers_is_asked_again(
    server: Server, published: xr.Dataset, fault: str
) -> None:
    url, handler = server
    setattr(handler, fault, 2)
    dataset = open_source(SourceConfig(path=f"{url}/era5.zarr"), policy=QUICK)
    assert getattr(handler, fault) == 0
    setattr(handler, fault, 2)
    assert_same(load(dataset, url, QUICK), published)
    assert getattr(handler, fault) == 0


def test_a_server_that_does_not_recover_is_named(server: Server, published: xr.Dataset) -> None:
    url, handler = server
    handler.failures = 1000
    with rejects("transfer-failed", f"{url}/era5.zarr", "5 attempts", "503"):
        open_source(SourceConfig(path=f"{url}/era5.zarr"), policy=QUICK)
    twice = RetryPolicy(attempts=2, delay=0.01)
    with rejects("transfer-failed", "2 attempts"):
        open_source(SourceConfig(path=f"{url}/era5.zarr"), policy=twice)


def test_an_option_that_the_file_system_lacks_is_rejected(
    server: Server, published: xr.Dataset
) -> None:
    url, _ = server
    config = SourceConfig(path=f"{url}/era5.zarr", storage_options={"retrys": "secret"})
    with rejects("bad-setting", "data.source.storage_options", "retrys", "http://") as info:
        open_source(config)
    assert "secret" not in str(info.value)


def test_a_missing_store_is_final(server: Server) -> None:
    url, handler = server
    with rejects("missing-file", f"{url}/nothing.zarr"):
        open_source(SourceConfig(path=f"{url}/nothing.zarr"))
    assert handler.requests < 20


def test_a_denied_permission_is_final(server: Server, published: xr.Dataset) -> None:
    url, handler = server
    handler.failures, handler.status = 1000, 403
    with rejects("no-permission", f"{url}/era5.zarr"):
        open_source(SourceConfig(path=f"{url}/era5.zarr"))
    assert handler.requests < 5
    handler.failures = 0
    dataset = open_source(SourceConfig(path=f"{url}/era5.zarr"))
    handler.failures = 1000
    with rejects("no-permission", "the data"):
        load(dataset, "the data")


def test_metadata_need_not_be_consolidated_where_the_server_lists(
    server: Server, published: xr.Dataset, tmp_path: Path
) -> None:
    url, handler = server
    (tmp_path / "era5.zarr" / ".zmetadata").unlink()
    assert_same(open_source(SourceConfig(path=f"{url}/era5.zarr")).compute(), published)
    handler.lists = False
    with rejects("unreadable-file", "era5.zarr", "zarr.consolidate_metadata"):
        open_source(SourceConfig(path=f"{url}/era5.zarr"))


def test_any_file_system_of_fsspec_is_read(published: xr.Dataset, tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "era5.zarr"), "/sources/era5.zarr", recursive=True)
    try:
        assert_same(
            open_source(SourceConfig(path="memory://sources/era5.zarr")).compute(), published
        )
    finally:
        memory.rm("/sources", recursive=True)


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("gs://weatherbench2/a.zarr", {}, {"token": "anon"}),
        ("gs://private/a.zarr", {"token": None}, {"token": None}),
        ("s3://bucket/a.zarr", {}, {"anon": True}),
        (
            "s3://bucket/a.zarr",
            {"anon": False, "endpoint_url": "https://minio.example"},
            {"anon": False, "endpoint_url": "https://minio.example"},
        ),
        ("https://example.org/a.zarr", {}, {}),
    ],
)
def test_buckets_are_read_without_login_and_with_limits_of_time(
    monkeypatch: pytest.MonkeyPatch, url: str, options: dict, expected: dict, tmp_path: Path
) -> None:
    publish(tmp_path / "a.zarr", "weatherbench2_64x32", VARIABLES)
    passed = {}

    def open_group(path: str, **given: object) -> ZarrStore:
        passed.update(given, path=path)
        return real(tmp_path / "a.zarr")

    real = ZarrStore.open_group
    monkeypatch.setattr(ZarrStore, "open_group", open_group)
    open_source(SourceConfig(path=url, storage_options=options))
    assert passed["path"] == url
    assert expected.items() <= passed["storage_options"].items()
    limits = passed["storage_options"].get("requests_timeout")
    if url.startswith("https"):
        limits = passed["storage_options"]["client_kwargs"]["timeout"]
    if not url.startswith("s3"):
        assert limits.sock_read == limits.sock_connect == 60
        assert limits.total is None


@pytest.mark.parametrize(
    ("url", "package"), [("gs://b/a.zarr", "gcsfs"), ("s3://b/a.zarr", "s3fs")]
)
def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, url: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with rejects("missing-package", package, "[cloud]"):
        open_source(SourceConfig(path=url))
