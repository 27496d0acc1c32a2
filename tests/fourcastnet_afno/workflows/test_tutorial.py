"""docs/tutorial_pde.md does what it says, with its own sizes."""

import re
import runpy
import shlex
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline import PDEConfig, Splits
from data_pipeline.simulation.pde_dataset import solve
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.inference.open import open_forecast

TEXT = (Path(__file__).parents[3] / "docs" / "tutorial_pde.md").read_text()
EQUATION, SCRIPT = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
FORECASTS = ["model", "persistence", "climatology", "linear"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the two files of the tutorial."""
    folder = tmp_path_factory.mktemp("tutorial")
    for name, text in zip(
        re.findall(r"Save this as `(.*?)`", TEXT), (EQUATION, SCRIPT), strict=True
    ):
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def first(folder: Path) -> xr.Dataset:
    """Scores of the script; what it printed is in ``printed.txt``."""
    with pytest.MonkeyPatch.context() as patch, (folder / "printed.txt").open("w") as file:
        patch.chdir(folder)
        with redirect_stdout(file):
            return runpy.run_path("run.py", run_name="__main__")["scores"]


def errors(scores: xr.Dataset) -> dict[str, np.ndarray]:
    rmse = scores["rmse"].sel(channel="u")
    assert rmse["forecast"].values.tolist() == FORECASTS
    return {name: rmse.sel(forecast=name).values for name in FORECASTS}


def test_thirty_lines() -> None:
    assert len([line for line in (EQUATION + SCRIPT).splitlines() if line.strip()]) <= 30
    assert max(len(line) for line in (EQUATION + SCRIPT).splitlines()) <= 100


def test_the_wind_carries_the_waves(folder: Path) -> None:
    """With the steps of the tutorial: 5 of them are a quarter of the square."""
    (folder / "calm.py").write_text(EQUATION.replace("0.1", "0.0"))
    shared = {"resolution": [16, 16], "trajectories": Splits(train=2), "num_steps": 5}
    shared |= {"timestep": 0.5, "substeps": 4}
    assert all(f"{name}={shared[name]}" in SCRIPT for name in ("timestep", "substeps"))
    windy = PDEConfig(equation=f"{folder / 'allen_cahn.py'}:AllenCahn", **shared)
    calm = replace(windy, equation=f"{folder / 'calm.py'}:AllenCahn")
    fields = solve(windy, [0, 1])
    change = np.abs(fields[:, 5] - fields[:, 0]).max()
    carried = np.roll(solve(calm, [0, 1]), 4, axis=-1)
    np.testing.assert_allclose(fields[:, 5], carried[:, 5], rtol=0, atol=1e-4 * change)
    halved = solve(replace(windy, substeps=8), [0, 1])
    np.testing.assert_allclose(fields, halved, rtol=0, atol=1e-4 * change)


def test_the_network_is_better_than_the_baselines(first: xr.Dataset) -> None:
    rmse = errors(first)
    assert rmse["model"].shape == (8,)
    assert (rmse["model"] < 0.8 * rmse["persistence"]).all()
    assert rmse["model"][0] < rmse["linear"][0]


def test_the_script_prints_what_the_text_says(first: xr.Dataset, folder: Path) -> None:
    printed = (folder / "printed.txt").read_text()
    (row,) = re.findall(r"RMSE +model +([\d. ]+)\n", printed)
    shown = [float(value) for value in row.split()]
    np.testing.assert_allclose(shown, errors(first)["model"][[0, 1, 2, 4, 7]], rtol=1e-2)
    times = "steps of 0.5", "RMSE at 4 steps", "8 steps"
    for said in (*times, "validation loss", "of persistence and", "states", *FORECASTS):
        assert said in " ".join(printed.split())


def test_the_run_leaves_what_the_table_says(first: xr.Dataset, folder: Path) -> None:
    run = folder / "runs" / "allen_cahn"
    names = re.findall(r"`([\w/]+\.\w+)`", TEXT.partition("|---|")[2].partition("\n\n")[0])
    assert {"data.zarr", "checkpoints/best.safetensors", "forecast.zarr", "scores.nc"} < {*names}
    assert all((run / name).exists() for name in names)
    forecast = open_forecast(run / "forecast.zarr")
    assert forecast["u"].sizes == {"init_time": 8, "lead_time": 8, "y": 16, "x": 16}
    assert np.isfinite(forecast["u"]).all()
    assert first["spectrum"].dims[-1] == "wavenumber"
    assert first["spectrum"].sizes["wavenumber"] == 12  # to the corner at (8, 8)


def test_twice_the_resolution(
    first: xr.Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same problem again, so persistence errs as before, and the network nearly."""
    monkeypatch.chdir(folder)
    (commands,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for command in commands.replace("\\\n", "").splitlines():
        program, *words = shlex.split(command)
        assert program == "fourcastnet-afno"
        assert main(words) == 0
    before = errors(first)
    with xr.open_dataset("runs/allen_cahn_32/scores.nc") as scores:
        after = errors(scores.load())
    forecast = open_forecast(Path("runs/allen_cahn_32/forecast.zarr"))
    assert forecast["u"].sizes == {"init_time": 8, "lead_time": 8, "y": 32, "x": 32}
    np.testing.assert_allclose(after["persistence"], before["persistence"], rtol=0.05)
    assert (after["model"] < 0.8 * after["persistence"]).all()
    np.testing.assert_allclose(after["model"], before["model"], rtol=0.3)
