"""Every file of a training store is covered: a byte that changes, and a file that is lost."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.integrity import content_fingerprint, seal
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset


@pytest.fixture(scope="module")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with all arrays that there are, as of a source with gaps and missing values."""
    folder = tmp_path_factory.mktemp("filled")
    data = make_dataset()
    data["2m_temperature"][:, 2, 3:6] = np.nan
    data["2m_temperature"][50:200:7, 1] = np.nan
    data["2m_temperature"][40] = np.nan
    data.to_netcdf(folder / "data.nc")
    config = make_data_config(
        folder / "data.nc",
        fill={"2m_temperature": 280.0},
        allow_gaps=True,
        climatology_harmonics=0,
        storage=StorageConfig(compression="zstd", shard_mib=0.05),
    )
    prepare(config, folder / "data.zarr")
    return folder / "data.zarr"


@contextmanager
def changed_bytes(file: Path, content: bytes | None) -> Iterator[None]:
    """Replace the content of a file, or delete it, while the block runs."""
    before = file.read_bytes()
    try:
        file.unlink() if content is None else file.write_bytes(content)
        yield
    finally:
        file.write_bytes(before)


def test_a_flipped_byte_of_any_file_is_found_and_named(filled_store: Path) -> None:
    PreparedStore(filled_store).verify()
    files = [file for file in filled_store.rglob("*") if file.is_file()]
    arrays = {file.relative_to(filled_store).parts[0] for file in files}
    assert {"climatology", "empty", "fields", "filled", "filled_share", "static"} < arrays
    for file in files:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        name = file.relative_to(filled_store).as_posix()
        with changed_bytes(file, bytes(content)), rejects("damaged-store", name):
            PreparedStore(filled_store).verify()


def test_a_lost_file_is_an_error_of_opening(filled_store: Path) -> None:
    files = [file for file in filled_store.rglob("*") if file.is_file()]
    for file in files:
        name = file.relative_to(filled_store)
        if name.parts[:2] == ("filled", "c") or name == Path("zarr.json"):
            continue
        if name.parts[:2] == ("fields", "c"):
            shutil.move(filled_store / Path(*name.parts[:3]), filled_store / "moved")
            with rejects("damaged-store", name.as_posix()):
                PreparedStore(filled_store)
            shutil.move(filled_store / "moved", filled_store / Path(*name.parts[:3]))
            continue
        with changed_bytes(file, None), rejects("damaged-store", name.as_posix()):
            PreparedStore(filled_store)


def test_a_changed_climatology_is_found_where_it_is_read(filled_store: Path) -> None:
    file = filled_store / "climatology/c/0/0/1/0/0"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    with changed_bytes(file, bytes(content)):
        store = PreparedStore(filled_store)
        with rejects("damaged-store", "climatology/c/0/0/1/0/0"):
            store.climatology()


@pytest.mark.parametrize("name", ["mean", "checksum", "time", "longitude", "scale"])
def test_a_store_of_an_earlier_version_is_compared_with_its_fingerprint(
    name: str, filled_store: Path, tmp_path: Path
) -> None:
    earlier = shutil.copytree(filled_store, tmp_path / "earlier.zarr")
    document = json.loads((earlier / "zarr.json").read_text())
    del document["attributes"]["checksums"]
    (earlier / "zarr.json").write_text(json.dumps(document))
    assert PreparedStore(earlier).fingerprint == PreparedStore(filled_store).fingerprint
    (earlier / name / "c/0").unlink()  # which zarr reads as zeros
    with rejects("damaged-store", str(earlier)):
        PreparedStore(earlier)


def test_checksums_name_files_of_a_store_alone(filled_store: Path, tmp_path: Path) -> None:
    path = shutil.copytree(filled_store, tmp_path / "data.zarr")
    document = json.loads((path / "zarr.json").read_text())
    document["attributes"]["checksums"]["../outside"] = "00"
    (path / "zarr.json").write_text(json.dumps(document))
    with rejects("damaged-store", "../outside", "checksums"):
        PreparedStore(path)


def test_sealing_again_gives_the_same_bytes(filled_store: Path) -> None:
    before = (filled_store / "zarr.json").read_bytes()
    seal(filled_store)
    assert (filled_store / "zarr.json").read_bytes() == before


def test_a_seal_that_is_cut_off_leaves_the_metadata_as_it_was(
    filled_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (filled_store / "zarr.json").read_bytes()

    def cut_off(path: Path, text: str) -> None:
        path.write_bytes(text.encode()[:100])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", cut_off)
    with pytest.raises(KeyboardInterrupt):
        seal(filled_store)
    assert (filled_store / "zarr.json").read_bytes() == before
    (filled_store / "zarr.json.partial").unlink()


def test_a_fingerprint_is_of_the_values_and_the_channels() -> None:
    arrays = {"time": np.arange(3), "mean": np.ones(2)}
    first = content_fingerprint({"channels": ["a"]}, arrays)
    assert content_fingerprint({"channels": ["a"]}, dict(reversed(arrays.items()))) == first
    assert content_fingerprint({"channels": ["b"]}, arrays) != first
    assert content_fingerprint({"channels": ["a"]}, {**arrays, "mean": np.zeros(2)}) != first
