"""References lead to files that the user has named, whatever they say."""

import os
from pathlib import Path

import pytest

from data_pipeline.sources.virtual.permitted import Permitted, without_scheme
from tests.builders.errors import rejects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own/data.bin", "own/below/data.bin", "own/.ssh/id", "other/data.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_bytes(b"bytes")
    (tmp_path / "own/link.bin").symlink_to(tmp_path / "other/data.bin")
    os.mkfifo(tmp_path / "own/pipe")
    return tmp_path


def test_files_of_the_own_folder_are_read(folder: Path) -> None:
    permitted = Permitted("refs.json", str(folder / "own"))
    for name in ("data.bin", "below/data.bin", "below/../data.bin"):
        expected = str((folder / "own" / name).resolve())
        for written in (name, f"{folder}/own/{name}", f"file://{folder}/own/{name}"):
            assert permitted.place(written) == expected


@pytest.mark.parametrize("name", ["../other/data.bin", "link.bin", ".ssh/id", "/etc/passwd"])
def test_other_files_need_a_name(folder: Path, name: str) -> None:
    permitted = Permitted("refs.json", str(folder / "own"))
    with rejects("outside-of-source", "refs.json", "data.source.referenced"):
        permitted.place(name)


def test_named_folders_are_read(folder: Path) -> None:
    named = (f"file://{folder}/other", str(folder / "own/.ssh"))
    permitted = Permitted("refs.json", str(folder / "own"), named)
    other = str(folder / "other/data.bin")
    assert permitted.place("link.bin") == permitted.place("../other/data.bin") == other
    assert permitted.place(".ssh/id") == str(folder / "own/.ssh/id")
    with rejects("outside-of-source"):
        permitted.place(str(folder / "other") + "wise/data.bin")


def test_what_is_no_file_is_an_error(folder: Path) -> None:
    permitted = Permitted("refs.json", str(folder / "own"))
    for name in ("pipe", "below", "none.bin"):
        with rejects("missing-file", "refs.json", name):
            permitted.place(name)


BASE = "https://host.example/data"


@pytest.mark.parametrize("url", [f"{BASE}/a.nc", f"{BASE}/b/a.nc?version=1", "a.nc"])
def test_urls_below_the_own_one_are_read(url: str) -> None:
    expected = url if "://" in url else f"{BASE}/{url}"
    assert Permitted("r", BASE).place(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"{BASE}/../secret.nc",
        f"{BASE}/%2e%2e/secret.nc",
        f"{BASE}/%252e%252e/secret.nc",
        f"{BASE}wise/a.nc",
        "https://host.example.evil/data/a.nc",
        "https://host.example@evil/data/a.nc",
        "http://host.example/data/a.nc",
        f"simplecache::{BASE}/a.nc",
        "http://169.254.169.254/latest",
        "/etc/passwd",
        "file:///etc/passwd",
    ],
)
def test_other_urls_need_a_name(url: str) -> None:
    with rejects("outside-of-source", "r "):
        Permitted("r", BASE).place(url)


def test_named_urls_are_read_from_local_references() -> None:
    permitted = Permitted("r", "/nowhere", ("s3://bucket/era5/",))
    assert permitted.place("s3://bucket/era5/a.nc") == "s3://bucket/era5/a.nc"
    with rejects("outside-of-source", "s3://bucket/other"):
        permitted.place("s3://bucket/other/a.nc")


def test_urls_of_local_files_are_paths() -> None:
    assert without_scheme("file:///a/b") == without_scheme("local:///a/b") == "/a/b"
    assert without_scheme("s3://a/b") == "s3://a/b"
