"""The simulator behind prepared data."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.prepare import prepare
from data_pipeline.preparation.simulator import (
    check_continues,
    check_simulated,
    simulator_of,
    states_at,
)
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config
from tests.builders.simulated import PLANET, WINDS, make_burgers_config, make_planet_config


@pytest.fixture(scope="module")
def planet(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    config = make_planet_config(storage=StorageConfig(dtype="int16"))
    return prepare(config, tmp_path_factory.mktemp("planet") / "data.zarr")


def test_data_of_a_simulator_is_recognized() -> None:
    check_simulated(make_planet_config())
    check_simulated(make_planet_config(timestep="12h"))
    check_simulated(make_burgers_config())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"grid": GridConfig(num_latitudes=8, num_longitudes=16)}, "data.grid"),
        ({"accumulate": {"geopotential": "mean"}}, "data.accumulate"),
        ({"timestep": "1MS"}, "data.timestep=1MS"),
        ({"prognostic": [*WINDS, "relative_vorticity"]}, "geopotential"),
        ({"diagnostic": ["wind_speed"]}, "wind_speed"),
    ],
)
def test_data_that_is_no_state_of_a_simulator_is_rejected(
    changes: dict[str, Any], named: str
) -> None:
    with rejects("no-simulator", named, "evaluation.baselines"):
        check_simulated(make_planet_config(**changes))


def test_a_source_has_no_simulator(tmp_path: Path) -> None:
    with rejects("no-simulator", "data.source", "evaluation.baselines"):
        check_simulated(make_data_config(tmp_path / "data.nc"))


def test_a_permeability_that_is_not_saved_is_rejected() -> None:
    settings: dict[str, Any] = {"trajectories": Splits(train=2), "resolution": [17, 17]}
    check_simulated(DataConfig.of_pde(PDEConfig(equation="darcy", **settings)))
    coarser = PDEConfig(equation="darcy", saved_resolution=[9, 9], **settings)
    with rejects("no-simulator", "data.pde.saved_resolution"):
        check_simulated(DataConfig.of_pde(coarser))


def test_the_simulator_of_a_store_continues_it(planet: PreparedStore) -> None:
    """With rounding to 16 bits, from every time; the last one has no next state."""
    config = make_planet_config()
    check_continues(simulator_of(config, planet.times), planet, planet.times)
    check_continues(simulator_of(config, planet.times[-1:]), planet, planet.times[-1:])


def test_another_simulator_is_rejected(planet: PreparedStore) -> None:
    """One with another stirring: a store of a version that drew other random numbers."""
    config = make_planet_config(simulation=replace(PLANET, seed=1))
    with rejects("other-simulator", str(planet.path), "evaluation.baselines"):
        check_continues(simulator_of(config, planet.times), planet, planet.times)


def test_states_are_those_of_the_store(planet: PreparedStore) -> None:
    times = planet.times[[7, 3, 7]]
    simulator = simulator_of(make_planet_config(), times)
    expected = planet.states.read(np.array([7, 3, 7]))[:, :3]
    np.testing.assert_array_equal(states_at(simulator, planet, times), expected)
    with rejects("no-times", "2001-01-01T01"):
        states_at(simulator, planet, planet.times[:1] + np.timedelta64(1, "h"))


def test_a_time_that_the_simulation_lacks_is_rejected() -> None:
    period = Period(start="2001-01-01", end="2001-12-31")
    assert period.contains(np.array(["2001-08-01"], "datetime64[ns]")).all()
    with rejects("no-times", "2001-08-01"):
        simulator_of(make_planet_config(), np.array(["2001-08-01"], "datetime64[ns]"))
