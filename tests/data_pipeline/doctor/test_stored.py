"""Training stores of other data, damaged stores, and disks without room for one are found."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from data_pipeline.doctor.examination import Examination
from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.integrity import seal
from data_pipeline.store.packing import StorageConfig
from tests.builders.earth import EARTH, examine_at, make_earth_config, only, serious


@pytest.fixture(scope="module")
def prepared(earth_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    shutil.copy(earth_file, folder / "data.nc")
    prepare(make_earth_config(folder / "data.nc"), folder / "data.zarr")
    return folder


def warmer() -> xr.Dataset:
    changed = EARTH["2m_temperature"] + np.float32(5)
    return EARTH.assign({"2m_temperature": changed.assign_attrs(units="K")})


def copied(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared / "data.zarr", tmp_path / "data.zarr")
    return tmp_path / "data.zarr"


def test_a_store_and_its_source_agree(prepared: Path) -> None:
    examination = examine_at(make_earth_config(prepared / "data.nc"), prepared / "data.zarr")
    assert serious(examination) == []
    assert examination.store is not None
    assert examination.report.facts["store"]["num_times"] == 547 + 73 + 92


def test_a_store_of_coarser_means_agrees_with_its_source(earth_file: Path, tmp_path: Path) -> None:
    config = make_earth_config(earth_file, grid=GridConfig(num_latitudes=6, num_longitudes=12))
    prepare(config, tmp_path / "data.zarr")
    assert serious(examine_at(config, tmp_path / "data.zarr")) == []


def test_a_source_that_changed_after_preparation(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    warmer().to_netcdf(prepared / "changed.nc")
    (prepared / "data.nc").rename(tmp_path / "original.nc")
    try:
        (prepared / "changed.nc").rename(prepared / "data.nc")
        config = make_earth_config(prepared / "data.nc")
        finding = only(examine_at(config, prepared / "data.zarr"))
    finally:
        (tmp_path / "original.nc").rename(prepared / "data.nc")
    assert (finding.check, finding.severity) == ("store-stale", "error")
    assert finding.where.startswith("2m_temperature (")


@pytest.mark.parametrize(("name", "factor"), [("mean", 1.1), ("std", 1.5)])
def test_statistics_that_are_not_of_this_data(
    name: str, factor: float, prepared: Path, tmp_path: Path
) -> None:
    store = copied(prepared, tmp_path)
    array = zarr.open_group(store, mode="a")[name]
    assert isinstance(array, zarr.Array)
    changed = np.asarray(array[...])
    changed[6] *= factor  # 2m_temperature, after two levels of three variables
    array[...] = changed
    seal(store)
    finding = only(examine_at(make_earth_config(prepared / "data.nc"), store))
    assert (finding.check, finding.severity) == ("store-statistics", "error")
    assert finding.where.startswith("2m_temperature,")


def test_a_store_needs_its_source_no_more(prepared: Path, tmp_path: Path) -> None:
    store = copied(prepared, tmp_path)
    (prepared / "data.nc").rename(tmp_path / "elsewhere.nc")
    try:
        examination = examine_at(make_earth_config(prepared / "data.nc"), store)
    finally:
        (tmp_path / "elsewhere.nc").rename(prepared / "data.nc")
    finding = only(examination)
    assert (finding.check, finding.severity) == ("source", "warning")
    assert examination.channels is not None
    assert len(examination.channels) == 10


@pytest.mark.parametrize("file", ["fields/c/0/0/0/0", "fields/zarr.json", "time/zarr.json"])
def test_a_store_that_lacks_a_file(file: str, prepared: Path, tmp_path: Path) -> None:
    store = copied(prepared, tmp_path)
    (store / file).unlink()
    finding = only(examine_at(make_earth_config(prepared / "data.nc"), store))
    assert (finding.check, finding.severity) == ("store-damaged", "error")
    assert finding.where == str(store)


def test_arrays_that_a_store_lacks_are_named(prepared: Path, tmp_path: Path) -> None:
    store = copied(prepared, tmp_path)
    (store / "static" / "zarr.json").unlink()
    (store / "climatology" / "zarr.json").unlink()
    finding = only(examine_at(make_earth_config(prepared / "data.nc"), store))
    assert "climatology/zarr.json (missing), static/zarr.json (missing)" in finding.what


def test_a_store_of_another_configuration(prepared: Path) -> None:
    config = make_earth_config(prepared / "data.nc", climatology_harmonics=2)
    finding = only(examine_at(config, prepared / "data.zarr"))
    assert finding.check == "store-settings"
    assert "data.climatology_harmonics" in finding.what


def test_a_disk_that_is_too_small(
    earth_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4 * (547 + 73 + 92) * 10 * 19 * 36
    usage = shutil.disk_usage(tmp_path)

    def with_free(free: int) -> Examination:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
        return examine_at(make_earth_config(earth_file), tmp_path / "s/t")

    assert serious(with_free(2 * needed)) == []
    assert only(with_free(needed + 1)).severity == "warning"
    finding = only(with_free(needed - 1))
    assert (finding.check, finding.severity) == ("disk", "error")
    assert "data.store" in finding.remedy


def test_a_store_behind_a_url(prepared: Path) -> None:
    config, url = make_earth_config(prepared / "data.nc"), f"file://{prepared}"
    examination = examine_at(config, f"{url}/data.zarr")
    assert serious(examination) == []
    assert examination.report.facts["store"]["path"] == f"{url}/data.zarr"
    assert examination.report.facts["store"]["num_times"] == 547 + 73 + 92
    finding = only(examine_at(config, f"{url}/nothing.zarr"))
    assert (finding.check, finding.where) == ("store-damaged", f"{url}/nothing.zarr")
    assert "no prepared data" in finding.what


def test_a_crop_is_what_the_model_sees(prepared: Path, tmp_path: Path) -> None:
    crop = CropConfig(north=60.0, south=-30.0, west=350.0, east=40.0)
    config = make_earth_config(prepared / "data.nc", crop=crop)
    for location in (tmp_path / "none.zarr", prepared / "data.zarr"):
        examination = examine_at(config, location)
        assert serious(examination) == []
        assert examination.grid is not None
        assert examination.grid.shape == (10, 6)
        assert examination.grid.coords["longitude"][0] == -10


@pytest.mark.parametrize("store", ["none.zarr", "data.zarr"])
def test_a_crop_that_leaves_too_little(store: str, prepared: Path) -> None:
    crop = CropConfig(north=4.0, south=-4.0)
    config = make_earth_config(prepared / "data.nc", crop=crop)
    finding = only(examine_at(config, prepared / store))
    assert (finding.check, finding.where) == ("prepare", "data.crop")
    assert "leaves 1 rows" in finding.what


def test_sixteen_bits_take_half_of_the_disk(earth_file: Path, tmp_path: Path) -> None:
    config = make_earth_config(earth_file)
    half = replace(config, storage=StorageConfig(dtype="float16"))
    sizes = [
        examine_at(c, tmp_path / "store").report.facts["disk"]["store_bytes"]
        for c in (config, half)
    ]
    assert sizes == [4 * 712 * 10 * 19 * 36, 2 * 712 * 10 * 19 * 36]


def test_chunks_that_hold_more_than_is_taken(tmp_path: Path) -> None:
    """Both levels in a chunk, of which one is taken: twice the bytes."""
    names = ["geopotential", "2m_temperature"]
    encoding = {"geopotential": {"chunksizes": (10, 2, 19, 36)}}
    EARTH[names].to_netcdf(tmp_path / "data.nc", encoding=encoding)
    config = make_earth_config(
        tmp_path / "data.nc", prognostic=["geopotential_500", "2m_temperature"], static=[]
    )
    finding = only(examine_at(config, tmp_path / "store"))
    assert (finding.check, finding.severity) == ("chunks", "warning")
    assert finding.where == "geopotential"
    assert "2.1 times the bytes" in finding.what
