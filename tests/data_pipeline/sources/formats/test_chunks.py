"""Arrays are read in pieces of bounded size."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.formats.chunks import rechunk_to_bytes
from tests.builders.era5 import make_era5, make_grib
from tests.builders.errors import rejects
from tests.builders.experiments import make_dataset


@pytest.mark.parametrize("kind", ["h5", "nc", "grib"])
def test_long_files_are_read_in_pieces(tmp_path: Path, kind: str) -> None:
    """A year of FourCastNet's file is one array of 127 GB without chunks."""
    dataset = make_era5(24)[["2m_temperature"]]
    if kind == "h5":
        with h5py.File(tmp_path / "2018.h5", "w") as file:
            file["fields"] = np.zeros((24, 2, 7, 12), np.float32)
    elif kind == "nc":
        dataset.to_netcdf(tmp_path / "data.nc", format="NETCDF3_CLASSIC")
    else:
        make_grib(dataset["2m_temperature"], "2t", tmp_path / "data.grib")
    channels = ["t2m", "u10"] if kind == "h5" else []
    config = SourceConfig(path=str(tmp_path), channels=channels)
    opened = open_source(config, piece_bytes=4 * 7 * 12 * 3)
    assert opened["2m_temperature"].chunks is not None
    assert opened["2m_temperature"].chunks[0] == (3,) * 8
    opened.close()


def test_chunks_of_the_file_are_kept() -> None:
    array = xr.DataArray(np.zeros((10, 4, 6)), dims=("time", "latitude", "longitude"))
    assert rechunk_to_bytes(array, "data.nc", 8 * 24 * 3).chunks == ((3, 3, 3, 1), (4,), (6,))
    array.encoding["chunksizes"] = (5, 2, 6)
    assert rechunk_to_bytes(array, "data.nc", 8 * 24 * 3).chunks == ((5, 5), (2, 2), (6,))
    lazy = array.chunk(time=7)
    assert rechunk_to_bytes(lazy, "data.nc", 1) is lazy


def test_a_damaged_file_of_many_is_named_with_its_variable(tmp_path: Path) -> None:
    for month in range(3):
        data = make_dataset(6).isel(time=slice(2 * month, 2 * month + 2))
        packed = {"zlib": True, "chunksizes": (2, 6, 12)}
        names = ["2m_temperature", "mean_sea_level_pressure"]
        data[names].to_netcdf(tmp_path / f"{month}.nc", encoding=dict.fromkeys(names, packed))
    with h5py.File(tmp_path / "1.nc") as file:
        chunk = file["2m_temperature"].id.get_chunk_info(0)
    content = bytearray((tmp_path / "1.nc").read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    (tmp_path / "1.nc").write_bytes(content)
    with open_source(SourceConfig(path=str(tmp_path))) as opened:
        opened["mean_sea_level_pressure"].load()
        with rejects("unreadable-file", f"2m_temperature of {tmp_path / '1.nc'}"):
            opened["2m_temperature"].load()
