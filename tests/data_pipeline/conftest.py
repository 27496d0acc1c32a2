"""Data that several files of tests read, written once."""

from pathlib import Path

import pytest

from tests.builders.earth import EARTH


@pytest.fixture(scope="session")
def earth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("earth") / "data.nc"
    EARTH.to_netcdf(path)
    return path
