"""Windows of consecutive states within a period."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from data_pipeline.calendars import calendar_attrs, calendar_of
from data_pipeline.loading.windows import Unpacking, WindowDataset
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preprocessing.climatology import ALL_HOURS
from data_pipeline.simulation.config import SimulationConfig
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.packing import Packing, StorageConfig, StoredType
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.stores import hourly_settings


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


def test_a_limited_area_sees_the_state_that_a_step_leads_to(store: PreparedStore) -> None:
    period = Period(start="2001-02-01", end="2001-02-20")
    options = {"num_history": 2, "num_steps": 3, "forcings": ["day_of_year_sin"]}
    plain, driven = (WindowDataset(store, period, **options, is_driven=d) for d in (False, True))
    before, after = plain.read(np.array([0, 15])), driven.read(np.array([0, 15]))
    assert torch.equal(after.forcing[:, :, :1], before.forcing)
    assert torch.equal(after.forcing[:, :, 1:], before.target)
    assert torch.equal(after.state, before.state)
    assert torch.equal(after.target, before.target)


def _prepared(folder: Path, times: np.ndarray, calendar: str, timestep: str) -> PreparedStore:
    dataset = make_dataset(len(times)).assign_coords(time=times)
    dataset.attrs |= calendar_attrs(calendar)
    start, *inner, end = np.datetime_as_string(times[[0, -40, -39, -20, -19, -1]], "D")
    config = make_data_config(
        folder / "none.nc",
        timestep=timestep,
        timestep_hours=None,
        allow_gaps=timestep == "1MS",
        train=Period(start=start, end=inner[0]),
        validation=Period(start=inner[1], end=inner[2]),
        test=Period(start=inner[3], end=end),
    )
    config = replace(config, source=None, simulation=SimulationConfig())
    return prepare(config, folder / "data.zarr", read=lambda _: dataset)


def test_windows_of_months_are_consecutive_months(tmp_path: Path) -> None:
    months = np.arange("2002-01", "2012-01", dtype="datetime64[M]").astype("datetime64[ns]")
    store = _prepared(tmp_path, np.delete(months, 7), "standard", "1MS")
    store_period = Period(start="2002-01-01", end="2003-12-31")
    windows = WindowDataset(store, store_period, num_history=2, num_steps=3)
    newest = windows.read(np.arange(len(windows))).time.numpy().astype("datetime64[ns]")
    # Two months of history and three that follow, without August 2002.
    expected = [f"2002-0{month}" for month in (2, 3, 4)]
    expected += ["2002-10", "2002-11", "2002-12", *(f"2003-0{month}" for month in range(1, 10))]
    assert newest.astype("datetime64[M]").astype(str).tolist() == expected
    climatology = store.climatology()
    assert climatology["hour"].values.tolist() == [ALL_HOURS]


def test_windows_of_a_year_of_365_days_cross_the_leap_day(tmp_path: Path) -> None:
    days = np.arange("2007-12-01", "2010-03-01", dtype="datetime64[D]").astype("datetime64[ns]")
    days = days[days != np.datetime64("2008-02-29")]
    store = _prepared(tmp_path, days, "noleap", "1D")
    assert store.attrs["calendar"] == calendar_of(store.dataset()) == "noleap"
    windows = WindowDataset(store, Period(start="2008-02-27", end="2008-03-02"), 1, 3)
    assert len(windows) == 1
    assert store.times[windows.starts + 2] == np.datetime64("2008-03-01")


def test_no_window_crosses_a_gap(tmp_path: Path) -> None:
    make_dataset().drop_isel(time=10).to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", allow_gaps=True)
    store = prepare(config, tmp_path / "data.zarr")
    windows = WindowDataset(store, config.train, num_history=1, num_steps=1)
    assert 9 not in windows.starts
    assert len(windows) == 60 - 1 - 2


@pytest.mark.parametrize(
    ("subset", "months"),
    [({"months": [2]}, {2}), ({"months": [12, 1]}, {1}), ({"years": [2001]}, {1, 2})],
)
def test_a_subset_takes_seasons_and_years(
    subset: dict[str, list[int]], months: set[int], source: Path, store: PreparedStore
) -> None:
    config = make_data_config(source, subset=SubsetConfig(**subset, stride=3))
    windows = WindowDataset(store, config.train, 1, 1, subset=config.subset)
    newest = store.times[windows.starts]
    assert {int(month) for month in newest.astype("datetime64[M]").astype(int) % 12 + 1} == months
    assert (np.diff(windows.starts) == 3).all()
    with rejects("no-times", "2 consecutive states", "data.subset"):
        WindowDataset(store, config.train, 1, 1, subset=SubsetConfig(years=[1999]))
    with pytest.raises(ValueError, match="months"):
        SubsetConfig(months=[13])


def test_windows_read_the_bytes_of_the_state_alone(
    hourly_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_data_config(
        hourly_source, **hourly_settings(storage=StorageConfig(dtype="float16"))
    )
    crop = CropConfig(west=-60.0, east=59.0)
    whole = prepare(config, tmp_path / "data")
    copied = []
    copyto = np.copyto
    monkeypatch.setattr(
        np, "copyto", lambda target, part, **k: (copied.append(part), copyto(target, part, **k))
    )
    windows = WindowDataset(PreparedStore(tmp_path / "data", crop).prognostic, config.train, 1, 1)
    sample = windows.read(np.array([0, 2]))
    assert sample.state.shape == (2, 1, 2, 6, 4)
    assert {part.shape[1] for part in copied} == {2}
    assert sum(part.nbytes for part in copied) == sample.state.numel() * 2 * 2
    columns = np.r_[10:12, 0:2]
    expected = whole.states.read(np.array([0, 2]))[:, :2, :, columns]
    np.testing.assert_array_equal(sample.state[:, 0], expected)
    assert len(Unpacking(windows.store.packing)._offset) == 2


@pytest.mark.parametrize("dtype", get_args(StoredType))
def test_the_device_unpacks_as_the_host_does(dtype: StoredType) -> None:
    noise = np.random.default_rng(0).standard_normal((6, 2, 4, 8))
    values = (noise * [[[20.0]], [[1e-6]]] + [[[280.0]], [[5e-6]]]).astype(np.float32)
    packing = Packing.fit(dtype, values)
    stored = packing.pack(values, ["warm", "small"])
    unpacking = Unpacking(packing)
    for rows in (6, 2, 6):
        found = unpacking(torch.from_numpy(stored[:rows]))
        np.testing.assert_array_equal(found, packing.unpack(stored[:rows]))
