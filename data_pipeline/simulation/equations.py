"""Periodic equations: a linear and a nonlinear term each, and random initial states.

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

    Args:
        viscosity: nu.
        forcing: Amplitude.
        initial_scale: 7^1.5 in the paper; the code that its authors published has 7^3.
    """

    viscosity: float = 1e-3
    forcing: float = 0.1
    initial_scale: float = 7**1.5

    @property
    def extent(self) -> tuple[float, float]:
        """Of the unit torus."""
        return 1.0, 1.0

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

    Args:
        viscosity: nu.
        drag: Linear drag.
        forcing: Amplitude of the force.
        wavenumber: k.
    """

    viscosity: float = 1e-3
    drag: float = 0.1
    forcing: float = 1.0
    wavenumber: int = 4

    @property
    def extent(self) -> tuple[float, float]:
        """Of the torus."""
        return 2 * pi, 2 * pi

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
                f"a force at the wavenumber {self.wavenumber} needs more than "
                f"{3 * self.wavenumber} points, got {grid.shape}; raise data.pde.resolution",
                code="bad-setting",
            )
        return random_field(grid, rng, scale=4e4, power=4.0, shift=16.0)[None]


@dataclass(frozen=True, kw_only=True)
class Burgers:
    """Viscous Burgers equation in one dimension, du/dt + d(u^2 / 2)/dx = nu d^2u/dx^2 on 0..1.

    u ~ N(0, 625 (-laplacian + 25)^(-2)) in the beginning: Li et al. (2021), A.3.1.

    Args:
        viscosity: nu.
    """

    variables = ("velocity",)
    degree = 2
    viscosity: float = 0.1

    @property
    def extent(self) -> tuple[float, float]:
        """Of the unit interval."""
        return 1.0, 1.0

    def linear(self, grid: FourierGrid) -> Tensor:
        """Viscosity."""
        return self.viscosity * grid.laplacian[None]

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """Self-advection."""
        return _self_advection(grid, state)

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """A Gaussian random field."""
        return random_field(grid, rng, scale=625.0, power=2.0, shift=25.0)[None]


@dataclass(frozen=True, kw_only=True)
class KuramotoSivashinsky:
    """Chaos in one dimension: du/dt + d(u^2 / 2)/dx + d^2u/dx^2 + d^4u/dx^4 = 0 on 0..length.

    Args:
        length: Of the interval; the waves that grow fastest have a length of 8.9.
    """

    variables = ("velocity",)
    degree = 2
    length: float = 64.0

    @property
    def extent(self) -> tuple[float, float]:
        """Of the interval."""
        return 1.0, self.length

    def linear(self, grid: FourierGrid) -> Tensor:
        """Growth of long waves and damping of short ones."""
        return (-grid.laplacian - grid.laplacian**2)[None]

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """Self-advection."""
        return _self_advection(grid, state)

    def initial(self, grid: FourierGrid, rng: np.random.Generator) -> Tensor:
        """A Gaussian random field of unit order with waves as long as those that grow."""
        return random_field(grid, rng, scale=0.01, power=4.0, shift=0.5)[None]


@dataclass(frozen=True, kw_only=True)
class GrayScott:
    """Reaction and diffusion of two substances on a square, Pearson (1993).

        du/dt = diffusion_u laplacian(u) - u v^2 + feed (1 - u)
        dv/dt = diffusion_v laplacian(v) + u v^2 - (feed + kill) v

    In the beginning v is 0 and u is 1, but for Gaussian bumps of v around random points.

    Args:
        diffusion_u: Of the substance that is fed.
        diffusion_v: Of the other.
        feed: Rate.
        kill: Rate.
        length: Of the sides.
        bumps: How many.
        bump_width: Standard deviation of each.
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
        """Of the square."""
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


def _self_advection(grid: FourierGrid, velocity: SpectralState) -> SpectralState:
    """- d(u^2 / 2)/dx."""
    return -grid.dx(grid.spectrum(grid.fields(velocity) ** 2 / 2))


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
