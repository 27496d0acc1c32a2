"""Scores of the commit before, and an evaluation that it left half done."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from data_pipeline import PreparedStore
from fourcastnet_afno.cli import main
from tests.compatibility.conftest import MANIFEST
from tests.compatibility.public_calls import BLOCK_BYTES, CountingExecutor, in_memory, scored

# Sums are in float64 and Fourier transforms of fields in float32. The linear baseline predicts in
# float32 too, by equations that let roundings grow.
FLOAT64, SPECTRA, LINEAR = 1e-10, 1e-5, 1e-4


def check_alike(now: Any, before: Any, compare: Callable[[Any, Any], None]) -> None:  # noqa: ANN401
    """Compare what is in both, and require that nothing of before is gone."""
    if isinstance(before, dict):
        assert before.keys() <= now.keys()
        for key, value in before.items():
            check_alike(now[key], value, compare)
    elif isinstance(before, list):
        assert len(now) == len(before)
        for one, other in zip(now, before, strict=True):
            check_alike(one, other, compare)
    elif isinstance(before, float):
        compare(float(now), before)
    else:
        assert now == before


def of_baseline(array: xr.DataArray, is_linear: bool) -> xr.DataArray:
    """The part of scores that is of the linear baseline, or all the rest."""
    for dim in ("forecast", "source"):
        if dim in array.dims:
            return array.isel({dim: (array[dim] == "linear").values == is_linear})
    return array


def test_a_stored_forecast_has_the_same_scores(
    unpack: Callable[..., Path], assert_computed: Callable[..., None]
) -> None:
    folder = unpack("planet_store", "planet_forecast", "scores")
    *words, output = MANIFEST["commands"]["evaluate"].split()
    assert output == "--output=scores.nc"
    # Version 0.1 took all years of a prepared store to train on, and not its training period alone.
    words.remove("--training=planet/data.zarr")
    PreparedStore(folder / "planet" / "data.zarr").dataset().to_netcdf("years.nc")
    assert main([*words, "--training=years.nc", "--output=now.nc"]) == 0
    with xr.open_dataset("now.nc") as now, xr.open_dataset("scores.nc") as before:
        assert set(before.variables) <= set(now.variables)
        for name in before.variables:
            assert now[name].dims == before[name].dims
            rest = SPECTRA if str(name).startswith(("spectrum", "effective")) else FLOAT64
            for is_linear, rounding in ((False, rest), (True, LINEAR)):
                parts = (of_baseline(scores[name], is_linear).values for scores in (now, before))
                assert_computed(*parts, rounding=rounding)
    now, before = (json.loads((folder / f"{name}.json").read_text()) for name in ("now", "scores"))
    for part in ("forecasts", "intervals", "verdicts", "units"):
        check_alike(now[part], before[part], lambda a, b: assert_computed(a, b, rounding=LINEAR))
    attributes = now["conventions"], before["conventions"]
    assert attributes[0].keys() >= attributes[1].keys()
    assert attributes[0]["climatology"] == attributes[1]["climatology"]
    (warning,) = set(attributes[0]["notes"].splitlines()) - set(attributes[1]["notes"].splitlines())
    assert "training data" in warning


def test_a_half_done_evaluation_goes_on_to_the_same_scores(
    unpack: Callable[..., Path],
    expected: dict[str, np.ndarray],
    assert_computed: Callable[..., None],
) -> None:
    """The key of its state is made of the settings and of ``repr`` of the tasks, names included."""
    folder = unpack("planet_store", "planet_forecast", "evaluation")
    run, state = folder / "planet", folder / "evaluation.npz"
    forecast = in_memory(run / "forecast.zarr")
    executor = CountingExecutor()
    options = {"executor": executor, "block_bytes": BLOCK_BYTES}
    scores = scored(forecast, run / "data.zarr", state=state, **options)
    assert_computed(scores["rmse"].values, expected["state/rmse"], rounding=FLOAT64)
    assert not state.exists()
    assert 0 < executor.num_tasks < MANIFEST["num_tasks"]


def test_old_runs_are_compared(
    unpack: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = unpack("planet_run", "stopped_run")
    for name in ("planet", "stopped"):
        shutil.move(folder / name, folder / "runs" / name)
    assert main(["runs", "runs"]) == 0
    printed = capsys.readouterr().out
    assert "planet" in printed
    assert "stopped" in printed
    assert (folder / "runs" / "runs.png").exists()
