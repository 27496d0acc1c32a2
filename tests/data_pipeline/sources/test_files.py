"""Wrong input is reported in one message that names it, and nothing is written."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_pipeline.preparation.prepare import prepare
from data_pipeline.sources import files as opening
from tests.builders.era5 import make_era5, make_grib, read_source
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

NAME = "2m_temperature"


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("file_format", ["NETCDF3_CLASSIC", "NETCDF3_64BIT", "NETCDF4"])
def test_truncated_netcdf(tmp_path: Path, file_format: str, share: float) -> None:
    """The NetCDF library reads zeros beyond the end of a NetCDF 3 file."""
    path = tmp_path / "data.nc"
    # Coordinates before the data, as CDS writes them: the file opens without them too.
    dataset = make_era5(40)[["time", "latitude", "longitude", NAME]]
    dataset.to_netcdf(path, format=file_format, unlimited_dims=["time"] if share > 0.9 else None)  # type: ignore[arg-type]
    read_source(path)
    cut(path, share)
    with rejects("unreadable-file", "data.nc"):
        read_source(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4"])
def test_complete_netcdf_3_files_are_read(tmp_path: Path, dtype: str) -> None:
    """Also with one packed variable alone along an unlimited axis, which is not padded."""
    dataset = make_era5(5)[[NAME]].isel(longitude=slice(0, 11)).drop_vars("time")
    packing = {"dtype": dtype, "_FillValue": 99, "scale_factor": 10.0, "add_offset": 250.0}
    encoding = packing if dtype != "f4" else {}
    path = tmp_path / "data.nc"
    dataset.to_netcdf(
        path, format="NETCDF3_64BIT", unlimited_dims=["time"], encoding={NAME: encoding}
    )
    opening._check_length(str(path))
    cut(path, 0.5)
    with pytest.raises(OSError, match="ends before its data"):
        opening._check_length(str(path))


def test_truncated_grib(tmp_path: Path) -> None:
    """By default the library passes over what is damaged."""
    path = tmp_path / "data.grib"
    make_grib(make_era5()[NAME], "2t", path)
    cut(path, 0.97)
    with rejects("unreadable-file", "data.grib"):
        read_source(path)


def test_truncated_hdf5_of_fourcastnet(tmp_path: Path) -> None:
    path = tmp_path / "2018.h5"
    with h5py.File(path, "w") as file:
        file["fields"] = np.zeros((3, 2, 6, 12), np.float32)
    cut(path, 0.8)
    with rejects("unreadable-file", "2018.h5"):
        read_source(path, channels=["u10", "v10"])


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)


def compressed_netcdf(folder: Path) -> Path:
    packing = {"zlib": True, "chunksizes": (1, 6, 12)}
    dataset = make_dataset()
    encoding = {name: packing for name in dataset.data_vars if name != "height"}
    dataset.to_netcdf(folder / "data.nc", encoding=encoding)
    damage(folder / "data.nc")
    return folder / "data.nc"


def compressed_zarr(folder: Path) -> Path:
    make_dataset().chunk(time=1).to_zarr(folder / "data.nc", zarr_format=2, consolidated=True)
    (folder / "data.nc" / NAME / "7.0.0").write_bytes(b"no chunk" * 30)
    return folder / "data.nc"


def cut_zarr(folder: Path) -> Path:
    make_dataset().chunk(time=1).to_zarr(folder / "data.nc", zarr_format=3, consolidated=False)
    cut(folder / "data.nc" / NAME / "c/7/0/0", 0.5)
    return folder / "data.nc"


@pytest.mark.parametrize("make", [compressed_netcdf, compressed_zarr, cut_zarr])
def test_a_damaged_chunk(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = make(tmp_path)
    config = make_data_config(source)
    with rejects("unreadable-file", f" of {source}"):
        prepare(config, tmp_path / "data.zarr")
    assert not (tmp_path / "data.zarr").exists()


def test_a_damaged_static_variable(tmp_path: Path) -> None:
    make_dataset().chunk(time=1).to_zarr(tmp_path / "data.nc", zarr_format=2, consolidated=True)
    (tmp_path / "data.nc" / "height" / "0.0").write_bytes(b"no chunk" * 30)
    with rejects("unreadable-file", f"height of {tmp_path / 'data.nc'}"):
        prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")


def test_a_store_that_is_still_being_written(tmp_path: Path) -> None:
    """Its metadata are there, some chunks are not."""
    path = tmp_path / "data.nc"
    make_dataset().chunk(time=1).to_zarr(path, zarr_format=2, consolidated=True)
    for chunk in (path / NAME).glob("1[0-9][0-9].0.0"):
        chunk.unlink()
    with rejects("not-finite", "2m_temperature"):
        prepare(make_data_config(path), tmp_path / "data.zarr")
    shutil.rmtree(path / "latitude")
    (path / ".zmetadata").unlink()
    with rejects("missing-axis", "latitude"):
        read_source(path)


def test_a_file_that_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "data.nc"
    make_dataset().to_netcdf(path)
    code = (
        "import netCDF4, sys; f = netCDF4.Dataset(sys.argv[1], 'a'); print(1, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with rejects("unreadable-file", "data.nc"):
            read_source(path)
        writer.communicate(b"\n")
    assert read_source(path)[NAME].notnull().all()


def test_a_missing_year(tmp_path: Path) -> None:
    dataset = make_dataset().drop_vars("height")
    for month in (1, 3, 4):
        dataset.sel(time=f"2001-{month:02d}").to_netcdf(tmp_path / f"2001-{month:02d}.nc")
    config = make_data_config(tmp_path, static=[])
    with rejects("gap-in-time", "data.train", "2001-01-31", "2001-03-01", "data.allow_gaps"):
        prepare(config, tmp_path / "data.zarr")


def test_a_level_that_the_data_lack(tmp_path: Path) -> None:
    make_era5(40).to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", prognostic=["t500", "t700"], static=[])
    with rejects("missing-level", "temperature", "[700] hPa", "[500, 850]"):
        prepare(config, tmp_path / "data.zarr")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with rejects("missing-file", "nothing.nc"):
        read_source(tmp_path / "nothing.nc")
    (tmp_path / "empty").mkdir()
    with rejects("missing-file", "empty"):
        read_source(tmp_path / "empty")
    (tmp_path / "page.nc").write_text("<html>404</html>")
    with rejects("unreadable-file", "page.nc"):
        read_source(tmp_path / "page.nc")


@pytest.fixture
def unprivileged() -> Iterator[Path]:
    """A folder that everybody may enter, read with the rights of nobody where we are root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Nobody:
    """Gives up the rights of root for a while."""

    def __enter__(self) -> None:
        self.user = os.geteuid()
        if self.user == 0:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        os.seteuid(self.user)


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no rights of users here")
@pytest.mark.parametrize("locked", ["data.nc", "inner", "store.zarr", "store.zarr/.zmetadata"])
def test_permission_denied(unprivileged: Path, locked: str) -> None:
    dataset = make_dataset()
    dataset.to_netcdf(unprivileged / "data.nc")
    (unprivileged / "inner").mkdir()
    dataset.to_netcdf(unprivileged / "inner" / "data.nc")
    dataset.to_zarr(unprivileged / "store.zarr", zarr_format=2, consolidated=True)
    path = unprivileged / locked.split("/")[0]
    with Nobody():
        read_source(path)
    (unprivileged / locked).chmod(0)
    with Nobody(), rejects("no-permission", path.name):
        read_source(path)
    if locked == "inner":
        with Nobody(), rejects("no-permission", "inner"):
            read_source(path / "*.nc")
    (unprivileged / locked).chmod(0o755)


@pytest.mark.parametrize("given", ["f[2].nc", "*.nc", ""])
def test_names_that_exist_are_no_globs(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "run [red][1]"
    folder.mkdir()
    make_dataset(3).to_netcdf(folder / "f[2].nc")
    found = [str(folder / "f[2].nc")]
    assert opening.expand_glob(str(folder / given)) == found
    assert opening.expand_glob(str(tmp_path / "run*" / "f*.nc")) == found
    assert read_source(folder / given).sizes["time"] == 3


def test_a_store_for_training_is_no_source(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "store.zarr")
    with rejects("other-layout", "store.zarr", "prepare", "data.store"):
        read_source(tmp_path / "*.zarr")


def test_zeros_of_axes_are_not_missing(tmp_path: Path) -> None:
    """zarr 2 has one number for chunks that are not there and for missing values."""
    data = make_dataset(4)[[NAME]].assign_coords(time=np.arange(4.0))
    data["time"].attrs["units"] = "days since 2001-01-01"
    data["longitude"].attrs["_FillValue"] = data["time"].attrs["_FillValue"] = 0.0
    data.to_zarr(tmp_path / "data.zarr", zarr_format=2)
    found = read_source(tmp_path / "data.zarr")
    np.testing.assert_array_equal(found["longitude"], data["longitude"])
    np.testing.assert_array_equal(found["time"], make_dataset(4)["time"])


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_groups_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"data.{kind}"
    data = make_dataset(2)
    if kind == "nc":
        data.to_netcdf(path, group="Grid")
    else:
        data.to_zarr(path, group="Grid", zarr_format=3, consolidated=False)
        assert read_source(path / "Grid").sizes["time"] == 2
    with rejects("other-layout", "Grid", path.name):
        read_source(path)
