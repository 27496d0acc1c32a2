"""Persistence, climatology and solver as forecasters."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from data_pipeline.preprocessing.climatology import climatology_at, fit_climatology
from data_pipeline.simulation.planet import (
    VARIABLES,
    SimulationConfig,
    build_planet,
    simulate_planet,
)
from data_pipeline.simulation.shallow_water import Planet, ShallowWater, galewsky, williamson2
from fourcastnet_afno.inference.rollout import Stepper, rollout
from fourcastnet_afno.inference.steppers import ClimatologyStepper, Persistence, ShallowWaterSolver
from tests.builders.errors import rejects
from tests.builders.forecasters import (
    CHANNELS,
    GRID,
    Growing,
    make_forecast,
    make_states,
)
from tests.fourcastnet_afno.forecaster.test_forecaster import make_forecaster

HOUR = np.timedelta64(1, "h")


def test_all_steppers_meet_the_interface() -> None:
    spec = Growing().spec
    assert isinstance(make_forecaster(), Stepper)
    assert isinstance(Persistence(spec), Stepper)


def test_persistence_is_written_like_any_forecast(tmp_path: Path) -> None:
    data = make_states()
    stepper, times = Persistence(Growing().spec), data["time"].values[:3]
    written = make_forecast(tmp_path / "f", stepper, data, times)
    expected = data["2m_temperature"].values[:3, None] + np.zeros((1, 5, 1, 1), "f4")
    np.testing.assert_array_equal(written["2m_temperature"], expected)


def test_the_climatology_is_that_of_the_valid_time(tmp_path: Path) -> None:
    data = make_states(365 * 4)
    fields = CHANNELS.stack(data).values
    hours, values = fit_climatology([(data["time"].values, fields)], 1)
    axes = {"hour": hours, "harmonic": np.arange(3), **GRID.coords}
    coefficients = CHANNELS.unstack(values, axes)
    stepper = ClimatologyStepper(Growing().spec, coefficients)
    assert isinstance(stepper, Stepper)
    times = data["time"].values[[3, 700]]
    written = make_forecast(tmp_path / "f", stepper, data, times)
    for index, time in enumerate(times):
        valid = time + np.arange(1, 6) * 6 * HOUR
        expected = climatology_at(coefficients, valid)["2m_temperature"]
        np.testing.assert_array_equal(written["2m_temperature"][index], expected)
    with rejects("missing-variable", "['2m_temperature']"):
        ClimatologyStepper(Growing().spec, coefficients.drop_vars("2m_temperature"))


def solver_and_state(
    case: str, hours: int
) -> tuple[ShallowWaterSolver, ShallowWater, torch.Tensor]:
    transform = SphericalHarmonicTransform(32, 64)
    model = ShallowWater(transform, Planet(), timestep=1800.0, diffusion_rate=1e-5)
    state = {"steady": williamson2, "jet": galewsky}[case](model)
    return ShallowWaterSolver(model, LatLonGrid.equiangular(32, 64), hours), model, state


@pytest.mark.parametrize("case", ["steady", "jet"])
def test_a_rollout_of_the_solver_is_the_solver(case: str) -> None:
    """Through the grid and back at every output: exact within the truncation."""
    solver, model, state = solver_and_state(case, 3)
    assert isinstance(solver, Stepper)
    initial = solver.synthesize(state)
    steps = rollout(solver, initial[:, None], iter(lambda: torch.zeros(1, 0, 32, 64), None), 4)
    for step in steps:
        for _ in range(6):
            state = model.step(state)
        expected = solver.synthesize(state)
        size = expected.abs().amax(dim=(0, 2, 3), keepdim=True)
        size[:, 1] = size[:, 0]  # the steady flow has no northward wind
        assert ((step - expected).abs() / size).max() < 1e-8


def test_the_solver_forecasts_the_simulated_planet(tmp_path: Path) -> None:
    """Without its random stirring it is still far better than persistence over six hours."""
    config = SimulationConfig(
        num_trajectories=1, days=2, spinup_days=0, num_latitudes=16, num_longitudes=32
    )
    data = simulate_planet(config)
    solver = ShallowWaterSolver(build_planet(16, 32), LatLonGrid.equiangular(16, 32), 6)
    assert solver.spec.channels.labels == list(VARIABLES)
    times = data["time"].values[:4]
    written = make_forecast(tmp_path / "f", solver, data, times, num_steps=1)
    truth = data["geopotential"].values
    error = np.square(written["geopotential"].values[:, 0] - truth[1:5]).mean()
    assert error < 0.1 * np.square(truth[:4] - truth[1:5]).mean()


def test_a_solver_that_does_not_fit_is_refused() -> None:
    _, model, _ = solver_and_state("steady", 3)
    with rejects("grid-mismatch", "truncation 21"):
        ShallowWaterSolver(model, LatLonGrid.equiangular(16, 32), 3)
    other = ShallowWater(model.transform, Planet(), timestep=7000.0)
    with rejects("timestep-mismatch", "7000 s"):
        ShallowWaterSolver(other, LatLonGrid.equiangular(32, 64), 3)
