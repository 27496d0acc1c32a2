"""Files are told by their first bytes; what has to be unpacked or downloaded again is named."""

import gzip
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_pipeline.sources.formats.first_bytes import format_of
from tests.builders.era5 import assert_same, make_era5, make_grib, read_source
from tests.builders.errors import rejects

NAME = "2m_temperature"


@pytest.mark.parametrize("file_format", ["NETCDF3_CLASSIC", "NETCDF4"])
def test_netcdf_of_any_name(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "reanalysis.2001"
    make_era5()[[NAME]].to_netcdf(path, format=file_format, engine="netcdf4")  # type: ignore[call-overload]
    assert format_of(str(path)) == ("hdf5" if file_format == "NETCDF4" else "netcdf3")
    assert_same(read_source(path), make_era5()[[NAME]])


def test_grib_of_any_name(tmp_path: Path) -> None:
    path = tmp_path / "gfs.t00z.pgrb2.1p00.f000"
    make_grib(make_era5()[NAME], "2t", path)
    (tmp_path / "gfs.t00z.pgrb2.1p00.f000.idx").write_text("1:0:d=2001010100:TMP")
    assert read_source(tmp_path)[NAME].shape == make_era5()[NAME].shape


def test_a_folder_is_its_files_with_known_suffixes_where_there_are_any(tmp_path: Path) -> None:
    make_era5()[[NAME]].to_netcdf(tmp_path / "data.nc")
    make_era5()[[NAME]].to_netcdf(tmp_path / "data.nc.backup")
    assert_same(read_source(tmp_path), make_era5()[[NAME]])


def test_archives_say_how_to_unpack_them(tmp_path: Path) -> None:
    data, path = tmp_path / "inner", tmp_path / "data.nc"
    data.write_text("...")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(data)
    with rejects("unreadable-file", "data.nc", "zip archive", "unzip"):
        read_source(path)
    path.write_bytes(gzip.compress(b"..."))
    with rejects("unreadable-file", "data.nc", "gunzip"):
        read_source(path)
    with tarfile.open(path, "w") as archive:
        archive.add(data)
    with rejects("unreadable-file", "data.nc", "tar xf"):
        read_source(path)


@pytest.mark.parametrize(
    ("content", "named"), [("\n<!DOCTYPE html><html>Log in", "web page"), ("", "empty")]
)
def test_failed_downloads_are_named(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "data.grib").write_text(content)
    with rejects("unreadable-file", "data.grib", named):
        read_source(tmp_path)
