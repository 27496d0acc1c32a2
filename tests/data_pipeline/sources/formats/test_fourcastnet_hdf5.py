"""The yearly files of FourCastNet get names, times and coordinates."""

from pathlib import Path

import h5py
import numpy as np

from data_pipeline.channels import Channels
from tests.builders.era5 import make_era5, read_source
from tests.builders.errors import rejects

FOURCASTNET = ["u10", "t2m", "z500", "z850", "t850"]


def test_fourcastnet_hdf5(tmp_path: Path) -> None:
    fields = np.random.default_rng(0).random((3, 5, 6, 12)).astype(np.float32)
    for year in (2017, 2018):
        with h5py.File(tmp_path / f"{year}.h5", "w") as file:
            file["fields"] = fields + year
    found = read_source(tmp_path, channels=FOURCASTNET)
    assert found["latitude"].values.tolist() == [90, 60, 30, 0, -30, -60]
    assert str(found["time"].values[3])[:13] == "2018-01-01T00"
    channels = Channels.from_dataset(found, FOURCASTNET)
    assert channels.labels[2:] == ["geopotential_500", "geopotential_850", "temperature_850"]
    stacked = channels.stack(found).transpose("time", "channel", "latitude", "longitude")
    np.testing.assert_array_equal(stacked[:3], fields + np.float32(2017))
    assert {channel.units for channel in channels} == {"m s-1", "K", "m2 s-2"}


def test_channels_of_fourcastnet_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "2018.h5"
    with h5py.File(path, "w") as file:
        file["fields"] = np.zeros((3, 3, 6, 12), np.float32)
    with rejects("channels-mismatch", "3 channels", "data.source.channels"):
        read_source(path, channels=["u10"])
    with rejects("repeated-channel", "['u10', '10m_u_component_of_wind']"):
        read_source(path, channels=["u10", "v10", "10m_u_component_of_wind"])
    path.rename(tmp_path / "test.h5")
    with rejects("no-times", "test.h5"):
        read_source(tmp_path / "test.h5", channels=["u10", "v10", "t2m"])


def test_fields_that_take_longer_than_the_year_of_their_file(tmp_path: Path) -> None:
    path = tmp_path / "2018.h5"
    with h5py.File(path, "w") as file:
        file["fields"] = np.zeros((366, 1, 6, 12), np.float32)
    assert read_source(path, channels=["u10"], channels_timestep_hours=24).sizes["time"] == 366
    with rejects("timestep-mismatch", "2018.h5", "366", "data.source.channels_timestep_hours"):
        read_source(path, channels=["u10"], channels_timestep_hours=25)


def test_channels_of_files_that_have_names_are_rejected(tmp_path: Path) -> None:
    make_era5()[["2m_temperature"]].to_netcdf(tmp_path / "t2m.nc")
    with rejects("bad-setting", "data.source.channels", "t2m.nc", "2m_temperature"):
        read_source(tmp_path / "t2m.nc", channels=["t2m"])
