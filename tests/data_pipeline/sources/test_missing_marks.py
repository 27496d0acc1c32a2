"""Numbers that stand for missing values become NaN, and nothing else does."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_dataset


@pytest.mark.parametrize("key", ["t2m", "2m_temperature"])
def test_marks_are_read_as_missing(tmp_path: Path, key: str) -> None:
    dataset = make_dataset()
    expected = dataset["2m_temperature"].values.copy()
    dataset["2m_temperature"][:, 2, 3] = expected[:, 2, 3] = -9999
    dataset["mean_sea_level_pressure"][0, 0, 0] = -9999  # no mark of this variable
    dataset.to_netcdf(tmp_path / "data.nc")
    found = open_source(SourceConfig(path=str(tmp_path / "data.nc"), missing={key: -9999}))
    expected[expected == -9999] = np.nan
    np.testing.assert_array_equal(found["2m_temperature"], expected)
    assert found["2m_temperature"].attrs["units"] == "K"
    assert found["mean_sea_level_pressure"].notnull().all()


def test_a_mark_that_is_rounded(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset["height"][1, 1] = 9.96921e36  # the default of NetCDF, 9.969209968386869e36
    dataset.to_netcdf(tmp_path / "data.nc")
    config = SourceConfig(path=str(tmp_path / "data.nc"), missing={"height": 9.969209968386869e36})
    missing = np.isnan(open_source(config)["height"].values)
    assert np.argwhere(missing).tolist() == [[1, 1]]


def test_marks_of_unknown_variables_are_rejected(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    with rejects("bad-setting", "sst", "2m_temperature"):
        open_source(SourceConfig(path=str(tmp_path / "data.nc"), missing={"sst": -9999}))
