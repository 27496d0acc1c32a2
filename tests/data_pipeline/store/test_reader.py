"""Training stores of every kind: what readers see, errors of storing, crops, damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.stores import KINDS, kind_of


@pytest.mark.parametrize("storage", KINDS, ids=kind_of)
def test_every_kind_of_store_holds_the_source(
    storage: StorageConfig, store_of_kind: Callable[[StorageConfig], PreparedStore]
) -> None:
    store = store_of_kind(storage)
    expected = store.channels.stack(make_dataset()).values
    found = store.channels.stack(store.dataset()).values
    error = found.astype(np.float64) - expected
    weights = store.grid.area_weights()
    root_mean_square = np.sqrt((weights * error**2).mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(store.rounding, root_mean_square, rtol=1e-9)
    limits = {"float32": 0, "float16": 1e-3, "bfloat16": 5e-3, "int16": 1e-3}
    assert (store.rounding <= limits[storage.dtype] * store.statistics.diff_std).all()
    store.verify()


def test_states_of_zeros_are_written_too(tmp_path: Path) -> None:
    data = make_dataset().rename({"2m_temperature": "rain_rate"})
    data["rain_rate"][10:30] = 0
    data.to_netcdf(tmp_path / "data.nc")
    storage = StorageConfig(shard_mib=0.003)
    config = make_data_config(tmp_path / "data.nc", storage=storage, prognostic=["rain_rate"])
    found = prepare(config, tmp_path / "data.zarr").dataset()["rain_rate"]
    np.testing.assert_array_equal(found, data["rain_rate"])


def test_xarray_opens_a_store_as_it_is(
    store_of_kind: Callable[[StorageConfig], PreparedStore],
) -> None:
    store = store_of_kind(StorageConfig(dtype="int16", compression="zstd"))
    with xr.open_zarr(store.path, consolidated=True) as opened:
        assert opened["fields"].dims == ("time", "channel", "latitude", "longitude")
        assert opened["channel"].values.tolist() == store.channels.labels
        np.testing.assert_array_equal(opened["time"], store.times)
        values = opened["fields"] * opened["scale"] + opened["offset"]
        picked = values.sel(channel="2m_temperature").transpose("time", "latitude", "longitude")
        expected = make_dataset()["2m_temperature"]
        np.testing.assert_allclose(picked, expected, atol=0.01)
        assert opened.attrs["roles"] == {
            "prognostic": store.channels.labels,
            "diagnostic": [],
            "static": ["height"],
            "forcing": ["day_of_year_sin"],
        }


def test_smallest_largest_and_missing_values_of_the_training_period(tmp_path: Path) -> None:
    data = make_dataset()
    data["2m_temperature"][5, 2, 3:6] = np.nan
    data["2m_temperature"][100, 2, 3] = np.nan  # in the test period
    data.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", fill={"2m_temperature": 999.0})
    statistics = prepare(config, tmp_path / "data.zarr").statistics
    training = data.sel(time=slice("2001-01-01", "2001-03-01"))
    assert statistics.num_missing.tolist() == [0, 3]
    assert statistics.maximum[1] == 999
    assert statistics.minimum[1] == training["2m_temperature"].min()
    assert statistics.maximum[0] == training["mean_sea_level_pressure"].max()


def test_the_length_of_blocks_changes_no_statistic(source: Path, tmp_path: Path) -> None:
    stores = [
        prepare(
            make_data_config(source, storage=StorageConfig(shard_mib=mib), climatology_harmonics=0),
            tmp_path / f"{mib}.zarr",
        )
        for mib in (0.0006, 0.004, 64.0)
    ]
    for other in stores[1:]:
        for ours, theirs in zip(stores[0].statistics, other.statistics, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10)
        xr.testing.assert_identical(stores[0].climatology(), other.climatology())


def test_damage_to_a_compressed_store_is_found(source: Path, tmp_path: Path) -> None:
    storage = StorageConfig(compression="zstd", shard_mib=0.003)
    store = prepare(make_data_config(source, storage=storage), tmp_path / "data.zarr")
    damaged = tmp_path / "data.zarr/fields/c/2/0/0/0"
    values = bytearray(damaged.read_bytes())
    values[200] ^= 255
    damaged.write_bytes(values)
    with rejects("damaged-store", "1 files", "c/2/0/0/0"):
        store.verify()


def test_a_store_of_another_format_is_refused(source: Path, tmp_path: Path) -> None:
    path = prepare(make_data_config(source), tmp_path / "data.zarr").path
    zarr.open_group(path, mode="r+").attrs["format"] = 1
    with rejects("other-format", "format 1"):
        PreparedStore(path)
