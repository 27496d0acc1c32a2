"""Diagnostic channels in a training store: written as the others, apart from the state."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.doctor.examination import examine
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.preparation.prepare import open_store, prepare
from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.store.packing import StorageConfig
from data_pipeline.timestep import Timestep
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config
from tests.builders.stores import NAMES, RAIN, hourly_settings, make_hourly


@pytest.mark.parametrize(
    "storage",
    [StorageConfig(), StorageConfig(dtype="int16", compression="zstd")],
    ids=["mapped", "by zarr"],
)
def test_both_roles_equal_stores_of_their_own(
    hourly_source: Path, tmp_path: Path, storage: StorageConfig
) -> None:
    """Fields, statistics, climatology and rounding do not depend on what else is in the store."""
    both = prepare(
        make_data_config(hourly_source, **hourly_settings(storage=storage)), tmp_path / "both"
    )
    both.verify()
    assert both.channels.labels == [*NAMES, *RAIN]
    assert both.attrs["roles"]["diagnostic"] == RAIN
    for role, names in (("prognostic", NAMES), ("diagnostic", RAIN)):
        changes = hourly_settings(storage=storage, prognostic=names, diagnostic=[])
        alone = prepare(make_data_config(hourly_source, **changes), tmp_path / role)
        part = getattr(both, role)
        assert part.channels == alone.channels
        xr.testing.assert_equal(part.dataset(), alone.dataset())
        for ours, theirs in zip(part.statistics, alone.statistics, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(part.rounding, alone.rounding)
        xr.testing.assert_equal(part.climatology(), alone.climatology())
        assert len(part.packing.offset) == len(part.rounding) == len(names)
    assert both.prognostic.prognostic is both.prognostic


def test_diagnostic_values_are_accumulated_and_derived(hourly_source: Path, tmp_path: Path) -> None:
    config = make_data_config(hourly_source, **hourly_settings())
    found = prepare(config, tmp_path / "data").diagnostic.dataset()
    rain = make_hourly()["total_precipitation"]
    first = rain.isel(time=slice(1, 7)).sum("time")
    np.testing.assert_allclose(found[RAIN[0]][0], first, rtol=1e-6)
    np.testing.assert_allclose(found[RAIN[1]][0], np.log1p(first / 1e-5), rtol=1e-5)
    everything = accumulate(
        make_hourly(),
        [*NAMES, *RAIN],
        {},
        Timestep.parse("6h"),
        lambda times: np.ones(len(times), bool),
        False,
    )
    np.testing.assert_array_equal(found[RAIN[0]], everything[RAIN[0]])


def test_other_roles_are_another_store(hourly_source: Path, tmp_path: Path) -> None:
    prepare(make_data_config(hourly_source, **hourly_settings()), tmp_path / "data")
    for changes in ({"diagnostic": RAIN[:1]}, {"diagnostic": []}):
        with rejects("other-configuration", "data.diagnostic"):
            open_store(
                str(tmp_path / "data"),
                make_data_config(hourly_source, **hourly_settings(**changes)),
            )


def test_what_does_not_suit_is_refused(hourly_source: Path, tmp_path: Path) -> None:
    for changes, code, name in (
        ({"diagnostic": ["snowfall"]}, "missing-variable", "data.diagnostic"),
        ({"diagnostic": ["t2m"]}, "repeated-channel", "2m_temperature"),
        ({"fill": {"snowfall": 0.0}}, "bad-setting", "snowfall"),
    ):
        with rejects(code, name):
            prepare(
                make_data_config(hourly_source, **hourly_settings(**changes)), tmp_path / "data"
            )
    assert not (tmp_path / "data").exists()


def test_channels_add_up() -> None:
    channels = Channels.from_dataset(make_hourly(), NAMES)
    assert channels + Channels(()) == channels
    with rejects("repeated-channel"):
        channels + channels


def test_the_doctor_checks_all_and_tells_of_the_state(hourly_source: Path, tmp_path: Path) -> None:
    config = make_data_config(hourly_source, **hourly_settings())
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
        wrong = make_data_config(hourly_source, **hourly_settings(diagnostic=diagnostic))
        findings = examine(wrong, "none", horizons).report.findings
        assert [f.where for f in findings if f.check == "prepare"] == ["data.diagnostic"]
