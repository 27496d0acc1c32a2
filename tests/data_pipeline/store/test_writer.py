"""Diagnostic channels in a training store: written as the others, apart from the state."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.doctor.examination import examine
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.errors import InputError
from data_pipeline.loading.windows import Unpacking, WindowDataset
from data_pipeline.periods import Period
from data_pipeline.preparation.prepare import open_store, prepare
from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.experiments import GRID, make_data_config

NAMES = ["2m_temperature", "mean_sea_level_pressure"]
RAIN = ["total_precipitation_6hr", "log_total_precipitation_6hr"]
PERIODS = {
    "train": Period(start="2001-01-01T06", end="2001-01-06"),  # with six hours of rain before
    "validation": Period(start="2001-01-07", end="2001-01-08"),
    "test": Period(start="2001-01-09", end="2001-01-10"),
}


def hourly() -> xr.Dataset:
    """Ten days of hourly rain, temperature and pressure."""
    rng = np.random.default_rng(0)
    times = np.datetime64("2001-01-01", "ns") + np.arange(240) * np.timedelta64(1, "h")
    dims, shape = ("time", *GRID.dims), (240, *GRID.shape)
    rain = rng.gamma(0.2, 1e-3, shape).astype("f4")
    warm, heavy = (rng.standard_normal(shape).astype("f4") for _ in range(2))
    return xr.Dataset(
        {
            "total_precipitation": (dims, rain, {"units": "m"}),
            "2m_temperature": (dims, 280 + 5 * warm, {"units": "K"}),
            "mean_sea_level_pressure": (dims, 1e5 + 500 * heavy, {"units": "Pa"}),
        },
        {"time": times, **GRID.coords},
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rain") / "hourly.nc"
    hourly().to_netcdf(path)
    return path


def settings(**changes: object) -> dict:
    own = {"prognostic": NAMES, "static": [], "forcings": [], "timestep_hours": 6, **PERIODS}
    return {**own, "diagnostic": RAIN, **changes}


@pytest.mark.parametrize(
    "storage",
    [StorageConfig(), StorageConfig(dtype="int16", compression="zstd")],
    ids=["mapped", "by zarr"],
)
def test_both_roles_equal_stores_of_their_own(
    source: Path, tmp_path: Path, storage: StorageConfig
) -> None:
    """Fields, statistics, climatology and rounding do not depend on what else is in the store."""
    both = prepare(make_data_config(source, **settings(storage=storage)), tmp_path / "both")
    both.verify()
    assert both.channels.labels == [*NAMES, *RAIN]
    assert both.attrs["roles"]["diagnostic"] == RAIN
    for role, names in (("prognostic", NAMES), ("diagnostic", RAIN)):
        changes = settings(storage=storage, prognostic=names, diagnostic=[])
        alone = prepare(make_data_config(source, **changes), tmp_path / role)
        part = getattr(both, role)
        assert part.channels == alone.channels
        xr.testing.assert_equal(part.dataset(), alone.dataset())
        for ours, theirs in zip(part.statistics, alone.statistics, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(part.rounding, alone.rounding)
        xr.testing.assert_equal(part.climatology(), alone.climatology())
        assert len(part.packing.offset) == len(part.rounding) == len(names)
    assert both.prognostic.prognostic is both.prognostic


def test_diagnostic_values_are_accumulated_and_derived(source: Path, tmp_path: Path) -> None:
    config = make_data_config(source, **settings())
    found = prepare(config, tmp_path / "data").diagnostic.dataset()
    rain = hourly()["total_precipitation"]
    first = rain.isel(time=slice(1, 7)).sum("time")
    np.testing.assert_allclose(found[RAIN[0]][0], first, rtol=1e-6)
    np.testing.assert_allclose(found[RAIN[1]][0], np.log1p(first / 1e-5), rtol=1e-5)
    everything = accumulate(
        hourly(), [*NAMES, *RAIN], {}, 6, lambda times: np.ones(len(times), bool), False
    )
    np.testing.assert_array_equal(found[RAIN[0]], everything[RAIN[0]])


def test_windows_read_the_bytes_of_the_state_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_data_config(source, **settings(storage=StorageConfig(dtype="float16")))
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


def test_other_roles_are_another_store(source: Path, tmp_path: Path) -> None:
    prepare(make_data_config(source, **settings()), tmp_path / "data")
    for changes in ({"diagnostic": RAIN[:1]}, {"diagnostic": []}):
        with pytest.raises(InputError, match=r"prepared with other values of data\.diagnostic"):
            open_store(str(tmp_path / "data"), make_data_config(source, **settings(**changes)))


def test_what_does_not_suit_is_refused(source: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"diagnostic": ["snowfall"]}, r"lacks the variables \['snowfall'\].*data\.diagnostic"),
        ({"diagnostic": ["t2m"]}, r"channels must differ, got \['2m_temperature'\]"),
        ({"fill": {"snowfall": 0.0}}, r"data\.diagnostic and data\.static are"),
    ):
        with pytest.raises(InputError, match=message):
            prepare(make_data_config(source, **settings(**changes)), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_channels_add_up() -> None:
    channels = Channels.from_dataset(hourly(), NAMES)
    assert channels + Channels(()) == channels
    with pytest.raises(InputError, match="channels must differ"):
        channels + channels


def test_the_doctor_checks_all_and_tells_of_the_state(source: Path, tmp_path: Path) -> None:
    config = make_data_config(source, **settings())
    horizons = PeriodNeeds(history=1, training_steps=1, forecast_steps=1, interval_hours=6)
    before = examine(config, str(tmp_path / "data"), horizons)
    prepare(config, tmp_path / "data")
    after = examine(config, str(tmp_path / "data"), horizons)
    for found in (before, after):
        assert found.report.num_errors == 0
        assert found.channels is not None
        assert found.channels.labels == NAMES
        assert set(found.report.facts["variables"]) == {*NAMES, *RAIN}
    assert after.store is not None
    assert after.store.states.shape[1] == 2
    assert after.report.facts["store"]["channels"] == [*NAMES, *RAIN]
    for diagnostic in (["snowfall"], ["t2m"]):
        wrong = make_data_config(source, **settings(diagnostic=diagnostic))
        findings = examine(wrong, "none", horizons).report.findings
        assert [f.where for f in findings if f.check == "prepare"] == ["data.diagnostic"]
