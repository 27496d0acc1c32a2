"""Missing values are filled as asked, and only by what the training period knows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel
from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.filling import FillRule, rule_of
from data_pipeline.store.packing import StorageConfig, StoredType
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


@pytest.mark.parametrize(("key", "rule"), [("t2m", 271.5), (NAME, "climatology")])
def test_the_store_knows_what_was_missing(tmp_path: Path, key: str, rule: FillRule) -> None:
    store, original = prepared(tmp_path, {key: rule}), with_holes()
    for name in ("mean_sea_level_pressure", NAME):
        np.testing.assert_array_equal(store.observed()[name], original[name])
    weights, expected = store.point_weights(), np.ones((2, 6, 12))
    expected[1, 2, 3], expected[1, 1, 1] = 0, 50 / 60
    assert weights is not None
    np.testing.assert_allclose(weights, expected, atol=1e-7)


@pytest.mark.parametrize(("rule", "dtype"), [(271.5, "int16"), ("climatology", "float32")])
def test_a_point_that_is_never_there_has_one_value(
    tmp_path: Path, rule: FillRule, dtype: StoredType
) -> None:
    with_holes().to_netcdf(tmp_path / "data.nc")
    storage = StorageConfig(dtype=dtype)
    config = make_data_config(tmp_path / "data.nc", fill={NAME: rule}, storage=storage)
    store = prepare(config, tmp_path / "data.zarr")
    values = store.filled_values()
    assert values is not None
    assert np.argwhere(np.isfinite(values)).tolist() == [[1, 2, 3]]
    assert (store.states.read(np.arange(120))[:, 1, 2, 3] == values[1, 2, 3]).all()
    assert store.select_rows(slice(3, 6)).filled_values() is None


def test_cells_count_as_missing_where_more_than_half_of_them_is(tmp_path: Path) -> None:
    """A column of ten of twelve cells, on a grid of half as many rows and columns."""
    data = make_dataset()
    data[NAME][:, :, :3] = np.nan
    data.to_netcdf(tmp_path / "data.nc")
    grid = GridConfig(num_latitudes=3, num_longitudes=6)
    config = make_data_config(tmp_path / "data.nc", fill={NAME: 250.0}, grid=grid)
    store = prepare(config, tmp_path / "data.zarr")
    weights = store.point_weights()
    assert weights is not None
    # Cells of 60 degrees around 0 and 60 degrees east: 45 of 60 and 45 of 60 degrees are missing.
    np.testing.assert_allclose(weights[1, 1, :3], [0.25, 0.25, 1], atol=0.01)
    missing = np.isnan(store.observed()[NAME].values)
    np.testing.assert_array_equal(missing, weights[None, 1] < 0.5 + 0 * missing)


def test_states_without_values_are_gaps(tmp_path: Path) -> None:
    data = with_holes()
    data[NAME][20] = data[NAME][70] = np.nan
    data.to_netcdf(tmp_path / "data.nc")
    storage = StorageConfig(shard_mib=0.03, dtype="int16")  # blocks of ten states
    config = make_data_config(tmp_path / "data.nc", fill={NAME: "climatology"}, storage=storage)
    with rejects("gap-in-time", NAME, "2001-01-21T00:00", "data.allow_gaps=true"):
        prepare(config, tmp_path / "data.zarr")
    store = prepare(replace(config, allow_gaps=True), tmp_path / "data.zarr")
    present = np.delete(np.arange(120), [20, 70])
    np.testing.assert_array_equal(store.times, data["time"].values[present])
    pressure = data["mean_sea_level_pressure"].values
    found = store.dataset()["mean_sea_level_pressure"].values
    np.testing.assert_allclose(found, pressure[present], atol=0.1)
    np.testing.assert_array_equal(np.isnan(store.observed()[NAME]), data[NAME].isnull()[present])
    # Statistics see neither the gap nor changes across it.
    training = pressure[np.delete(np.arange(60), 20)].astype(float)
    weights = store.grid.area_weights()
    assert store.statistics.mean[0] == pytest.approx((weights * training).mean(), abs=0.1)
    changes = np.diff(pressure[:60].astype(float), axis=0)
    changes = changes[np.delete(np.arange(59), [19, 20])]
    assert store.statistics.diff_std[0] == pytest.approx(
        np.sqrt((weights * (changes - (weights * changes).mean()) ** 2).mean()), rel=1e-3
    )
    windows = WindowDataset(store, config.train, num_history=1, num_steps=1)
    assert len(windows) == 60 - 1 - 2
    store.verify()


def test_a_variable_without_any_state_is_rejected(tmp_path: Path) -> None:
    data = make_dataset()
    data[NAME][:] = np.nan
    data.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", fill={NAME: 0.0}, allow_gaps=True)
    with rejects("no-times", "data.train", "0 states"):
        prepare(config, tmp_path / "data.zarr")


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


def test_a_rule_of_a_channel_precedes_that_of_its_variable() -> None:
    low, high, sea = (
        Channel(name="geopotential", level=1000),
        Channel(name="geopotential", level=500),
        Channel(name="sea_surface_temperature"),
    )
    rules: dict[str, FillRule] = {"z": "climatology", "z1000": 0.0, "sst": 271.0}
    assert [rule_of(rules, channel) for channel in (low, high, sea)] == [0.0, "climatology", 271.0]
    assert rule_of({"z1000": 0.0}, high) is None
