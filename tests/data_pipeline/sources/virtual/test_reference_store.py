"""Files that kerchunk and VirtualiZarr describe, read as one source."""

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.files import file_fingerprints, local_inputs
from tests.builders.era5 import assert_same, make_era5, read_source
from tests.builders.errors import rejects
from tests.builders.servers import Site, serving

NAME = "2m_temperature"


@pytest.fixture
def era5() -> xr.Dataset:
    return make_era5()[["temperature", NAME]]


@pytest.fixture
def files(tmp_path: Path, era5: xr.Dataset) -> list[Path]:
    """The dataset in two NetCDF files, with a chunk for each time."""
    paths = [tmp_path / "first.nc", tmp_path / "second.nc"]
    packed = {"zlib": True, "shuffle": True}
    chunks = {"temperature": (1, 1, 7, 12), NAME: (1, 7, 12)}
    for path, part in zip(paths, (slice(0, 3), slice(3, 8)), strict=True):
        encoding = {name: {**packed, "chunksizes": chunks[name]} for name in chunks}
        encoding["time"] = {"units": "hours since 2001-01-01"}  # which kerchunk expects to agree
        era5.isel(time=part).to_netcdf(path, encoding=encoding)
    return paths


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Let the packages that write references warn of their own calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def by_kerchunk(files: list[Path], folder: Path) -> list[Path]:
    kerchunk = pytest.importorskip("kerchunk", reason="needs kerchunk")
    assert kerchunk
    from kerchunk.combine import MultiZarrToZarr
    from kerchunk.df import refs_to_dataframe
    from kerchunk.hdf import SingleHdf5ToZarr

    single = [SingleHdf5ToZarr(str(path), inline_threshold=0).translate() for path in files]
    same = ["latitude", "longitude", "level"]
    joined = MultiZarrToZarr(single, concat_dims=["time"], identical_dims=same).translate()
    (folder / "kerchunk.json").write_text(json.dumps(joined))
    (folder / "kerchunk.parq").mkdir()
    refs_to_dataframe(joined, str(folder / "kerchunk.parq"), record_size=5)
    return [folder / "kerchunk.json", folder / "kerchunk.parq"]


def by_virtualizarr(files: list[Path], folder: Path) -> list[Path]:
    pytest.importorskip("virtualizarr", reason="needs virtualizarr")
    from obspec_utils.registry import ObjectStoreRegistry
    from obstore.store import LocalStore
    from virtualizarr import open_virtual_dataset
    from virtualizarr.parsers import HDFParser

    registry = ObjectStoreRegistry({"file://": LocalStore()})
    parts = [
        open_virtual_dataset(
            url=f"file://{path}",
            registry=registry,
            parser=HDFParser(),
            loadable_variables=["time", "level", "latitude", "longitude"],
        )
        for path in files
    ]
    whole = xr.concat(parts, "time", coords="minimal", compat="override", join="override")
    paths = [folder / "virtual.json", folder / "virtual.parquet"]
    whole.vz.to_kerchunk(str(paths[0]), format="json")
    whole.vz.to_kerchunk(str(paths[1]), format="parquet")
    return paths


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("write", [by_kerchunk, by_virtualizarr])
def test_references_of_the_packages_are_the_same_dataset(
    era5: xr.Dataset, files: list[Path], tmp_path: Path, write: Callable[..., list[Path]]
) -> None:
    for path in write(files, tmp_path):
        assert_same(read_source(path), era5)


def refs_by_hand(era5: xr.Dataset, folder: Path, place: str) -> dict[str, object]:
    """References to plain bytes, of which ``place`` is where they are."""
    field = np.ascontiguousarray(era5[NAME].values, "<f4")
    (folder / "field.bin").write_bytes(field.tobytes())
    size = field[0].nbytes
    axes = {axis: era5[axis].values for axis in ("latitude", "longitude")}
    axes["time"] = (era5["time"].values - np.datetime64("2001-01-01")) // np.timedelta64(1, "h")
    refs: dict[str, object] = {".zgroup": '{"zarr_format": 2}'}
    common = {"zarr_format": 2, "order": "C", "filters": None, "compressor": None}
    for name, values in {**axes, NAME: field}.items():
        dims = ["time", "latitude", "longitude"] if name == NAME else [name]
        chunks = [1, *values.shape[1:]] if name == NAME else values.shape
        attrs = {"_ARRAY_DIMENSIONS": dims}
        attrs |= {"units": "hours since 2001-01-01"} if name == "time" else {}
        attrs |= {"units": "K"} if name == NAME else {}
        refs[f"{name}/.zarray"] = {
            **common, "shape": values.shape, "chunks": chunks, "dtype": values.dtype.str,
            "fill_value": None,
        }  # fmt: skip
        refs[f"{name}/.zattrs"] = attrs
        if name != NAME:
            (folder / f"{name}.bin").write_bytes(values.tobytes())
            refs[f"{name}/0"] = [f"{name}.bin"]
    refs |= {f"{NAME}/{i}.0.0": [place, i * size, size] for i in range(len(field))}
    return refs


def test_outputs_know_the_files_behind_references(tmp_path: Path, era5: xr.Dataset) -> None:
    path = tmp_path / "refs.json"
    path.write_text(json.dumps(refs_by_hand(era5, tmp_path, "field.bin")))
    assert_same(read_source(path), era5[[NAME]])
    assert {path, tmp_path / "field.bin"} <= set(local_inputs(str(path)))
    ((name, size, _),) = file_fingerprints(str(path))
    assert (name, size) == (str(path), path.stat().st_size)


def test_references_outside_are_not_read(tmp_path: Path, era5: xr.Dataset) -> None:
    folder = tmp_path / "refs"
    folder.mkdir()
    refs = refs_by_hand(era5, folder, str(tmp_path / "secret.bin"))
    (folder / "field.bin").rename(tmp_path / "secret.bin")
    (folder / "refs.json").write_text(json.dumps(refs))
    with rejects("outside-of-source", "refs.json", "secret.bin", "data.source.referenced"):
        read_source(folder / "refs.json")
    assert_same(read_source(folder / "refs.json", referenced=[str(tmp_path)]), era5[[NAME]])


@pytest.mark.parametrize("keep", [0, 0.9])
def test_lost_bytes_are_no_missing_values(tmp_path: Path, era5: xr.Dataset, keep: float) -> None:
    path, field = tmp_path / "refs.json", tmp_path / "field.bin"
    path.write_text(json.dumps(refs_by_hand(era5, tmp_path, "field.bin")))
    content = field.read_bytes()
    field.unlink()
    code = "missing-file"
    if keep:
        field.write_bytes(content[: int(keep * len(content))])
        code = "unreadable-file"
    with rejects(code, "field.bin"):
        read_source(path)


def served(folder: Path, refs: dict[str, object]) -> Site:
    files = {f"data/{path.name}": path.read_bytes() for path in folder.iterdir()}
    return Site(files=files | {"data/refs.json": json.dumps(refs).encode()})


def test_references_behind_a_url(tmp_path: Path, era5: xr.Dataset) -> None:
    filesystem = fsspec.filesystem("memory")
    refs = refs_by_hand(era5, tmp_path, "field.bin")
    for path in tmp_path.iterdir():
        filesystem.pipe(f"/virtual/{path.name}", path.read_bytes())
    filesystem.pipe("/virtual/refs.json", json.dumps(refs).encode())
    assert_same(read_source("memory://virtual/refs.json"), era5[[NAME]])
    refs[f"{NAME}/0.0.0"] = ["memory://other/field.bin", 0, 336]
    filesystem.pipe("/virtual/refs.json", json.dumps(refs).encode())
    with rejects("outside-of-source", "memory://other"):
        read_source("memory://virtual/refs.json")


def test_answers_that_lead_elsewhere_are_no_data(tmp_path: Path, era5: xr.Dataset) -> None:
    site = served(tmp_path, refs_by_hand(era5, tmp_path, "moved.bin"))
    site.files["elsewhere"] = (tmp_path / "field.bin").read_bytes()
    with serving(site):
        site.redirects["data/moved.bin"] = f"{site.url}/elsewhere"
        with rejects("unreadable-file", "moved.bin"):
            read_source(f"{site.url}/data/refs.json")
    assert "elsewhere" not in site.paths


def test_the_reader_of_fsspec_is_not_used() -> None:
    for path in ("reference://", "reference::https://host/refs.json"):
        with rejects("bad-setting", "reference"):
            read_source(path, storage_options={"fo": "refs.json"})
