"""Missing values are filled as asked, and only by what the training period knows."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.filling import FillRule
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

NAME = "2m_temperature"


def with_holes() -> xr.Dataset:
    """Land at one point, ice at another for ten days of January, a hole in the test period."""
    dataset = make_dataset()
    values = dataset[NAME].values
    values[:, 2, 3] = np.nan
    values[5:15, 1, 1] = np.nan
    values[100, 4, 4] = np.nan
    return dataset


def prepared(tmp_path: Path, fill: dict[str, FillRule]) -> PreparedStore:
    with_holes().to_netcdf(tmp_path / "data.nc")
    return prepare(make_data_config(tmp_path / "data.nc", fill=fill), tmp_path / "data.zarr")


def test_a_number_stands_for_itself(tmp_path: Path) -> None:
    store, original = prepared(tmp_path, {NAME: 271.5}), with_holes()[NAME]
    found = store.dataset()[NAME].values
    missing = np.isnan(original.values)
    assert (found[missing] == 271.5).all()
    np.testing.assert_array_equal(found[~missing], original.values[~missing])
    assert store.static_channels.labels == ["height"]


def test_the_climatology_is_the_mean_of_the_month_in_training(tmp_path: Path) -> None:
    store, original = prepared(tmp_path, {NAME: "climatology"}), with_holes()[NAME]
    found = store.dataset()[NAME]
    training = original.sel(time=slice("2001-01-01", "2001-03-01"))
    january = training[(training["time"].dt.month == 1).values]
    np.testing.assert_allclose(found[5:15, 1, 1], january[:, 1, 1].mean(), rtol=1e-6)
    # April is not in the training period: the mean of all its months.
    np.testing.assert_allclose(found[100, 4, 4], training[:, 4, 4].mean(), rtol=1e-6)
    weights = store.grid.area_weights()
    weights[2, 3] = 0
    area_mean = (weights * training.mean("time").fillna(0)).sum() / weights.sum()
    np.testing.assert_allclose(found[:, 2, 3], area_mean, rtol=1e-6)


def test_a_channel_says_where_values_are_missing(tmp_path: Path) -> None:
    store = prepared(tmp_path, {NAME: "climatology"})
    assert store.static_channels.labels == ["height", f"{NAME}_missing"]
    mask = np.asarray(store._read("static"))[1]
    expected = np.zeros((6, 12))
    expected[2, 3], expected[1, 1] = 1, 10 / 60
    np.testing.assert_allclose(mask, expected, atol=1e-7)
    assert store.normalized_static().shape == (2, 6, 12)


@pytest.mark.parametrize(
    ("fill", "code", "named"),
    [
        ({}, "not-finite", "data.fill={2m_temperature: climatology}"),
        ({"mean_sea_level_pressure": 0.0}, "not-finite", "2m_temperature"),
        ({"sst": 0.0}, "bad-setting", "sst"),
    ],
)
def test_other_missing_values_are_rejected(
    tmp_path: Path, fill: dict[str, FillRule], code: str, named: str
) -> None:
    with rejects(code, named):
        prepared(tmp_path, fill)


def test_infinite_values_are_never_filled(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset[NAME][3, 0, 0] = np.inf
    dataset.to_netcdf(tmp_path / "data.nc")
    with rejects("not-finite", NAME):
        prepare(make_data_config(tmp_path / "data.nc", fill={NAME: 0.0}), tmp_path / "data.zarr")
