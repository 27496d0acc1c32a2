"""Fields upside down are found; fields the right way up are not."""

from pathlib import Path

import pytest

from data_pipeline.doctor.physics import check_north_is_up
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.simulation.planet import VARIABLES, SimulationConfig, simulate_planet
from tests.builders.earth import (
    EARTH,
    make_earth_config,
    only,
    serious,
)
from tests.builders.faults import Fault, check_fault, examine_data, flipped

FAULTS = {
    "seasons": Fault(flipped("2m_temperature"), "upside-down", "error", ["seasons", "temperature"]),
    "land": Fault(flipped("land_sea_mask"), "upside-down", "error", ["land at the north pole"]),
    "sunlight": Fault(
        flipped("toa_incident_solar_radiation"), "upside-down", "error", ["sunlight", "toa_"]
    ),
    "wind": Fault(
        flipped("geopotential", "v_component_of_wind"),
        "upside-down",
        "error",
        ["wind", "v_component_of_wind_500"],
    ),
    "all flipped": Fault(
        lambda d: flipped(*map(str, d.data_vars))(d), "upside-down", "error", ["latitude"]
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_and_nothing_else(name: str, tmp_path: Path) -> None:
    check_fault(FAULTS[name], tmp_path)


def test_a_simulated_planet_has_its_wind_the_right_way(tmp_path: Path) -> None:
    planet = simulate_planet(SimulationConfig(num_trajectories=1, days=2, spinup_days=15))
    grid = LatLonGrid.from_dataset(planet)
    fields = {str(name): planet[name].values for name in VARIABLES}
    sample = SampledValues(planet["time"].values, fields, 0)
    assert check_north_is_up(sample, None, grid) == []
    turned = {name: values[:, ::-1] for name, values in fields.items()}
    (finding,) = check_north_is_up(SampledValues(sample.times, turned, 0), None, grid)
    assert "wind" in finding.what


def test_poleward_warming_of_a_region(tmp_path: Path) -> None:
    north = EARTH.sel(latitude=slice(80, 20))[["2m_temperature"]]
    config = make_earth_config(tmp_path / "data.nc", prognostic=["2m_temperature"], static=[])
    assert serious(examine_data(north, tmp_path, config)) == []
    finding = only(examine_data(flipped("2m_temperature")(north), tmp_path, config))
    assert finding.check == "upside-down"
    assert "warmer toward the pole" in finding.what
