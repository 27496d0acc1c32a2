"""Stores behind URLs: retries, limits of time, and what is final at once."""

import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.sources import files as opening
from data_pipeline.sources import retry
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from tests.builders.layouts import FaultyServer, publish, serving

Server = tuple[str, type[FaultyServer]]
VARIABLES = ["2m_temperature", "land_sea_mask"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(retry, "_delay", lambda attempt: 0.01)
    with serving(tmp_path) as served:
        yield served


@pytest.fixture
def published(tmp_path: Path) -> xr.Dataset:
    return publish(tmp_path / "era5.zarr", "weatherbench2_64x32", VARIABLES)


def assert_same(found: xr.Dataset, published: xr.Dataset) -> None:
    for name in VARIABLES:
        expected = published[name].transpose(*found[name].dims).sortby("latitude", ascending=False)
        np.testing.assert_array_equal(found[name].values, expected.values)


@pytest.mark.parametrize("fault", ["failures", "stalls"])
def test_a_server_that_recovers_is_asked_again(
    server: Server, published: xr.Dataset, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, handler = server
    if fault == "stalls":
        monkeypatch.setattr(opening, "_STALL_SECONDS", 0.5)
    setattr(handler, fault, 2)
    dataset = open_source(SourceConfig(path=f"{url}/era5.zarr"))
    assert getattr(handler, fault) == 0
    setattr(handler, fault, 2)
    assert_same(retry.load(dataset, url), published)
    assert getattr(handler, fault) == 0


def test_a_server_that_does_not_recover_is_named(server: Server, published: xr.Dataset) -> None:
    url, handler = server
    handler.failures = 1000
    with pytest.raises(InputError, match=r"cannot read http://.* after 5 attempts: 503"):
        open_source(SourceConfig(path=f"{url}/era5.zarr"))


def test_an_option_that_the_file_system_lacks_is_refused(
    server: Server, published: xr.Dataset
) -> None:
    url, _ = server
    config = SourceConfig(path=f"{url}/era5.zarr", storage_options={"retrys": "secret"})
    with pytest.raises(
        InputError, match=r"storage_options has \['retrys'\], which do not"
    ) as found:
        open_source(config)
    assert "http:// (" in str(found.value)
    assert "secret" not in str(found.value)


def test_what_is_not_there_is_not_asked_for_again(server: Server) -> None:
    url, handler = server
    with pytest.raises(InputError, match=r"no zarr store at http://.*/nothing.zarr.*download"):
        open_source(SourceConfig(path=f"{url}/nothing.zarr"))
    assert handler.requests < 20


def test_a_refused_permission_is_final(server: Server, published: xr.Dataset) -> None:
    url, handler = server
    handler.failures, handler.status = 1000, 403
    with pytest.raises(InputError, match=r"no permission to read http://.*/era5.zarr"):
        open_source(SourceConfig(path=f"{url}/era5.zarr"))
    assert handler.requests < 5
    handler.failures = 0
    dataset = open_source(SourceConfig(path=f"{url}/era5.zarr"))
    handler.failures = 1000
    with pytest.raises(InputError, match=r"no permission to read the data"):
        retry.load(dataset, "the data")


def test_metadata_need_not_be_consolidated_where_the_server_lists(
    server: Server, published: xr.Dataset, tmp_path: Path
) -> None:
    url, handler = server
    (tmp_path / "era5.zarr" / ".zmetadata").unlink()
    assert_same(open_source(SourceConfig(path=f"{url}/era5.zarr")).compute(), published)
    handler.lists = False
    with pytest.raises(
        InputError, match=r"era5.zarr holds no arrays, or its server .* consolidate"
    ):
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

    def open_zarr(path: str, **given: object) -> xr.Dataset:
        passed.update(given, path=path)
        return real(tmp_path / "a.zarr", chunks={})

    real = xr.open_zarr
    monkeypatch.setattr(xr, "open_zarr", open_zarr)
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
    with pytest.raises(InputError, match=r"packages that are not installed .*\[cloud\]"):
        open_source(SourceConfig(path=url))
