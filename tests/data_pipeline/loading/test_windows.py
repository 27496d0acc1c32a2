"""Windows of consecutive states within a period."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from data_pipeline.loading.windows import Unpacking, WindowDataset
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preparation.prepare import prepare
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
