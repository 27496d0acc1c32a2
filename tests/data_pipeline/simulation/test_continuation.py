"""Simulators that continue from states of their datasets."""

from collections.abc import Sequence

import numpy as np
import pytest
import xarray as xr

from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.simulation.continuation import Continuation, continuation_of, fields_of
from data_pipeline.simulation.pde_dataset import simulate_equation
from data_pipeline.simulation.planet import VARIABLES, simulate_planet
from data_pipeline.simulation.trajectories import Splits
from tests.builders.errors import rejects

PLANET = SimulationConfig(
    num_trajectories=2, days=8, spinup_days=2, num_latitudes=16, num_longitudes=32, seed=5
)
NUM_STEPS = 8


@pytest.fixture(scope="module")
def planet() -> xr.Dataset:
    return simulate_planet(PLANET)


def stacked(dataset: xr.Dataset, names: Sequence[str], times: np.ndarray) -> np.ndarray:
    """(time, variable, y, x)."""
    return np.stack([dataset[name].sel(time=times).values for name in names], axis=1)


def run(
    simulator: Continuation,
    dataset: xr.Dataset,
    times: np.ndarray,
    seeds: Sequence[int] | None = None,
    num_steps: int = NUM_STEPS,
) -> np.ndarray:
    """Forecasts (time, step, variable, y, x)."""
    noise = None if seeds is None else [np.random.default_rng(seed) for seed in seeds]
    states = stacked(dataset, simulator.inputs, times)
    return np.stack(list(simulator.run(times, states, num_steps, noise)), axis=1)


def relative_errors(forecasts: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """By step and variable, of its standard deviation."""
    errors = (forecasts - truth).astype(float)
    return np.sqrt((errors**2).mean(axis=(0, 3, 4))) / truth.std(axis=(0, 1, 3, 4))


@pytest.mark.parametrize("hours", [6, 12])
def test_a_planet_with_the_noise_of_truth_is_truth(planet: xr.Dataset, hours: int) -> None:
    times = planet["time"].values[[4, 9, 32 + 8]]  # of both trajectories
    simulator = continuation_of(PLANET, times, hours)
    forecasts = run(simulator, planet, times)
    leads = np.arange(1, NUM_STEPS + 1) * np.timedelta64(hours, "h")
    truth = np.stack([stacked(planet, tuple(VARIABLES), time + leads) for time in times])
    assert relative_errors(forecasts, truth).max() < 1e-3  # float32, after some days of weather


def test_members_spread_and_the_seed_decides_them(planet: xr.Dataset) -> None:
    times = np.repeat(planet["time"].values[8:9], 4)
    simulator = continuation_of(PLANET, times, 6)
    members = run(simulator, planet, times, seeds=range(4))
    spread = members.astype(float).std(axis=0).mean(axis=(2, 3))  # (step, variable)
    assert (spread[0] > 0).all()
    assert (np.diff(spread, axis=0) > 0).all()
    assert (spread[7] > 3 * spread[0]).all()
    np.testing.assert_array_equal(members, run(simulator, planet, times, seeds=range(4)))


def test_a_time_outside_of_the_simulation_is_rejected(planet: xr.Dataset) -> None:
    inside, outside = planet["time"].values[:1], np.array(["2001-06-01"], "datetime64[ns]")
    with rejects("no-times", "2001-06-01"):
        continuation_of(PLANET, outside, 6)
    simulator = continuation_of(PLANET, inside, 6)
    with rejects("no-times", "2001-06-01"):
        next(simulator.run(outside, stacked(planet, simulator.inputs, inside), 1))


def equation_config(equation: str, resolution: list[int], **settings: object) -> PDEConfig:
    fixed = {"num_steps": 6, "substeps": 8, "trajectories": Splits(test=2)}
    return PDEConfig(equation=equation, resolution=resolution, **{**fixed, **settings})


EQUATIONS = {
    "navier_stokes": equation_config("navier_stokes", [32, 32]),
    "kolmogorov_flow": equation_config("kolmogorov_flow", [32, 32], timestep=0.1),
    "gray_scott": equation_config("gray_scott", [16, 16]),
    "burgers": equation_config("burgers", [64], timestep=0.05, parameters={"viscosity": 0.05}),
    "coarser_saved": equation_config("burgers", [64], timestep=0.05, saved_resolution=[48]),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_an_equation_continues_as_its_dataset(name: str) -> None:
    """Equal to truth at every lead, to the rounding of what is saved; every second state too."""
    config = EQUATIONS[name]
    dataset = simulate_equation(config)
    times = dataset["time"].values[:: config.num_steps + 1]
    for hours in (1, 2):
        simulator = continuation_of(config, times, hours)
        assert simulator.is_exact
        assert (simulator.inputs, simulator.variables) == fields_of(config)
        forecasts = run(simulator, dataset, times, num_steps=6 // hours)
        leads = np.arange(hours, 7, hours) * np.timedelta64(1, "h")
        truth = np.stack([stacked(dataset, simulator.variables, time + leads) for time in times])
        assert relative_errors(forecasts, truth).max() < 1e-4


def test_scales_that_are_not_saved_are_zero_at_the_start() -> None:
    """A front has waves that 12 points do not hold: close to truth, but not equal."""
    settings = {"timestep": 0.3, "saved_resolution": [12], "parameters": {"viscosity": 0.01}}
    config = equation_config("burgers", [64], num_steps=2, **settings)
    dataset = simulate_equation(config)
    times = dataset["time"].values[1:2]
    simulator = continuation_of(config, times, 1)
    assert not simulator.is_exact
    truth = stacked(dataset, simulator.variables, dataset["time"].values[2:3])[:, None]
    error = relative_errors(run(simulator, dataset, times, num_steps=1), truth).item()
    assert 1e-6 < error < 0.2


def test_darcy_is_solved_in_a_step() -> None:
    config = equation_config("darcy", [17, 17], num_steps=1, substeps=1)
    dataset = simulate_equation(config)
    starts = dataset["time"].values[::2]
    simulator = continuation_of(config, starts, 1)
    forecasts = run(simulator, dataset, starts, num_steps=2)
    solved = stacked(dataset, ("permeability", "pressure"), dataset["time"].values[1::2])
    np.testing.assert_array_equal(forecasts, np.stack([solved, solved], axis=1))
