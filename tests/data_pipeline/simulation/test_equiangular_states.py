import numpy as np
import torch

from data_pipeline.simulation.equiangular_states import EquiangularStates
from data_pipeline.simulation.planet import build_planet
from data_pipeline.simulation.shallow_water import galewsky
from tests.builders.errors import rejects


def test_fields_of_a_state_give_the_state_back() -> None:
    model = build_planet(16, 32)
    states, state = EquiangularStates(model, (20, 40)), galewsky(model)
    fields = states.synthesize(state)
    again = states.analyze(fields[:, :3])
    for index in (0, 1, 2):  # vorticity, divergence, geopotential
        error, size = (x[:, :, :, index].norm() for x in (again - state, state))
        assert error < 1e-4 * max(size, state[:, :, :, 0].norm())
    torch.testing.assert_close(states.synthesize(again), fields, rtol=1e-4, atol=1e-2)


def test_vorticity_is_the_curl_of_the_wind_of_a_solid_body() -> None:
    """u = U cos(latitude) has the vorticity 2 U sin(latitude) / radius."""
    model = build_planet(16, 32)
    states = EquiangularStates(model, (20, 40))
    latitude = torch.deg2rad(90 - 9 * (torch.arange(20) + 0.5))
    wind = 40 * torch.cos(latitude)[:, None].expand(20, 40)
    still, flat = torch.zeros_like(wind), torch.full_like(wind, model.planet.mean_geopotential)
    u, v, geopotential, vorticity = states.synthesize(
        states.analyze(torch.stack([wind, still, flat])[None])
    )[0]
    expected = 80 * torch.sin(latitude)[:, None] / model.planet.radius
    torch.testing.assert_close(u, wind, rtol=0, atol=1e-3)
    assert v.abs().max() < 1e-3
    assert np.allclose(geopotential, model.planet.mean_geopotential, rtol=1e-6)
    torch.testing.assert_close(vorticity, expected.expand(20, 40), rtol=0, atol=1e-10)


def test_a_grid_that_does_not_resolve_the_states_is_rejected() -> None:
    with rejects("grid-mismatch", "8 x 16", "10"):
        EquiangularStates(build_planet(16, 32), (8, 16))
