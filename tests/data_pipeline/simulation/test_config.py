"""The recipes of configs/pde_*.yaml: their solvers are far more accurate than the data needs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.simulation.fourier import FourierGrid, SpectralStepper
from data_pipeline.simulation.registry import build_equation
from data_pipeline.simulation.trajectories import Splits

RECIPES = sorted((Path(__file__).parents[3] / "configs").glob("pde_*.yaml"))
_NEEDED = 1e-3  # error of a good surrogate's step, relative to the change over the step


def read(path: Path) -> PDEConfig | None:
    settings: dict[str, Any] = yaml.safe_load(path.read_text())["data"].get("pde")
    if settings is None:
        return None
    splits = Splits(**settings.pop("trajectories"))
    parameters = {name: float(value) for name, value in settings.pop("parameters").items()}
    return PDEConfig(**settings, trajectories=splits, parameters=parameters)


EVOLVING = [p for p in RECIPES if (config := read(p)) is not None and config.equation != "darcy"]


@pytest.mark.parametrize("path", EVOLVING, ids=lambda path: path.stem)
def test_error_in_time_by_halving_the_step(path: Path) -> None:
    """Of the first steps that are saved; the exact solution by Richardson's extrapolation."""
    config = read(path)
    assert config is not None
    equation = build_equation(config)
    shape = config.shape
    grid = FourierGrid(shape, equation.extent, degree=equation.degree, dtype=torch.float64)
    state = equation.initial(grid, np.random.default_rng(config.seeds()[0]))[None]
    start = SpectralStepper(equation, grid, config.timestep / config.substeps).advance(
        state, min(config.spinup_steps, 5) * config.substeps
    )
    ends = [
        SpectralStepper(equation, grid, config.timestep / steps).advance(start, steps)
        for steps in (config.substeps, 2 * config.substeps)
    ]
    error = (ends[0] - ends[1]).abs().square().sum().sqrt() * 16 / 15
    change = (ends[1] - start).abs().square().sum().sqrt()
    assert error < _NEEDED / 10 * change
    assert change > 1e-3 * start.abs().square().sum().sqrt()


@pytest.mark.parametrize("start", ["NaT", "soon", "1600-01-01", "2250-01-01"])
def test_simulated_years_are_those_of_datetime64(start: str) -> None:
    with pytest.raises(ValueError, match=r"data\.simulation.*start"):
        SimulationConfig(start=start, num_trajectories=20)
