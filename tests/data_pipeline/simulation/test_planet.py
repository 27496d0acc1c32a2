import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from data_pipeline.simulation.planet import (
    VARIABLES,
    SimulationConfig,
    Stirring,
    build_planet,
    jet_speed,
    simulate_planet,
)
from data_pipeline.simulation.shallow_water import zonal_jet
from tests.builders.errors import rejects

CONFIG = SimulationConfig(
    num_trajectories=3, days=40, spinup_days=20, num_latitudes=16, num_longitudes=32
)


@pytest.fixture(scope="module")
def planet() -> xr.Dataset:
    return simulate_planet(CONFIG)


def test_schema(planet: xr.Dataset) -> None:
    LatLonGrid.equiangular(16, 32).require_same(LatLonGrid.from_dataset(planet), "the test")
    assert {str(name): planet[name].attrs["units"] for name in planet.data_vars} == {
        **{name: units for name, (units, _) in VARIABLES.items()},
        "geopotential_at_surface": "m2 s-2",
    }
    assert planet["geopotential"].dims == ("time", "latitude", "longitude")
    assert all(variable.dtype == np.float32 for variable in planet.data_vars.values())


def test_each_trajectory_fills_its_year(planet: xr.Dataset) -> None:
    times = planet["time"].values.reshape(3, -1)
    assert times.shape[1] == 40 * 4
    assert (np.diff(times) == np.timedelta64(6, "h")).all()
    assert [str(first)[:10] for first in times[:, 0]] == ["2001-01-01", "2002-01-01", "2003-01-01"]


def test_seed_decides_everything(planet: xr.Dataset) -> None:
    short = {"num_trajectories": 1, "days": 2, "spinup_days": 0}
    small = SimulationConfig(num_latitudes=16, num_longitudes=32, **short)
    other = SimulationConfig(num_latitudes=16, num_longitudes=32, seed=1, **short)
    xr.testing.assert_identical(simulate_planet(small), simulate_planet(small))
    assert not simulate_planet(small)["geopotential"].equals(simulate_planet(other)["geopotential"])


@pytest.mark.parametrize("speed", [0.0, 40.0, 120.0])
def test_the_first_state_has_the_jets_of_the_settings(speed: float) -> None:
    config = SimulationConfig(
        num_trajectories=1, days=1, spinup_days=0, timestep_hours=24, jet_speed=speed
    )
    wind = simulate_planet(config)["u_component_of_wind"][0].mean("longitude")
    expected = jet_speed(wind["latitude"].values, speed)
    assert np.abs(wind.values - expected).max() < 0.05 * max(speed, 1)


def test_a_jet_speed_is_in_no_record_of_earlier_versions() -> None:
    assert "jet_speed" not in SimulationConfig().to_json()
    assert SimulationConfig(jet_speed=60.0).to_json()["jet_speed"] == 60.0


def test_mass_is_conserved(planet: xr.Dataset) -> None:
    weights = LatLonGrid.from_dataset(planet).area_weights()
    mean = (weights * planet["geopotential"].values.astype(float)).mean(axis=(1, 2))
    # The equiangular mean is no exact quadrature: what is left is its error, not a drift.
    assert np.ptp(mean) / mean.mean() < 1e-3
    assert abs(mean[-40:].mean() / mean[:40].mean() - 1) < 1e-4


def test_variability_persists(planet: xr.Dataset) -> None:
    v = planet["v_component_of_wind"].values.reshape(3, -1, 16, 32)
    first, last = (v[:, part].std() for part in (slice(0, 80), slice(80, None)))
    assert first > 1.0
    assert 0.7 < last / first < 1.4
    assert np.abs(planet["u_component_of_wind"].values).max() < 150


def test_vorticity_is_the_curl_of_the_wind(planet: xr.Dataset) -> None:
    transform = SphericalHarmonicTransform(16, 32)
    output = SphericalHarmonicTransform(16, 32, rows="equiangular")
    assert output.truncation == transform.truncation
    one = planet.isel(time=7)
    zonal_mean = one["relative_vorticity"].mean("longitude").values
    wind = one["u_component_of_wind"].mean("longitude").values
    latitude = np.deg2rad(one["latitude"].values)
    momentum = wind * np.cos(latitude)
    curl = -np.gradient(momentum, latitude) / (6.37122e6 * np.cos(latitude))
    # Second differences at 11 degrees are rough: the two agree in shape, away from the poles.
    assert np.corrcoef(curl[2:-2], zonal_mean[2:-2])[0, 1] > 0.9


def test_error_in_time_by_halving_the_step() -> None:
    """Without stirring. A surrogate leaves a tenth of the change over 6 hours, or more."""
    model = build_planet(16, 32)
    eddies = Stirring(model, [[0]]).initial_eddies()
    state = model.balanced(zonal_jet(model, jet_speed) + eddies)
    finer = build_planet(16, 32, longest_step=model.timestep / 2)
    assert finer.timestep == model.timestep / 2
    coarse = fine = state
    for _ in range(round(6 * 3600 / model.timestep)):
        coarse, fine = model.step(coarse), finer.step(finer.step(fine))
    fields = [model.fields(s).permute(2, 0, 1, 3).flatten(1) for s in (state, coarse, fine)]
    start, end, exact = fields
    error, change = ((f - exact).norm(dim=1) for f in (end, start))
    assert (error < 1e-2 * change).all()


@pytest.mark.parametrize(
    "change", [{"days": 400}, {"num_trajectories": 0}, {"num_longitudes": 60}, {"spinup_days": -1}]
)
def test_bad_configuration_is_rejected(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        SimulationConfig(**change)


def test_a_planet_that_does_not_fit_into_memory_is_named() -> None:
    config = SimulationConfig(num_trajectories=250, num_latitudes=4096, num_longitudes=8192)
    with rejects("too-little-memory", "4096 x 8192", "250 x 360", "GiB", "num_latitudes"):
        simulate_planet(config)
