"""Icechunk repositories as sources: versions, damage, and chunks that are elsewhere."""

from pathlib import Path

import pytest
import xarray as xr
import zarr

from data_pipeline.preparation.prepare import prepare
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import file_fingerprints, local_inputs
from data_pipeline.sources.virtual.repository import RepositoryPath, brief, repository_path
from tests.builders.era5 import assert_same, make_era5, read_source
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

icechunk = pytest.importorskip("icechunk", reason="needs icechunk")
icechunk.set_logs_filter("off")


def commit(repository: "icechunk.Repository", dataset: xr.Dataset, group: str = "") -> str:
    session = repository.writable_session("main")
    dataset.to_zarr(session.store, group=group or None, mode="w", consolidated=False, zarr_format=3)
    return session.commit("a version")


def create(path: Path) -> "icechunk.Repository":
    return icechunk.Repository.create(icechunk.local_filesystem_storage(str(path)))


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Path, dict[str, xr.Dataset], str]:
    """A repository with a tag and a branch at the first version, and a second one."""
    path, first = tmp_path / "repository", make_era5()
    repository = create(path)
    snapshot = commit(repository, first)
    repository.create_tag("v1", snapshot)
    repository.create_branch("old", snapshot)
    second = first.assign(temperature=(first["temperature"] + 1).assign_attrs(units="K"))
    commit(repository, second)
    return path, {"first": first, "second": second}, snapshot


def test_versions_of_a_repository(versions: tuple[Path, dict[str, xr.Dataset], str]) -> None:
    path, datasets, snapshot = versions
    for version in ("@tag.v1", "@branch.old", f"@{snapshot}"):
        assert_same(read_source(f"{path}{version}"), datasets["first"])
    for newest in (path, f"icechunk://{path}", f"icechunk://file://{path}@branch.main"):
        assert_same(read_source(newest), datasets["second"])


def test_the_snapshot_tells_one_version_from_another(
    versions: tuple[Path, dict[str, xr.Dataset], str],
) -> None:
    path, _, snapshot = versions
    with open_source(SourceConfig(path=f"{path}@tag.v1")) as dataset:
        assert dataset.encoding["source"] == f"{path}@{snapshot}"
    assert file_fingerprints(f"{path}@branch.old") == [(f"{path}@{snapshot}", 0, 0)]
    assert file_fingerprints(str(path)) != file_fingerprints(f"{path}@branch.old")
    assert local_inputs(f"icechunk://{path}@tag.v1") == [path]


def test_groups_of_a_repository(tmp_path: Path) -> None:
    repository, era5 = create(tmp_path / "repository"), make_era5()
    commit(repository, era5, "era5/6h")
    assert_same(read_source(f"{tmp_path}/repository@branch.main/era5/6h"), era5)
    with rejects("other-layout", "era5"):
        read_source(tmp_path / "repository")
    with rejects("missing-file", "other"):
        read_source(f"{tmp_path}/repository@branch.main/other")


def test_prepared_stores_name_the_snapshot(tmp_path: Path) -> None:
    snapshot = commit(create(tmp_path / "repository"), make_dataset())
    config = make_data_config(tmp_path / "repository")
    prepare(config, tmp_path / "data.zarr")
    attrs = zarr.open_group(tmp_path / "data.zarr", mode="r").attrs
    assert attrs["snapshots"] == [f"{tmp_path}/repository@{snapshot}"]


@pytest.mark.parametrize(
    ("path", "named"),
    [("@branch.none", "main"), ("@tag.none", "v1"), ("@ABCDEFGH0123456789AB", "ABCDEFGH")],
)
def test_versions_that_are_not_there(
    versions: tuple[Path, dict[str, xr.Dataset], str], path: str, named: str
) -> None:
    with rejects("missing-file", named):
        read_source(f"{versions[0]}{path}")


def test_no_folder_is_made_where_no_repository_is(tmp_path: Path) -> None:
    with rejects("missing-file", "nothing"):
        read_source(f"icechunk://{tmp_path}/nothing")
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("part", ["refs", "snapshots", "manifests", "chunks"])
def test_damaged_repositories(tmp_path: Path, part: str) -> None:
    commit(create(tmp_path / "repository"), make_era5(48)[["temperature"]])
    for file in (tmp_path / "repository" / part).rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[:5])
    with pytest.raises(Exception, match="repository") as info:
        read_source(tmp_path / "repository")
    assert info.value.code in ("unreadable-file", "missing-file")
    assert "\n" not in str(info.value)


def virtual(path: Path, container: Path, chunk: Path) -> None:
    """A repository with a chunk of 4 numbers in a file."""
    url = f"file://{container}/"
    config = icechunk.RepositoryConfig.default()
    store = icechunk.local_filesystem_store(str(container))
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(url, store))
    storage = icechunk.local_filesystem_storage(str(path))
    session = icechunk.Repository.create(storage, config).writable_session("main")
    group = zarr.group(session.store)
    group.create_array(
        "x", shape=(4,), chunks=(4,), dtype="f4", dimension_names=["x"], compressors=None
    )
    session.store.set_virtual_ref(
        "x/c/0", f"file://{chunk}", offset=0, length=16, validate_container=False
    )
    session.commit("virtual")


def test_virtual_chunks_are_read_where_the_user_says_so(tmp_path: Path) -> None:
    from data_pipeline.sources.files import open_all

    (tmp_path / "data").mkdir()
    (tmp_path / "data/x.bin").write_bytes(bytes(range(16)))
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (tmp_path / "data/link.bin").symlink_to(tmp_path / "secret.bin")
    for name in ("x.bin", "link.bin", "../secret.bin"):
        path = str(tmp_path / f"repository of {Path(name).stem}{len(name)}")
        virtual(Path(path), tmp_path / "data", tmp_path / "data" / name)
        with rejects("outside-of-source", path, "data.source.referenced"):
            open_all(path, SourceConfig(path=path))
        config = SourceConfig(path=path, referenced=[str(tmp_path / "data")])
        if name == "x.bin":
            (dataset,) = open_all(path, config)
            assert dataset["x"].values.tobytes() == bytes(range(16))
        else:
            with rejects("outside-of-source", "secret.bin"):
                open_all(path, config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("icechunk://s3://b/p", RepositoryPath("s3://b/p")),
        ("icechunk://s3://b/p@tag.v1.0/g/h", RepositoryPath("s3://b/p", "tag.v1.0", "g/h")),
        ("icechunk:///a/b@branch.x", RepositoryPath("/a/b", "branch.x")),
        ("icechunk://a@b.c", RepositoryPath("a@b.c")),
        ("s3://b/p@tag.v1", None),
        ("/nowhere@tag.v1", None),
    ],
)
def test_paths_of_repositories(text: str, expected: RepositoryPath | None) -> None:
    assert repository_path(text) == expected


def test_servers_of_other_kinds_and_options_are_errors() -> None:
    for url, options, named in (
        ("ftp://host/p", {}, "ftp"),
        ("s3://bucket/p", {"rainbow": 1}, "rainbow"),
    ):
        with rejects("bad-setting", named):
            read_source(f"icechunk://{url}", storage_options=options)


def test_errors_are_brief() -> None:
    assert brief(ValueError("two\nlines")) == "two\nlines"
    assert brief(ValueError()) == "ValueError"
    error = icechunk.IcechunkError(
        "  x ref not found `a`\n  | \n  | context:\n  |    0: icechunk::b"
    )
    assert brief(error) == "ref not found `a"
