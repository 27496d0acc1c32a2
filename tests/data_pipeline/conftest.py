"""Data that several files of tests read, written once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.earth import EARTH
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.stores import make_hourly


@pytest.fixture(scope="session")
def earth_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("earth") / "data.nc"
    EARTH.to_netcdf(path)
    return path


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "data.nc"
    make_dataset().to_netcdf(path)
    return path


@pytest.fixture(scope="session")
def hourly_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rain") / "hourly.nc"
    make_hourly().to_netcdf(path)
    return path


@pytest.fixture(scope="session")
def store_of_kind(
    source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[StorageConfig], PreparedStore]:
    """The source as a store of some kind, which is prepared once; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("stores")

    def open_kind(storage: StorageConfig) -> PreparedStore:
        name = f"{storage.dtype}-{storage.compression}-{storage.shard_mib}"
        return prepare(make_data_config(source, storage=storage), folder / name)

    return open_kind


@pytest.fixture
def store(store_of_kind: Callable[[StorageConfig], PreparedStore]) -> PreparedStore:
    return store_of_kind(StorageConfig())
