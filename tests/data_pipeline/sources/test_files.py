"""What is wrong with the input is said in one message that names it, and nothing is written."""

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
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.preparation.prepare import prepare
from data_pipeline.sources import files as opening
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from tests.builders.experiments import make_data_config, make_dataset
from tests.data_pipeline.sources.test_canonical import make_era5, write_grib

NAME = "2m_temperature"


def read(path: Path, **options: object) -> xr.Dataset:
    return open_source(SourceConfig(path=str(path), **options)).compute()  # type: ignore[arg-type]


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
    read(path)
    cut(path, share)
    with pytest.raises(InputError, match=r"cannot read .*data.nc: .* it may be truncated"):
        read(path)


@pytest.mark.parametrize("dtype", ["i1", "i2", "f4"])
def test_whole_netcdf_3_files_are_not_refused(tmp_path: Path, dtype: str) -> None:
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
    write_grib(make_era5()[NAME], "2t", path)
    cut(path, 0.97)
    with pytest.raises(InputError, match=r"cannot read .*data.grib: .* it may be truncated"):
        read(path)


def test_truncated_hdf5_of_fourcastnet(tmp_path: Path) -> None:
    path = tmp_path / "2018.h5"
    with h5py.File(path, "w") as file:
        file["fields"] = np.zeros((3, 2, 6, 12), np.float32)
    cut(path, 0.8)
    with pytest.raises(InputError, match=r"cannot read .*2018.h5: .* it may be truncated"):
        read(path, channels=["u10", "v10"])


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
    with pytest.raises(InputError, match=r"cannot read the data from 2001-.* may be damaged"):
        prepare(config, tmp_path / "data.zarr")
    assert not (tmp_path / "data.zarr").exists()


def test_a_damaged_static_variable(tmp_path: Path) -> None:
    make_dataset().chunk(time=1).to_zarr(tmp_path / "data.nc", zarr_format=2, consolidated=True)
    (tmp_path / "data.nc" / "height" / "0.0").write_bytes(b"no chunk" * 30)
    with pytest.raises(InputError, match=r"cannot read the static variable height"):
        prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")


def test_a_store_that_is_still_being_written(tmp_path: Path) -> None:
    """Its metadata are there, some chunks are not."""
    path = tmp_path / "data.nc"
    make_dataset().chunk(time=1).to_zarr(path, zarr_format=2, consolidated=True)
    for chunk in (path / NAME).glob("1[0-9][0-9].0.0"):
        chunk.unlink()
    with pytest.raises(InputError, match=r"2m_temperature has .* not finite.* being written"):
        prepare(make_data_config(path), tmp_path / "data.zarr")
    shutil.rmtree(path / "latitude")
    (path / ".zmetadata").unlink()
    with pytest.raises(InputError, match=r"lacks the 1-D coordinate latitude"):
        read(path)


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
        with pytest.raises(InputError, match=r"cannot read .*data.nc: .* still being written"):
            read(path)
        writer.communicate(b"\n")
    assert read(path)[NAME].notnull().all()


def test_a_missing_year(tmp_path: Path) -> None:
    dataset = make_dataset().drop_vars("height")
    for month in (1, 3, 4):
        dataset.sel(time=f"2001-{month:02d}").to_netcdf(tmp_path / f"2001-{month:02d}.nc")
    config = make_data_config(tmp_path, static=[])
    message = r"data.train has 1 gaps, the first between 2001-01-31.* and 2001-03-01.*allow_gaps"
    with pytest.raises(InputError, match=message):
        prepare(config, tmp_path / "data.zarr")


def test_a_file_twice(tmp_path: Path) -> None:
    make_era5()[[NAME]].to_netcdf(tmp_path / "a.nc")
    shutil.copy(tmp_path / "a.nc", tmp_path / "a copy.nc")
    with pytest.raises(InputError, match=r"time repeats in .*a copy.nc, .*a.nc .* 8 times in all"):
        read(tmp_path)


def test_periods_that_overlap(tmp_path: Path) -> None:
    dataset = make_era5()[[NAME]]
    dataset.isel(time=slice(0, 5)).to_netcdf(tmp_path / "a.nc")
    dataset.isel(time=slice(3, 8)).to_netcdf(tmp_path / "b.nc")
    with pytest.raises(InputError, match=r"time (repeats|decreases) in .*a.nc, .*b.nc"):
        read(tmp_path)


def test_a_level_that_some_files_lack(tmp_path: Path) -> None:
    first, second = make_era5(4, "2001-01-01"), make_era5(4, "2001-01-02")
    first[["temperature"]].to_netcdf(tmp_path / "a.nc")
    second[["temperature"]].sel(level=[500]).to_netcdf(tmp_path / "b.nc")
    message = r"\['temperature'\] at \[500, 850\] hPa: .*01-01.*\['temperature'\] at \[500\] hPa"
    with pytest.raises(InputError, match=message):
        read(tmp_path)


def test_a_level_that_the_data_lack(tmp_path: Path) -> None:
    make_era5(40).to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", prognostic=["t500", "t700"], static=[])
    with pytest.raises(InputError, match=r"temperature lacks the levels \[700\] hPa; it has \[500"):
        prepare(config, tmp_path / "data.zarr")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file matches .*nothing.nc"):
        read(tmp_path / "nothing.nc")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no file matches .*empty"):
        read(tmp_path / "empty")
    (tmp_path / "page.nc").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"cannot read .*page.nc: .* of another format"):
        read(tmp_path / "page.nc")


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
        read(path)
    (unprivileged / locked).chmod(0)
    with Nobody(), pytest.raises(InputError, match=rf"no permission to read .*{path.name}"):
        read(path)
    if locked == "inner":
        with Nobody(), pytest.raises(InputError, match=r"no permission to read .*inner"):
            read(path / "*.nc")
    (unprivileged / locked).chmod(0o755)


def test_channels_of_fourcastnet_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "2018.h5"
    with h5py.File(path, "w") as file:
        file["fields"] = np.zeros((3, 3, 6, 12), np.float32)
    with pytest.raises(InputError, match=r"holds 3 channels .* gives 1; list all"):
        read(path, channels=["u10"])
    with pytest.raises(InputError, match=r"names \['u10', '10m_u_component_of_wind'\] more than"):
        read(path, channels=["u10", "v10", "10m_u_component_of_wind"])
    path.rename(tmp_path / "test.h5")
    with pytest.raises(InputError, match="name it by its year"):
        read(tmp_path / "test.h5", channels=["u10", "v10", "t2m"])
