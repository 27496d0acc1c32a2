"""Forecasts of the shipped checkpoint from a planet that is simulated for them."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.cli.run_verb import run_verb
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.workflows.simulated_start import mean_state_table
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster

FEW_STEPS = ["--steps=4", "--forecast.init_interval_hours=12", "--evaluation.num_resamples=0"]


def forecast(folder: Path, *words: str) -> None:
    run_verb(
        "forecast",
        ["--checkpoint=quickstart", f"--output={folder}", *FEW_STEPS, *words],
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    forecast(folder, "--report", str(folder / "report.html"))
    return folder


def test_the_forecasts_start_from_simulated_states(folder: Path) -> None:
    states, written = xr.open_dataset(folder / "states.nc"), open_forecast(folder / "forecast.zarr")
    assert set(load_forecaster("quickstart").spec.channels.labels) <= set(states.data_vars)
    assert np.isin(written["valid_time"], states["time"]).all()
    assert written.sizes["init_time"] == 4


def test_the_forecasts_are_better_than_persistence(folder: Path) -> None:
    with xr.open_dataset(folder / "scores.nc", decode_timedelta=True) as scores:
        rmse = scores["rmse"].sel(forecast=["model", "persistence", "climatology"])
        model, persistence, climatology = rmse.values
    assert (model < 0.5 * persistence).all()
    assert (model < 0.5 * climatology).all()
    assert "prefers-color-scheme" in (folder / "report.html").read_text()


def test_the_same_command_simulates_once(folder: Path) -> None:
    written = (folder / "states.nc").stat().st_mtime_ns
    forecast(folder)
    assert (folder / "states.nc").stat().st_mtime_ns == written


def test_files_of_the_user_stay(tmp_path: Path) -> None:
    (tmp_path / "states.nc").write_text("mine")
    with rejects("output-exists", "states.nc"):
        forecast(tmp_path)
    assert (tmp_path / "states.nc").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_mean_state_is_the_same_at_each_hour() -> None:
    forecaster = make_forecaster(damping_days=5.0)
    table = mean_state_table(forecaster)
    assert table["hour"].values.tolist() == [0, 6, 12, 18]
    for hour in table["hour"]:
        fields = forecaster.spec.channels.stack(table.sel(hour=hour))
        np.testing.assert_array_equal(fields, forecaster.mean_state)
