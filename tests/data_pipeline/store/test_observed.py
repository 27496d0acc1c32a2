"""What the source did not have is NaN, however states are indexed."""

import pickle

import numpy as np
import pytest

from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.experiments import make_data_config, make_dataset

NAME = "2m_temperature"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    """Land at a point, a hole in one state, and a state that is a gap."""
    folder, data = tmp_path_factory.mktemp("observed"), make_dataset()
    data[NAME][:, 2, 3] = data[NAME][5, 1, 1] = data[NAME][3] = np.nan
    data.to_netcdf(folder / "data.nc")
    config = make_data_config(folder / "data.nc", fill={NAME: 280.0}, allow_gaps=True)
    return prepare(config, folder / "data.zarr")


@pytest.mark.parametrize(
    "index",
    [
        {"time": slice(2, 6)},
        {"time": 4},
        {"time": [6, 4]},
        {"latitude": slice(1, 3), "longitude": 3},
        {"time": slice(4, 5), "latitude": 1, "longitude": [1, 2]},
    ],
)
def test_missing_values_stay_where_they_are(store: PreparedStore, index: dict) -> None:
    expected = np.delete(make_dataset()[NAME].values, 3, axis=0)
    expected[:, 2, 3] = expected[4, 1, 1] = np.nan
    whole = store.dataset()[NAME].copy(data=expected)
    observed = store.observed()
    np.testing.assert_array_equal(observed[NAME].isel(index), whole.isel(index))
    assert observed["mean_sea_level_pressure"].isel(index).notnull().all()


def test_a_part_of_the_grid_and_of_the_channels(store: PreparedStore) -> None:
    cropped = PreparedStore(store.path, CropConfig(south=0.0, west=60.0, east=180.0)).prognostic
    missing = np.isnan(cropped.observed()[NAME].values)
    assert np.argwhere(missing).tolist() == [[time, 2, 1] for time in range(119)]
    restored = pickle.loads(pickle.dumps(cropped)).observed()
    np.testing.assert_array_equal(np.isnan(restored[NAME]), missing)
