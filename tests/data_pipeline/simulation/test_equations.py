"""Periodic solvers against exact solutions, balances and symmetries."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from data_pipeline.simulation.equations import (
    Burgers,
    GrayScott,
    KolmogorovFlow,
    KuramotoSivashinsky,
    NavierStokes,
)
from data_pipeline.simulation.fourier import (
    Equation,
    FourierGrid,
    SpectralStepper,
    change_resolution,
)
from tests.builders.errors import rejects

TAU = 2 * np.pi


def make_grid(
    equation: Equation, points: int = 32, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> FourierGrid:
    flat = isinstance(equation, Burgers | KuramotoSivashinsky)
    shape = (1 if flat else points, points)
    return FourierGrid(shape, equation.extent, degree=equation.degree, dtype=dtype, device=device)


def start(equation: Equation, grid: FourierGrid, seed: int = 0) -> Tensor:
    return equation.initial(grid, np.random.default_rng(seed))[None]


def run(equation: Equation, grid: FourierGrid, state: Tensor, time: float, steps: int) -> Tensor:
    return SpectralStepper(equation, grid, time / steps).advance(state, steps)


def distance(first: Tensor, second: Tensor) -> float:
    return (first - second).abs().square().sum().sqrt().item()


# An equation, a time that is long enough for its nonlinear term to matter, and steps.
CASES = [
    (NavierStokes(viscosity=1e-3, initial_scale=1e4), 1.0, 10),
    (KolmogorovFlow(viscosity=1e-2), 0.5, 10),
    (Burgers(viscosity=0.02), 0.5, 20),
    (KuramotoSivashinsky(length=32.0), 5.0, 40),
    (GrayScott(bump_width=0.1), 40.0, 10),
]


@pytest.mark.parametrize(("equation", "time", "steps"), CASES, ids=lambda value: str(value)[:12])
def test_fourth_order_in_time(equation: Equation, time: float, steps: int) -> None:
    grid = make_grid(equation)
    state = run(equation, grid, start(equation, grid), time, 8 * steps)
    exact = run(equation, grid, state, time, 8 * steps)
    errors = [distance(run(equation, grid, state, time, n), exact) for n in (steps, 2 * steps)]
    assert 3.5 < np.log2(errors[0] / errors[1]) < 5.5
    assert distance(state, exact) > 1e-3


@pytest.mark.parametrize("equation", [case[0] for case in CASES], ids=lambda e: type(e).__name__)
def test_shifts_commute_with_time(equation: Equation) -> None:
    """Along x; Navier-Stokes along (1, -1), the direction that its forcing leaves alone."""
    grid = make_grid(equation)
    state = start(equation, grid)
    shifts = (-3, 3) if isinstance(equation, NavierStokes) else (0, 3)

    def roll(spectrum: Tensor) -> Tensor:
        return grid.spectrum(grid.fields(spectrum).roll(shifts, dims=(-2, -1)))

    before, after = (
        run(equation, grid, roll(state), 0.1, 4),
        roll(run(equation, grid, state, 0.1, 4)),
    )
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


def test_taylor_green_vortices_decay() -> None:
    """w = cos(2 pi x) cos(2 pi y) exp(-8 pi^2 nu t): the advection of a Laplacian mode is zero."""
    equation = NavierStokes(viscosity=1e-2, forcing=0.0)
    grid = make_grid(equation, 16)
    y, x = np.meshgrid(grid.y, grid.x, indexing="ij")
    field = torch.tensor(np.cos(TAU * x) * np.cos(TAU * y))
    end = grid.fields(run(equation, grid, grid.spectrum(field)[None, None], 1.0, 7))[0, 0]
    torch.testing.assert_close(end, field * np.exp(-8 * np.pi**2 * 1e-2), rtol=0, atol=1e-12)


def test_forced_flow_without_advection() -> None:
    """One wave: w = 0.1 (sin + cos)(2 pi (x + y)) (1 - exp(-r t)) / r, r = 8 pi^2 nu."""
    equation = NavierStokes(viscosity=1e-3)
    grid = make_grid(equation, 16)
    rest = torch.zeros(1, 1, *grid.kept.shape, dtype=torch.complex128)
    end = grid.fields(run(equation, grid, rest, 2.0, 5))[0, 0]
    y, x = np.meshgrid(grid.y, grid.x, indexing="ij")
    rate = 8 * np.pi**2 * 1e-3
    wave = 0.1 * (np.sin(TAU * (x + y)) + np.cos(TAU * (x + y)))
    expected = torch.tensor(wave * (1 - np.exp(-2 * rate)) / rate)
    torch.testing.assert_close(end, expected, rtol=0, atol=1e-12)


def test_laminar_kolmogorov_flow_is_steady() -> None:
    """w = -forcing k cos(k y) / (nu k^2 + drag)."""
    equation = KolmogorovFlow(viscosity=0.05, drag=0.2, wavenumber=3)
    grid = make_grid(equation)
    profile = -3 * np.cos(3 * grid.y) / (0.05 * 9 + 0.2)
    field = torch.tensor(np.tile(profile[:, None], (1, 32)))
    state = grid.spectrum(field)[None, None]
    tendency = equation.linear(grid) * state + equation.nonlinear(grid, state)
    assert tendency.abs().max() < 1e-13


def test_a_force_that_the_grid_cannot_carry_is_rejected() -> None:
    equation = KolmogorovFlow(wavenumber=11)
    with rejects("bad-setting", "data.pde.resolution"):
        start(equation, make_grid(equation))


def test_balance_of_energy_and_enstrophy() -> None:
    """Advection changes neither; viscosity takes 2 nu Z and 2 nu P from energy and enstrophy."""
    equation = NavierStokes(viscosity=3e-3, forcing=0.0, initial_scale=1e4)
    grid = make_grid(equation)
    state = start(equation, grid)
    tendency = equation.linear(grid) * state + equation.nonlinear(grid, state)
    w, dw = grid.fields(state), grid.fields(tendency)
    psi = grid.fields(-grid.inverse_laplacian * state)
    palinstrophy = (grid.fields(grid.dx(state)) ** 2 + grid.fields(grid.dy(state)) ** 2).mean()
    torch.testing.assert_close((psi * dw).mean(), -3e-3 * (w**2).mean())
    torch.testing.assert_close((w * dw).mean(), -3e-3 * palinstrophy)
    end = run(equation, grid, state, 1.0, 20)
    assert distance(end, state) > 0.1
    assert end[..., 0, 0].abs().max() == 0


def test_cole_hopf() -> None:
    """u = -2 nu phi_x / phi with a solution phi of the heat equation."""
    nu = 0.05
    equation = Burgers(viscosity=nu)
    grid = make_grid(equation, 128)

    def exact(time: float) -> Tensor:
        decay = np.exp(-nu * TAU**2 * time)
        x = TAU * grid.x
        slope = -TAU * decay * np.sin(x)
        return torch.tensor(-2 * nu * slope / (2 + decay * np.cos(x)))[None, None, None]

    end = grid.fields(run(equation, grid, grid.spectrum(exact(0.0)), 0.5, 200))
    torch.testing.assert_close(end, exact(0.5), rtol=0, atol=1e-9)


def test_burgers_keeps_its_mass_and_loses_energy() -> None:
    equation = Burgers(viscosity=0.02)
    grid = make_grid(equation)
    state = start(equation, grid)
    state[..., 0, 0] = 0.7
    end = run(equation, grid, state, 0.3, 60)
    torch.testing.assert_close(end[..., 0, 0], state[..., 0, 0], rtol=0, atol=1e-15)
    assert grid.fields(end).square().mean() < grid.fields(state).square().mean()


def test_growth_rates_of_kuramoto_and_sivashinsky() -> None:
    equation = KuramotoSivashinsky(length=20.0)
    grid = make_grid(equation, 64)
    state = torch.zeros(1, 1, 1, 33, dtype=torch.complex128)
    state[..., 1:6] = 1e-9
    wave = TAU * torch.arange(1, 6) / 20.0
    end = run(equation, grid, state, 3.0, 30)
    growth = torch.log(end[0, 0, 0, 1:6].abs() / 1e-9) / 3
    torch.testing.assert_close(growth, (wave**2 - wave**4).double(), rtol=1e-6, atol=1e-6)


def test_homogeneous_gray_scott_is_an_ordinary_equation() -> None:
    equation = GrayScott()
    grid = make_grid(equation, 16)
    state = torch.zeros(1, 2, *grid.kept.shape, dtype=torch.complex128)
    state[0, :, 0, 0] = torch.tensor([0.6, 0.3])

    def rates(_: float, uv: np.ndarray) -> list[float]:
        reaction = uv[0] * uv[1] ** 2
        return [-reaction + 0.04 * (1 - uv[0]), reaction - 0.1 * uv[1]]

    exact = solve_ivp(rates, (0, 30), [0.6, 0.3], rtol=1e-11, atol=1e-13).y[:, -1]
    end = run(equation, grid, state, 30.0, 100)[0]
    torch.testing.assert_close(end[:, 0, 0].real, torch.tensor(exact), rtol=0, atol=1e-8)
    assert end[:, 1:].abs().max() == 0


@pytest.mark.parametrize("equation", [case[0] for case in CASES], ids=lambda e: type(e).__name__)
def test_the_initial_state_does_not_depend_on_the_resolution(equation: Equation) -> None:
    coarse, fine = make_grid(equation, 24), make_grid(equation, 60)
    low = start(equation, coarse)
    high = change_resolution(start(equation, fine), fine, coarse.shape)
    torch.testing.assert_close(low, coarse.spectrum(high), rtol=0, atol=1e-12)
    torch.testing.assert_close(coarse.spectrum(coarse.fields(low)), low, rtol=0, atol=1e-12)


def test_float32_follows_float64() -> None:
    equation = NavierStokes()
    ends = []
    for dtype in (torch.float32, torch.float64):
        grid = make_grid(equation, dtype=dtype)
        end = grid.fields(run(equation, grid, start(equation, grid), 2.0, 40))
        assert end.dtype == dtype
        ends.append(end.double())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_fields() -> None:
    equation = NavierStokes()
    ends = []
    for device in ("cpu", "cuda"):
        grid = make_grid(equation, device=device)
        ends.append(run(equation, grid, start(equation, grid), 2.0, 40).cpu())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-10)
