"""Periodic equations: a linear and a nonlinear term each, and random initial states.

The linear term is integrated exactly, however stiff it is. The nonlinear term bounds the step of
the solver, ``data.pde.timestep / substeps``; for advection by a speed U with wavenumbers up to K

    step < 2.8 / (U K),   K = 2 pi n / ((degree + 1) length) for n points along a length,

is stable. Good values are those of ``configs/pde_*.yaml``, where the error of a saved step is
below 1e-4 of its change.

References:
    Li et al., 2021, Fourier neural operator for parametric partial differential equations,
    https://arxiv.org/abs/2010.08895, appendix A.3.
    Kochkov et al., 2021, Machine learning-accelerated computational fluid dynamics,
    https://doi.org/10.1073/pnas.2101784118 (Kolmogorov flow).
    Pearson, 1993, Complex patterns in a simple system,
    https://doi.org/10.1126/science.261.5118.189 (Gray-Scott).
    Kassam and Trefethen, 2005, Fourth-order time-stepping for stiff PDEs,
    https://doi.org/10.1137/S1064827502410633 (Kuramoto-Sivashinsky).
"""

from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.simulation.fourier import Coefficients, FourierGrid, SpectralState
from data_pipeline.simulation.random_fields import gaussian_bumps, random_field


class Flow:
    """Incompressible flow on a torus, by its vorticity, with the velocity that follows from it."""

    variables = ("vorticity",)
    derived = ("velocity_x", "velocity_y")
    degree = 2

    def derive(self, grid: FourierGrid, state: SpectralState) -> Coefficients:
        """The velocity along x and y."""
        return torch.cat(_velocity(grid, state), dim=1)


@dataclass(frozen=True, kw_only=True)
class NavierStokes(Flow):
    """Incompressible flow on the unit torus, by its vorticity w.

        dw/dt + v . grad w = nu laplacian(w) + forcing (sin(2 pi (x + y)) + cos(2 pi (x + y)))

    with w ~ N(0, initial_scale (-laplacian + 49)^(-2.5)) in the beginning: Li et al. (2021),
    section 5.3 and A.3.3. The mean of w does not change.

    Good values: 64 points along each axis, 30 substeps in a timestep of 1. Speeds are about 0.03
    in the beginning and grow with the forcing. Less viscosity needs more points: 1e-4 and 1e-5
    are the harder cases of the paper.

    Args:
        viscosity: nu, not negative.
        forcing: Amplitude; 0 for a flow that decays.
        initial_scale: 7^1.5 in the paper; the code that its authors published has 7^3.
    """

    extent = (1.0, 1.0)
    viscosity: float = 1e-3
    forcing: float = 0.1
    initial_scale: float = 7**1.5

    def linear(self, grid: FourierGrid) -> Tensor:
        """Viscosity."""
        return self.viscosity * grid.laplacian[None]

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """Advection and forcing."""
        tendency = _advection(grid, state)
        if self.forcing:
            tendency[..., 1, 1] += self.forcing * (1 - 1j) / 2
        return tendency

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """A Gaussian random field."""
        return random_field(grid, rng, scale=self.initial_scale, power=2.5, shift=49.0)[None]


@dataclass(frozen=True, kw_only=True)
class KolmogorovFlow(Flow):
    """Turbulence on the torus of length 2 pi, driven by a sine of y and held by drag.

        dw/dt + v . grad w = nu laplacian(w) - drag w - forcing k cos(k y)

    which is the force forcing sin(k y) along x on the velocity: Kochkov et al. (2021).

    Good values: 64 points along each axis with a viscosity of 0.02, 12 substeps in a timestep of
    0.25, after a spin-up of 20 model times. Speeds reach 2, the vorticity 9; the solution became
    infinite with 2 substeps and did not with 3. The default viscosity is that of the paper, which
    resolves it with 2048 points.

    Args:
        viscosity: nu, not negative.
        drag: Linear drag, not negative; without it the flow gathers energy at the largest scale.
        forcing: Amplitude of the force.
        wavenumber: k, less than a third of the points along an axis.
    """

    extent = (2 * pi, 2 * pi)
    viscosity: float = 1e-3
    drag: float = 0.1
    forcing: float = 1.0
    wavenumber: int = 4

    def linear(self, grid: FourierGrid) -> Tensor:
        """Viscosity and drag."""
        return self.viscosity * grid.laplacian[None] - self.drag

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """Advection and forcing."""
        tendency, k = _advection(grid, state), self.wavenumber
        tendency[..., [k, -k], 0] -= self.forcing * k / 2
        return tendency

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """A smooth random field with a standard deviation of about 3."""
        if 3 * self.wavenumber >= min(grid.shape):
            raise InputError(
                f"the wavenumber {self.wavenumber} of the force needs more than "
                f"{3 * self.wavenumber} points, got {grid.shape}; raise data.pde.resolution",
                code="bad-setting",
            )
        return random_field(grid, rng, scale=4e4, power=4.0, shift=16.0)[None]


class _SelfAdvection:
    """Velocity in one dimension that carries itself."""

    variables = ("velocity",)
    degree = 2

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """- d(u^2 / 2)/dx."""
        return -grid.dx(grid.spectrum(grid.fields(state) ** 2 / 2))


@dataclass(frozen=True, kw_only=True)
class Burgers(_SelfAdvection):
    """Viscous Burgers equation in one dimension, du/dt + d(u^2 / 2)/dx = nu d^2u/dx^2 on 0..1.

    u ~ N(0, 625 (-laplacian + 25)^(-2)) in the beginning: Li et al. (2021), A.3.1.

    Good values: 256 points, 20 substeps in a timestep of 0.05; the paper has 8192 points.
    Velocities are below 1 and decay. With less viscosity fronts become steep: their width, about
    nu over the velocity, needs several points.

    Args:
        viscosity: nu, positive.
    """

    extent = (1.0, 1.0)
    viscosity: float = 0.1

    def linear(self, grid: FourierGrid) -> Tensor:
        """Viscosity."""
        return self.viscosity * grid.laplacian[None]

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """A Gaussian random field."""
        return random_field(grid, rng, scale=625.0, power=2.0, shift=25.0)[None]


@dataclass(frozen=True, kw_only=True)
class KuramotoSivashinsky(_SelfAdvection):
    """Chaos in one dimension: du/dt + d(u^2 / 2)/dx + d^2u/dx^2 + d^4u/dx^4 = 0 on 0..length.

    Good values: 2 points for a unit of length, 10 substeps in a timestep of 1, after a spin-up of
    100. Velocities stay within 3; the solution stays finite even with a single substep.

    Args:
        length: Of the interval; the waves that grow fastest have a length of 8.9. Above about 22
            the solution is chaotic, with more degrees of freedom the longer it is.
    """

    length: float = 64.0

    @property
    def extent(self) -> tuple[float, float]:
        """Lengths along y and x."""
        return 1.0, self.length

    def linear(self, grid: FourierGrid) -> Tensor:
        """Growth of long waves and damping of short ones."""
        return (-grid.laplacian - grid.laplacian**2)[None]

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """A Gaussian random field of unit order with waves as long as those that grow."""
        return random_field(grid, rng, scale=0.01, power=4.0, shift=0.5)[None]


@dataclass(frozen=True, kw_only=True)
class GrayScott:
    """Reaction and diffusion of two substances on a square, Pearson (1993).

        du/dt = diffusion_u laplacian(u) - u v^2 + feed (1 - u)
        dv/dt = diffusion_v laplacian(v) + u v^2 - (feed + kill) v

    In the beginning v is 0 and u is 1, except in Gaussian bumps of v around random points.

    Good values: 128 points along each axis, a step of the solver of 2 (25 substeps in a timestep of
    50). u and v stay within 0..1, so that rates of reaction are below 1 and steps of a few model
    times are stable. Patterns depend on the rates: spots that divide for a feed of 0.035 and a
    kill of 0.065, labyrinths for 0.04 and 0.06; for a kill above 0.07 v dies out.

    Args:
        diffusion_u: Diffusivity of the substance that is fed, positive.
        diffusion_v: Diffusivity of the other, usually half of it.
        feed: Rate, 0.01 to 0.08 for patterns.
        kill: Rate, 0.04 to 0.07 for patterns.
        length: Length of the sides.
        bumps: Number of bumps in the beginning.
        bump_width: Standard deviation of each, several points.
    """

    variables = ("u", "v")
    degree = 3
    diffusion_u: float = 2e-5
    diffusion_v: float = 1e-5
    feed: float = 0.04
    kill: float = 0.06
    length: float = 1.0
    bumps: int = 12
    bump_width: float = 0.04

    @property
    def extent(self) -> tuple[float, float]:
        """Lengths along y and x."""
        return self.length, self.length

    def linear(self, grid: FourierGrid) -> Tensor:
        """Diffusion and loss."""
        u = self.diffusion_u * grid.laplacian - self.feed
        v = self.diffusion_v * grid.laplacian - (self.feed + self.kill)
        return torch.stack([u, v])

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """Reaction and feed."""
        u, v = grid.fields(state).unbind(-3)
        reaction = grid.spectrum(u * v**2)
        tendency = torch.stack([-reaction, reaction], dim=-3)
        tendency[..., 0, 0, 0] += self.feed
        return tendency

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """Bumps in the state without v."""
        bumps = gaussian_bumps(grid, rng, count=self.bumps, width=self.bump_width)
        state = torch.stack([-0.5 * bumps, 0.25 * bumps])
        state[0, 0, 0] += 1
        return state


def _velocity(grid: FourierGrid, vorticity: SpectralState) -> tuple[SpectralState, SpectralState]:
    """(d psi/dy, -d psi/dx) with the stream function psi, along x and y."""
    psi = -grid.inverse_laplacian * vorticity
    return grid.dy(psi), -grid.dx(psi)


def _advection(grid: FourierGrid, vorticity: SpectralState) -> SpectralState:
    """Minus the divergence of the vorticity's flux."""
    parts = torch.stack([*_velocity(grid, vorticity), vorticity])
    u, v, w = grid.fields(parts).unbind(0)
    flux_x, flux_y = grid.spectrum(torch.stack([u * w, v * w])).unbind(0)
    return -(grid.dx(flux_x) + grid.dy(flux_y))
