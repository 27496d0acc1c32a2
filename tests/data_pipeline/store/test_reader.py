"""Training stores of every kind: what readers see, errors of storing, crops, damage."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.states import MappedReader, ZarrReader, contiguous_runs
from tests.builders.experiments import make_data_config, make_dataset

KINDS = [
    StorageConfig(dtype=dtype, compression=compression, shard_mib=0.003)
    for dtype in ("float32", "float16", "bfloat16", "int16")
    for compression in ("none", "zstd")
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return tmp_path / "data.nc"


def kind_of(storage: StorageConfig) -> str:
    return f"{storage.dtype}-{storage.compression}"


@pytest.mark.parametrize("storage", KINDS, ids=kind_of)
def test_every_kind_of_store_holds_the_source(
    storage: StorageConfig, source: Path, tmp_path: Path
) -> None:
    store = prepare(make_data_config(source, storage=storage), tmp_path / "data.zarr")
    expected = store.channels.stack(make_dataset()).values
    found = store.channels.stack(store.dataset()).values
    error = found.astype(np.float64) - expected
    weights = store.grid.area_weights()
    root_mean_square = np.sqrt((weights * error**2).mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(store.rounding, root_mean_square, rtol=1e-9)
    limits = {"float32": 0, "float16": 1e-3, "bfloat16": 5e-3, "int16": 1e-3}
    assert (store.rounding <= limits[storage.dtype] * store.statistics.diff_std).all()
    store.verify()


@pytest.mark.parametrize("storage", KINDS, ids=kind_of)
def test_batches_are_the_stored_values(
    storage: StorageConfig, source: Path, tmp_path: Path
) -> None:
    store = prepare(make_data_config(source, storage=storage), tmp_path / "data.zarr")
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 2)
    loader = Loader(windows, 7, seed=0, shuffle=True)
    fields = store.channels.stack(store.dataset()).values
    for share, sample in zip(loader.rank_slices(0), loader.epoch(0), strict=True):
        rows = windows.starts[share.indices]
        np.testing.assert_array_equal(sample.state[:, 0], fields[rows])
        np.testing.assert_array_equal(sample.target[:, 1], fields[rows + 2])
    raw = next(Loader(windows, 7, seed=0, shuffle=True, unpack=False).epoch(0))
    assert raw.state.element_size() == store.packing.stored.itemsize
    np.testing.assert_array_equal(
        store.packing.unpack(raw.state.numpy()), windows.read(loader_first(loader)).state
    )


def test_states_of_zeros_are_written_too(tmp_path: Path) -> None:
    data = make_dataset()
    data["2m_temperature"][10:30] = 0
    data["mean_sea_level_pressure"][10:30] = 0
    data.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", storage=StorageConfig(shard_mib=0.003))
    found = prepare(config, tmp_path / "data.zarr").dataset()["2m_temperature"]
    np.testing.assert_array_equal(found, data["2m_temperature"])


def loader_first(loader: Loader) -> np.ndarray:
    return next(loader.rank_slices(0)).indices


def test_xarray_opens_a_store_as_it_is(source: Path, tmp_path: Path) -> None:
    storage = StorageConfig(dtype="int16", compression="zstd")
    store = prepare(make_data_config(source, storage=storage), tmp_path / "data.zarr")
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
    with pytest.raises(InputError, match=r"1 files of .* have changed .*c/2/0/0/0"):
        store.verify()


BOXES = [
    CropConfig(north=40.0, south=-80.0, west=30.0, east=200.0),
    CropConfig(north=90.0, south=0.0, west=-70.0, east=70.0),
    CropConfig(north=90.0, south=0.0, west=290.0, east=70.0),
    CropConfig(south=-60.0),
]


@pytest.mark.parametrize("storage", [KINDS[0], KINDS[7]], ids=kind_of)
@pytest.mark.parametrize("crop", BOXES)
def test_a_crop_is_a_part_of_everything(
    crop: CropConfig, storage: StorageConfig, source: Path, tmp_path: Path
) -> None:
    path = tmp_path / "data.zarr"
    whole = prepare(make_data_config(source, storage=storage), path)
    store = prepare(make_data_config(source, storage=storage, crop=crop), path)
    grid = store.grid
    assert crop.south <= grid.latitude[-1] < grid.latitude[0] <= crop.north
    columns = {axis: xr.DataArray(v, dims=axis) for axis, v in grid.coords.items()}
    chosen = {"latitude": columns["latitude"], "longitude": columns["longitude"] % 360}
    for ours, theirs in (
        (store.dataset(), whole.dataset()),
        (store.climatology(), whole.climatology()),
    ):
        expected = theirs.sel(chosen, method="nearest")
        np.testing.assert_array_equal(ours["2m_temperature"], expected["2m_temperature"])
    assert store.normalized_static().shape[1:] == grid.shape
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    sample = next(Loader(windows, 5, seed=0, shuffle=False).epoch(0))
    expected = store.channels.stack(store.dataset().isel(time=slice(0, 5))).values
    np.testing.assert_array_equal(sample.state[:, 0], expected)


def test_a_crop_across_the_prime_meridian_increases_eastward() -> None:
    grid, region = CropConfig(west=-70.0, east=70.0).apply(LatLonGrid.equiangular(6, 12))
    assert grid.longitude == (-60, -30, 0, 30, 60)
    assert region.columns == (slice(10, 12), slice(0, 3))
    assert CropConfig(west=290.0, east=430.0).apply(LatLonGrid.equiangular(6, 12)) == (grid, region)


def test_a_crop_must_leave_a_grid() -> None:
    with pytest.raises(InputError, match="leaves 6 rows and 1 columns"):
        CropConfig(west=29.0, east=31.0).apply(LatLonGrid.equiangular(6, 12))
    with pytest.raises(ValueError, match="-90 <= south < north <= 90"):
        CropConfig(north=10.0, south=20.0)


READ_TRUNCATED = """
import os, sys
from pathlib import Path
import numpy as np
from data_pipeline.store.packing import Packing
from data_pipeline.store.states import MappedReader, ReadWindow, shard_path

path, rows = Path(sys.argv[1]), int(sys.argv[2])
reader = MappedReader(path, (1, 1, 64, 1024), np.dtype("<f4"), 1, ReadWindow(rows=slice(0, rows)))
buffer = np.zeros((1, *reader.shape[1:]), np.float32)
reader.read_into(buffer, np.array([0]))  # maps the file
os.truncate(shard_path(path, 0), 32 * 1024 * 4)
buffer[:] = 0
reader.read_into(buffer, np.array([0]))
assert (buffer == 1).all()
"""


@pytest.mark.parametrize(("rows", "status"), [(32, 0), (64, -7)])
def test_a_crop_touches_its_bytes_alone(rows: int, status: int, tmp_path: Path) -> None:
    """Reading what has been cut off a mapped file ends the process with SIGBUS."""
    file = tmp_path / "fields/c/0/0/0/0"
    file.parent.mkdir(parents=True)
    index = np.array([0, 64 * 1024 * 4], "<u8").tobytes()
    file.write_bytes(np.ones((64, 1024), "<f4").tobytes() + index + bytes(4))
    command = [sys.executable, "-c", READ_TRUNCATED, str(tmp_path), str(rows)]
    finished = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, check=False)
    assert finished.returncode == status


@given(indices=st.lists(st.integers(0, 30), max_size=20), length=st.integers(1, 8))
def test_runs_cover_the_indices_within_shards(indices: list[int], length: int) -> None:
    array = np.array(indices, int)
    runs = contiguous_runs(array, length)
    assert [i for start, stop in runs for i in range(start, stop)] == list(range(len(indices)))
    for start, stop in runs:
        run = array[start:stop]
        np.testing.assert_array_equal(run, run[0] + np.arange(stop - start))
        assert run[0] // length == run[-1] // length


def test_processes_read_what_threads_read(source: Path, tmp_path: Path) -> None:
    store = prepare(make_data_config(source, storage=KINDS[3]), tmp_path / "data.zarr")
    windows = WindowDataset(
        store, Period(start="2001-01-01", end="2001-03-01"), 1, 1, ["day_of_year_sin"]
    )
    ours = Loader(windows, 7, seed=0, shuffle=True, workers="processes")
    expected = Loader(windows, 7, seed=0, shuffle=True)
    next(ours.epoch(0))  # an epoch that is left early leaves the processes at rest
    for _ in range(2):
        for sample, other in zip(ours.epoch(1), expected.epoch(1), strict=True):
            for found, wanted in zip(sample, other, strict=True):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("subset", "months"),
    [({"months": [2]}, {2}), ({"months": [12, 1]}, {1}), ({"years": [2001]}, {1, 2})],
)
def test_a_subset_takes_seasons_and_years(
    subset: dict[str, list[int]], months: set[int], source: Path, tmp_path: Path
) -> None:
    config: DataConfig = make_data_config(source, subset=SubsetConfig(**subset, stride=3))
    store = prepare(config, tmp_path / "data.zarr")
    windows = WindowDataset(store, config.train, 1, 1, subset=config.subset)
    newest = store.times[windows.starts]
    assert {int(month) for month in newest.astype("datetime64[M]").astype(int) % 12 + 1} == months
    assert (np.diff(windows.starts) == 3).all()
    with pytest.raises(InputError, match=r"holds no 2 consecutive states.*data\.subset"):
        WindowDataset(store, config.train, 1, 1, subset=SubsetConfig(years=[1999]))
    with pytest.raises(ValueError, match="months of 1 to 12"):
        SubsetConfig(months=[13])


def test_a_store_of_another_format_is_refused(source: Path, tmp_path: Path) -> None:
    path = prepare(make_data_config(source), tmp_path / "data.zarr").path
    zarr.open_group(path, mode="r+").attrs["format"] = 1
    with pytest.raises(InputError, match="has format 1, this version reads format"):
        PreparedStore(path)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_one_variable_is_read_without_the_others(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str, compression: str
) -> None:
    storage = StorageConfig(dtype=dtype, compression=compression)
    store = prepare(make_data_config(source, storage=storage), tmp_path / "data.zarr")
    every = store.states[:, :, :, :]
    read: list[int] = []
    for reader in (MappedReader, ZarrReader):
        whole = reader.read_into

        def counted(self, buffer, indices, whole=whole) -> None:  # noqa: ANN001
            read.append(buffer.shape[1])
            whole(self, buffer, indices)

        monkeypatch.setattr(reader, "read_into", counted)
    dataset, labels = store.dataset(), store.channels.labels
    for index, channel in enumerate(store.channels):
        field = dataset[channel.name].isel(time=slice(3, 9))
        field = field if channel.level is None else field.sel(level=channel.level)
        np.testing.assert_array_equal(field.values, every[3:9, index])
    assert len(labels) > 1
    assert set(read) == {1}
    np.testing.assert_array_equal(store.states[2, [1, 0], :, 1], every[2, [1, 0], :, 1])
