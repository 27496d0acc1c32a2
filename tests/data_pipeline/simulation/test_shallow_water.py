import math

import pytest
import torch
from torch import Tensor

from data_pipeline.simulation.shallow_water import Planet, ShallowWater, galewsky, williamson2
from tests.builders.errors import rejects
from tests.builders.harmonics import make_spectrum, make_transform


def eddies(model: ShallowWater, state: Tensor) -> float:
    """RMS of the vorticity without its zonal mean, in s-1."""
    vorticity = model.fields(state)[:, :, 3]
    return (vorticity - vorticity.mean(dim=0)).square().mean().sqrt().item()


def run(model: ShallowWater, state: Tensor, days: float) -> Tensor:
    for _ in range(round(days * 86400 / model.timestep)):
        state = model.step(state)
    return state


def test_wind_of_a_stream_function_has_its_vorticity() -> None:
    model = ShallowWater(make_transform(24), Planet(), timestep=600.0)
    vorticity = 1e-5 * make_spectrum(model.transform)
    vorticity[0, :, 0] = 0
    zero = torch.zeros_like(vorticity)
    u, v, geopotential, _ = model.fields(torch.stack([vorticity, zero, zero], dim=3)).unbind(2)
    again = model.state(u, v, geopotential)
    torch.testing.assert_close(again[:, :, :, 0], vorticity, rtol=0, atol=1e-17)
    assert again[:, :, :, 1].abs().max() < 1e-17


@pytest.mark.parametrize("tilt", [0.0, 45.0, 87.1])
def test_williamson_2_stays_steady(tilt: float) -> None:
    """Williamson et al. (1992), section 3.2: l2 error of the height after 5 days.

    Jakob-Chien et al. (1995) report 1e-13 or below for spectral models in double precision.
    """
    planet = Planet(mean_geopotential=2.94e4, tilt_degrees=tilt)
    model = ShallowWater(make_transform(24), planet, timestep=1800.0)
    start = williamson2(model)
    error = model.fields(run(model, start, 5)) - model.fields(start)
    scale = model.fields(start)[:, :, 2].square().mean().sqrt()
    height = error[:, :, 2].square().mean().sqrt() / scale
    assert height < 1e-12
    assert error[:, :, :2].abs().max() < 1e-9


def test_galewsky_jet_becomes_unstable_between_day_4_and_6() -> None:
    """Galewsky et al. (2004), figure 4: waves at day 4, rolled-up vortices at day 6."""
    model = ShallowWater(make_transform(96), Planet(), timestep=2400.0, diffusion_rate=1 / 10800)
    day4 = run(model, galewsky(model), 4)
    day6 = run(model, day4, 2)
    assert 1e-6 < eddies(model, day4) < 8e-6
    assert eddies(model, day6) > 1.0e-5
    assert eddies(model, run(model, galewsky(model, perturbed=False), 2)) < 1e-10


def test_invariants_of_the_free_flow() -> None:
    model = ShallowWater(make_transform(32), Planet(), timestep=600.0)
    state = galewsky(model)
    start, end = model.invariants(state), model.invariants(run(model, state, 1))
    for name, tolerance in {"mass": 1e-13, "energy": 1e-6, "potential_enstrophy": 1e-3}.items():
        assert abs(end[name] / start[name] - 1) < tolerance


def test_hyperdiffusion_removes_energy_and_potential_enstrophy() -> None:
    model = ShallowWater(make_transform(32), Planet(), timestep=600.0, diffusion_rate=1 / 3600)
    state = galewsky(model)
    start, end = model.invariants(state), model.invariants(run(model, state, 1))
    assert abs(end["mass"] / start["mass"] - 1) < 1e-13
    assert end["energy"] < start["energy"]
    assert end["potential_enstrophy"] < start["potential_enstrophy"]


def test_fourth_order_in_time() -> None:
    def after_a_day(timestep: float) -> Tensor:
        model = ShallowWater(make_transform(24), Planet(), timestep=timestep)
        return model.fields(run(model, galewsky(model), 1))[:, :, 3]

    exact = after_a_day(300.0)
    coarse, fine = ((after_a_day(step) - exact).square().mean().sqrt() for step in (3600.0, 1800.0))
    assert 3.3 < torch.log2(coarse / fine) < 5.0


def test_converges_with_resolution() -> None:
    def heights(rows: int) -> Tensor:
        t = make_transform(rows)
        model = ShallowWater(t, Planet(), timestep=1200.0, diffusion_rate=0.0)
        state = run(model, galewsky(model), 1)
        return state[:17, :, :17, 2]

    exact = heights(64)
    errors = [(heights(rows) - exact).square().sum().sqrt().item() for rows in (26, 40)]
    assert errors[1] < errors[0] / 4


def still_water(model: ShallowWater, depth: float) -> Tensor:
    """Water at rest, of a geopotential in m2 s-2, with ripples of 1e-6 of it at all wavenumbers."""
    calm = torch.zeros(len(model.transform.longitude), len(model.transform.latitude), 1)
    calm = calm.to(model.coriolis)
    state = model.state(calm, calm, calm + depth)
    ripples = make_spectrum(model.transform)
    ripples[0, :, 0] = 0
    state[:, :, :, 2] += 1e-6 * depth * ripples
    return state


def longest_step(truncation: int, depth: float, mean: float) -> float:
    """2.5 a / sqrt(N (N + 1)) / c, c the error of the speed of gravity waves, without rotation."""
    root = math.sqrt(mean)
    error = (depth - mean) / (2 * root) if depth > mean else root - math.sqrt(depth)
    return 2.5 * Planet().radius / math.sqrt(truncation * (truncation + 1)) / error


@pytest.mark.parametrize("depth", [1e2, 2.5e3, 4e4, 8e4])
def test_depths_far_from_the_mean_bound_the_step(depth: float) -> None:
    transform, planet = make_transform(24), Planet(mean_geopotential=1e4, rotation_rate=0.0)
    bound = longest_step(transform.truncation, depth, 1e4)
    stable = ShallowWater(transform, planet, timestep=0.9 * bound, diffusion_rate=2 / bound)
    start = still_water(stable, depth)
    end = run(stable, start, 60 * stable.timestep / 86400)
    assert end[:, :, 1:, 2].abs().max() < start[:, :, 1:, 2].abs().max()
    longer = ShallowWater(transform, planet, timestep=1.02 * bound, diffusion_rate=2 / bound)
    with rejects("unstable-solver", "mean_geopotential=10000", f"{depth:.4g} on average"):
        longer.step(start)
    at_rest = Planet(mean_geopotential=depth, rotation_rate=0.0)
    linear = ShallowWater(transform, at_rest, timestep=20 * bound, diffusion_rate=2 / bound)
    linear.step(still_water(linear, depth))  # every step suits waves of the mean depth


def test_resonant_waves_bound_the_step_further() -> None:
    """Half the bound, but waves of degree 15 turn by 3.94 in place of 2.79 in a step."""
    transform, planet = make_transform(24), Planet(mean_geopotential=1e4, rotation_rate=0.0)
    step = longest_step(15, 2e4, 1e4) / 2
    damped = ShallowWater(transform, planet, timestep=step, diffusion_rate=1 / step)
    damped.require_stable(still_water(damped, 2e4))
    free = ShallowWater(transform, planet, timestep=step)
    with rejects("unstable-solver", "mean_geopotential=10000"):
        free.require_stable(still_water(free, 2e4))


def test_wind_and_rotation_bound_the_step() -> None:
    transform, planet = make_transform(24), Planet(mean_geopotential=2.3e4)
    model = ShallowWater(transform, planet, timestep=17000.0, diffusion_rate=1e-4)
    model.require_stable(still_water(model, 2.3e4))
    slow = ShallowWater(transform, planet, timestep=17200.0, diffusion_rate=1e-4)
    with rejects("unstable-solver", "17142 s"):  # 2.5 over twice the rate of rotation
        slow.require_stable(still_water(slow, 2.3e4))
    fast = Planet(mean_geopotential=2.3e4, rotation_rate=Planet().rotation_rate / 2)
    model = ShallowWater(transform, fast, timestep=17200.0, diffusion_rate=1e-4)
    model.require_stable(still_water(model, 2.3e4))
    with rejects("unstable-solver", "59.6 m s-1"):  # at which 17200 s turn by 2.5
        model.require_stable(galewsky(model))


def test_depth_must_be_positive() -> None:
    model = ShallowWater(make_transform(24), Planet(mean_geopotential=1e3), timestep=600.0)
    start = still_water(model, 1e3)
    dry = model.transform.analyze(torch.full_like(model.fields(start)[:, :, 2], 2e3))[..., 0]
    island = ShallowWater(model.transform, model.planet, timestep=600.0, surface_geopotential=dry)
    with rejects("unstable-solver", "-1000"):
        island.step(start)
