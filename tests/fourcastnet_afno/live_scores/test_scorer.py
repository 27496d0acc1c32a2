"""Scores of forecasts under way: those of the fields in files, on any processes, after kills."""

import os
import signal
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.live_scores.scorer import LiveScoring
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, make_config, make_states
from tests.builders.forecasts import make_climatology
from tests.builders.processes import start

DATA = make_states(24)
TIMES = DATA["time"].values[1:21:2]
CLIMATOLOGY = make_climatology(DATA)
ENSEMBLE: dict[str, Any] = {"num_members": 3, "perturbation": "gaussian", "batch_size": 6}
CONFIG = EvaluationConfig(
    regions=["global", "tropics"], quantiles=[0.5, 0.9], num_resamples=10, extremes=True
)
QUICK = EvaluationConfig(num_resamples=0, baselines=["climatology"], num_threads=1)


class Stopping(Growing):
    """Ends the process, or raises, in one of its steps."""

    def __init__(self, step: int, *, kills: bool = False) -> None:
        super().__init__(factor=0.9)
        self._left, self._kills = step, kills

    def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
        self._left -= 1
        if self._left < 0 and self._kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._left < 0:
            raise KeyboardInterrupt
        return super().__call__(state, forcing)


def score(
    folder: Path,
    stepper: Growing | None = None,
    config: EvaluationConfig = QUICK,
    *,
    data: xr.Dataset = DATA,
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    **changes: object,
) -> xr.Dataset | None:
    """Score forecasts, and by default keep nothing else."""
    folder.mkdir(exist_ok=True)
    scoring = LiveScoring(
        path=folder / "scores.nc",
        config=config,
        truth=data,
        climatology=CLIMATOLOGY,
        training=DATA if config.quantiles else None,
        data={"truth": "random"},
    )
    written = write_forecast(
        stepper or Growing(factor=0.9), DATA, TIMES, make_config(**{**ENSEMBLE, **changes}), path,
        {}, scoring=scoring, environment=environment or {}, restart_every=1, existing="resume",
    )  # fmt: skip
    assert written is None or "rmse" in written or path is not None
    return written


@pytest.mark.parametrize("changes", [{"chunks": "lead_time"}, {"keep_bits": 9, "num_members": 1}])
def test_scores_are_those_of_the_fields_in_files(tmp_path: Path, changes: dict[str, Any]) -> None:
    changes = {**ENSEMBLE, **changes}
    changes["perturbation"] = "gaussian" if changes["num_members"] > 1 else "none"
    found = score(tmp_path / "live", config=CONFIG, **changes)
    path = tmp_path / "f.zarr"
    write_forecast(
        Growing(factor=0.9), DATA, TIMES, make_config(**changes), path, {}, environment={}
    )
    expected = evaluate({"model": str(path)}, DATA, CLIMATOLOGY, CONFIG, training=DATA)
    assert found is not None
    assert set(found.data_vars) == set(expected.data_vars)
    assert {"rmse_interval", "spectrum", "bias_map", "reliability_weight"} <= {*found.data_vars}
    assert ("crps_interval" in found) == ("rank_histogram_model" in found) == ("num_members" not in
            changes or changes["num_members"] > 1)  # fmt: skip
    for name, values in expected.data_vars.items():
        largest = np.nanmax(np.abs(np.nan_to_num(values.values)), initial=0.0)
        tolerance = {"rtol": 1e-12, "atol": 1e-14 * largest, "err_msg": str(name)}
        np.testing.assert_allclose(found[name].values, values.values, **tolerance)
    assert "truth lacks their valid time" in found.attrs["notes"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of scores that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    score(folder, chunks="lead_time")
    return contents(folder)


@pytest.mark.parametrize("kept", [False, True])
def test_interrupted_scores_end_with_the_same_bytes(
    tmp_path: Path, whole: dict[str, bytes], kept: bool
) -> None:
    path = tmp_path / "f.zarr" if kept else None
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path, Stopping(8), chunks="lead_time", path=path)
    assert not (tmp_path / "scores.nc").exists()
    score(tmp_path, chunks="lead_time", path=path)
    found = contents(tmp_path)
    if kept:  # which the fingerprint tells
        assert found["scores.csv"] == whole["scores.csv"]
    else:
        assert found == whole


def test_a_kill_does_not_change_a_byte(tmp_path: Path, whole: dict[str, bytes]) -> None:
    process = start(score_until_killed, tmp_path)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert list((tmp_path / ".scores.nc.partial").glob("scores*.npz"))
    score(tmp_path, chunks="lead_time")
    assert contents(tmp_path) == whole


def score_until_killed(folder: Path) -> None:
    torch.set_num_threads(1)
    score(folder, Stopping(12, kills=True), chunks="lead_time")


def test_two_processes_make_the_bytes_of_one(tmp_path: Path, whole: dict[str, bytes]) -> None:
    first, second = (
        score(tmp_path, environment={"RANK": rank, "WORLD_SIZE": "2"}, chunks="lead_time")
        for rank in ("1", "0")
    )
    assert first is None
    assert second is not None
    assert contents(tmp_path) == whole


def contents(folder: Path) -> dict[str, bytes]:
    """Files of a folder, by name."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_forecasts_that_blow_up_are_counted(tmp_path: Path) -> None:
    scores = score(tmp_path, Growing(factor=9.0, std=1.0), limit=100.0)
    assert scores is not None
    assert "30 forecasts blew up" in scores.attrs["notes"]
    counts = scores["num_init_times"].sel(forecast="model")
    assert (counts.isel(lead_time=0) == len(TIMES)).all()
    assert (counts.isel(lead_time=-1) == 0).all()


def test_other_scores_are_not_mixed_with_interrupted_ones(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path, Stopping(8))
    with rejects("other-configuration", "evaluation.metrics"):
        score(tmp_path, config=replace(QUICK, metrics=["mae"]))


def test_lost_sums_are_named(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(tmp_path, Stopping(8))
    for file in (tmp_path / ".scores.nc.partial").glob("scores*.npz"):
        file.write_bytes(b"nothing")
    with rejects("damaged-restart", "scores-", "delete"):
        score(tmp_path)


def test_truth_on_another_grid_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with rejects("grid-mismatch", "model", "evaluation.regrid"):
        score(tmp_path / "none", data=DATA.isel(longitude=slice(None, None, 2)))
    assert not list((tmp_path / "none").iterdir())
