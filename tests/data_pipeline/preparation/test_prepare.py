import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader, rank_slice
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset


@pytest.fixture
def dataset() -> xr.Dataset:
    return make_dataset()


@pytest.fixture
def store(dataset: xr.Dataset, tmp_path: Path) -> PreparedStore:
    dataset.to_netcdf(tmp_path / "data.nc")
    return prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")


def test_store_holds_the_source(store: PreparedStore, dataset: xr.Dataset) -> None:
    names = ["mean_sea_level_pressure", "2m_temperature"]
    xr.testing.assert_equal(store.dataset().compute(), dataset[names])
    assert store.channels.labels == names


def test_zarr_reads_what_is_mapped(store: PreparedStore) -> None:
    fields = zarr.open_group(store.path, mode="r")["fields"]
    assert isinstance(fields, zarr.Array)
    mapped = store.states[(slice(None), slice(None), slice(None), slice(None))]
    np.testing.assert_array_equal(fields[...], mapped)


def test_any_layout_gives_the_same_canonical_dataset(dataset: xr.Dataset, tmp_path: Path) -> None:
    turned = dataset.isel(latitude=slice(None, None, -1)).transpose("longitude", "latitude", "time")
    turned = turned.assign_coords(longitude=(turned["longitude"] + 180) % 360 - 180)
    turned = turned.sortby("longitude").rename(
        latitude="lat", longitude="lon", time="valid_time", mean_sea_level_pressure="msl"
    )
    dataset.to_netcdf(tmp_path / "a.nc")
    turned.to_zarr(tmp_path / "b.zarr", consolidated=False, zarr_format=3)
    first = open_source(SourceConfig(path=str(tmp_path / "a.nc"))).compute()
    second = open_source(SourceConfig(path=str(tmp_path / "b.zarr"))).compute()
    xr.testing.assert_equal(first, second)


def test_files_of_a_folder_are_joined(dataset: xr.Dataset, tmp_path: Path) -> None:
    dataset.drop_vars("height").isel(time=slice(70, None)).to_netcdf(tmp_path / "1.nc")
    dataset.drop_vars("height").isel(time=slice(0, 70)).to_netcdf(tmp_path / "2.nc")
    joined = open_source(SourceConfig(path=str(tmp_path))).compute()
    xr.testing.assert_equal(joined, dataset.drop_vars("height"))


def test_statistics_see_the_training_period_alone(
    store: PreparedStore, dataset: xr.Dataset, tmp_path: Path
) -> None:
    training = dataset["2m_temperature"].sel(time=slice("2001-01-01", "2001-03-01"))
    values = training.values.astype(float)
    weights = LatLonGrid.from_dataset(dataset).area_weights()
    mean = (weights * values).mean()
    std = np.sqrt((weights * (values - mean) ** 2).mean())
    change = np.diff(values, axis=0)
    change_std = np.sqrt((weights * (change - (weights * change).mean()) ** 2).mean())
    found = [getattr(store.statistics, name)[1] for name in ("mean", "std", "diff_std")]
    np.testing.assert_allclose(found, [mean, std, change_std], rtol=1e-9)


def test_climatology_fits_harmonics_exactly(tmp_path: Path) -> None:
    data = make_dataset(3 * 365)
    phase = (data["time"] - data["time"].astype("datetime64[Y]")) / np.timedelta64(1, "D")
    angle = 2 * np.pi * phase.values / 365.2425
    season = 1e5 + 500 * np.cos(angle) - 200 * np.sin(2 * angle)
    data["mean_sea_level_pressure"][:] = season[:, None, None]
    data.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(
        tmp_path / "data.nc",
        climatology_harmonics=2,
        train=Period(start="2001", end="2002-01-15"),
        validation=Period(start="2002-02-01", end="2002-03-01"),
        test=Period(start="2003-01-01", end="2003-12-01"),
    )
    coefficients = prepare(config, tmp_path / "data.zarr").climatology()
    found = climatology_at(coefficients, data["time"].values)["mean_sea_level_pressure"]
    np.testing.assert_allclose(found.values, data["mean_sea_level_pressure"].values, rtol=1e-6)


def test_windows_are_consecutive_and_stay_in_their_period(store: PreparedStore) -> None:
    period = Period(start="2001-02-01", end="2001-02-20")
    windows = WindowDataset(store, period, num_history=2, num_steps=3, forcings=["day_of_year_sin"])
    assert len(windows) == 20 - 5 + 1
    sample = windows.read(np.array([0, 15]))
    fields = store.dataset()["2m_temperature"].compute()
    for row, newest in enumerate(sample.time.numpy().astype("datetime64[ns]")):
        day = np.timedelta64(1, "D")
        inputs = fields.sel(time=[newest - day, newest]).values
        targets = fields.sel(time=newest + day * np.arange(1, 4)).values
        np.testing.assert_array_equal(sample.state[row, :, 1], inputs)
        np.testing.assert_array_equal(sample.target[row, :, 1], targets)
    assert sample.forcing.shape == (2, 3, 1, 6, 12)


def test_no_window_crosses_a_gap(dataset: xr.Dataset, tmp_path: Path) -> None:
    dataset.drop_isel(time=10).to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", allow_gaps=True)
    store = prepare(config, tmp_path / "data.zarr")
    windows = WindowDataset(store, config.train, num_history=1, num_steps=1)
    assert 9 not in windows.starts
    assert len(windows) == 60 - 1 - 2


def test_an_epoch_goes_on_where_it_stopped(store: PreparedStore) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    loader = Loader(windows, 8, seed=3, shuffle=True)
    whole = [sample.time.tolist() for sample in loader.epoch(5)]
    rest = [sample.time.tolist() for sample in loader.epoch(5, first_sample=24)]
    assert rest == whole[3:]
    assert sorted(time for batch in whole for time in batch) == sorted(
        {time for batch in whole for time in batch}
    )
    assert whole != [sample.time.tolist() for sample in loader.epoch(6)]


@given(
    num_windows=st.integers(1, 60),
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 7),
)
def test_ranks_share_every_batch(num_windows: int, batch_size: int, world_size: int) -> None:
    losses = np.random.default_rng(num_windows).random(num_windows)
    order = np.random.default_rng(1).permutation(num_windows)
    for start in range(0, num_windows, batch_size):
        batch = order[start : start + batch_size]
        shares = [rank_slice(batch, rank, world_size) for rank in range(world_size)]
        assert len({len(share.indices) for share in shares}) == 1
        indices, weights = (np.concatenate(parts) for parts in zip(*shares, strict=True))
        np.testing.assert_array_equal(indices[weights > 0], batch)
        np.testing.assert_allclose((weights * losses[indices]).mean(), losses[batch].mean(), 1e-6)


def test_other_ranks_go_on_with_the_same_batches(store: PreparedStore) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    whole = list(Loader(windows, 12, seed=3, shuffle=True).rank_slices(2))
    for world_size in (2, 3, 5):
        ranks = [
            Loader(windows, 12, seed=3, shuffle=True, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        rests = [loader.rank_slices(2, first_sample=24) for loader in ranks]
        for expected, *parts in zip(whole[2:], *rests, strict=True):
            kept = [part.indices[part.weights > 0] for part in parts]
            np.testing.assert_array_equal(np.concatenate(kept), expected.indices)
    assert next(ranks[3].epoch(2)).weight.tolist() == [1.25, 1.25, 1.25]
    assert next(ranks[4].epoch(2)).weight.tolist() == [0, 0, 0]


@pytest.mark.parametrize("read_ahead", [0, 1, 5])
def test_batches_read_ahead_are_those_read_alone(store: PreparedStore, read_ahead: int) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 2)
    loader = Loader(windows, 7, seed=0, shuffle=True, read_ahead=read_ahead)
    order = np.random.default_rng([0, 1]).permutation(len(windows))
    memory = set()
    for repeat in range(2):
        for index, sample in enumerate(loader.epoch(1)):
            alone = windows.read(order[7 * index : 7 * index + 7])
            for ours, expected in zip(sample, alone, strict=True):
                assert torch.equal(ours, expected)
            memory.add(sample.state.untyped_storage().data_ptr())
        assert index + 1 == loader.num_batches, repeat
    assert len(memory) <= read_ahead + 1


def test_an_epoch_that_is_left_early_frees_its_threads(store: PreparedStore) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)
    loader = Loader(windows, 4, seed=0, shuffle=False)
    before = threading.active_count()
    epoch = loader.epoch(0)
    first = next(epoch).state.clone()
    epoch.close()
    assert threading.active_count() == before
    assert torch.equal(next(loader.epoch(0)).state, first)


def test_what_fails_in_a_thread_reaches_the_caller(
    store: PreparedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1)

    def fail(*_: object) -> None:
        raise OSError("disk gone")

    monkeypatch.setattr(store.states.reader, "read_into", fail)
    with pytest.raises(OSError, match="disk gone"):
        next(Loader(windows, 4, seed=0, shuffle=False).epoch(0))


def with_nan(data: xr.Dataset) -> xr.Dataset:
    data["2m_temperature"][5, 2, 3] = np.nan
    return data


def with_units(units: str) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(data: xr.Dataset) -> xr.Dataset:
        data["mean_sea_level_pressure"].attrs["units"] = units
        return data

    return change


BAD_DATA: list[tuple[Callable[[xr.Dataset], xr.Dataset], str, list[str]]] = [
    (lambda d: d.drop_vars("2m_temperature"), "missing-variable", ["2m_temperature"]),
    (with_units("hPa"), "units-mismatch", ["mean_sea_level_pressure", "'hPa'", "'Pa'"]),
    (with_units(""), "missing-units", ["mean_sea_level_pressure", "data.source.units"]),
    (with_nan, "not-finite", ["2m_temperature", "2001-01-06"]),
    (lambda d: d.drop_isel(time=10), "gap-in-time", ["2001-01-10", "data.allow_gaps"]),
    (lambda d: d.isel(time=[0, 1, 1, 2, 3]), "unordered-times", ["repeats", "index 2"]),
    (lambda d: d.isel(time=[0, 2, 1, 3]), "unordered-times", ["decreases", "index 2"]),
    (lambda d: d.isel(time=slice(0, 70)), "no-times", ["data.test", " 0 states"]),
    (lambda d: d.isel(time=slice(0, None, 2)), "timestep-mismatch", ["24 h", "48 h"]),
    (lambda d: d.isel(longitude=0, drop=True), "missing-axis", ["longitude"]),
]


@pytest.mark.parametrize(("change", "code", "named"), BAD_DATA)
def test_bad_data_is_rejected(
    change: Callable[[xr.Dataset], xr.Dataset],
    code: str,
    named: list[str],
    dataset: xr.Dataset,
    tmp_path: Path,
) -> None:
    change(dataset).to_netcdf(tmp_path / "data.nc")
    with rejects(code, *named):
        prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")
    assert [path.name for path in tmp_path.iterdir()] == ["data.nc"]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with rejects("missing-file", "nothing.nc"):
        prepare(make_data_config(tmp_path / "nothing.nc"), tmp_path / "data.zarr")


def test_stated_units_replace_a_wrong_label(dataset: xr.Dataset, tmp_path: Path) -> None:
    with_units("hPa")(dataset).to_netcdf(tmp_path / "data.nc")
    source = SourceConfig(path=str(tmp_path / "data.nc"), units={"mean_sea_level_pressure": "Pa"})
    config = make_data_config(tmp_path / "data.nc", source=source)
    assert next(iter(prepare(config, tmp_path / "data.zarr").channels)).units == "Pa"


def test_a_store_of_another_configuration_is_not_reused(
    store: PreparedStore, tmp_path: Path
) -> None:
    same = make_data_config(tmp_path / "data.nc")
    assert prepare(same, store.path).fingerprint == store.fingerprint
    other = make_data_config(tmp_path / "data.nc", prognostic=["2m_temperature"])
    with rejects("other-configuration", "data.prognostic"):
        prepare(other, store.path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": None}, "one of data.source, data.simulation and data.pde"),
        ({"prognostic": []}, r"data\.prognostic"),
        ({"train": Period(start="2001-01-01", end="2001-03-02")}, "train must end before"),
        ({"forcings": ["moon"]}, "unknown names.*moon"),
    ],
)
def test_bad_configuration_is_rejected(
    changes: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        make_data_config(tmp_path, **changes)


def test_config_round_trip(tmp_path: Path) -> None:
    assert isinstance(make_data_config(tmp_path), DataConfig)
    with pytest.raises(ValueError, match="ISO dates"):
        Period(start="yesterday", end="2001-01-01")
