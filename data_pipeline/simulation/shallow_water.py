"""Rotating shallow-water equations on the sphere, solved spectrally.

A layer of fluid of free-surface geopotential Phi0 + eta over a surface geopotential phi_s, with
vorticity zeta, divergence delta and absolute vorticity q = zeta + f (Coriolis parameter f):

    d zeta  / dt = - div(q v)                                        + F
    d delta / dt =   curl(q v) - laplacian(eta + |v|^2 / 2)          + F
    d eta   / dt = - Phi0 delta - div((eta - phi_s) v)               + F

where F is hyperdiffusion, drag and relaxation. Quadratic products are formed on a Gauss-Legendre
grid without aliasing. Gravity waves about the mean depth Phi0 and the hyperdiffusion are integrated
exactly, the rest by the fourth-order exponential Runge-Kutta method ETDRK4, and the next state
depends on the current one alone. The mean of eta has no tendency, so mass is conserved to rounding.

The rest bounds the step h: the Coriolis force, the wind, and how far the depth Phi = Phi0 + eta -
phi_s is from Phi0. With the rotation rate W, the truncation N and the radius a,

    2 W h < 2.5,    h sqrt(N (N + 1)) / a (|v| + c) < 2.5 everywhere on the sphere,

    c = sqrt(Phi0) - sqrt(Phi) where Phi < Phi0,    (Phi - Phi0) / (2 sqrt(Phi0)) elsewhere.

c is the error of the speed of gravity waves: those of wavenumber k turn by the angle h k c too far,
and the Runge-Kutta method has to turn them back. Where waves turn by about a multiple of pi in a
step, h sqrt(n (n + 1) Phi0) / a, a smaller error resonates. So in addition, on water at rest of the
flow's mean depth, no wave may grow by more than a hundredth in a step of the method, with the
hyperdiffusion. States from which a simulation starts are checked. Choose Phi0 close to the mean
depth; then wind and Coriolis force alone bound the step. Hyperdiffusion of about 1 / h removes weak
growth at the smallest scales, which long simulations near the bound have.

References:
    Williamson et al., 1992, A standard test set for numerical approximations to the shallow water
    equations in spherical geometry, https://doi.org/10.1016/S0021-9991(05)80016-6.
    Hack and Jakob, 1992, Description of a global shallow water model based on the spectral
    transform method, NCAR/TN-343+STR, https://doi.org/10.5065/D64X55QB.
    See ``data_pipeline.simulation.exponential`` for ETDRK4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Gt
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from data_pipeline.bounds import check_bounds
from data_pipeline.errors import InputError
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from data_pipeline.simulation import exponential

ShallowWaterState = Float[Tensor, "order part degree 3 batch"]
GridFields = Float[Tensor, "batch field lat lon"]

_LARGEST_ANGLE = 2.5  # that the explicit part of the method may turn by in a step
_LARGEST_GROWTH = 1.01  # of gravity waves on the mean depth in a step


@dataclass(frozen=True, kw_only=True)
class Planet:
    """Constants of a planet; the defaults are those of Williamson et al. (1992).

    Args:
        radius: m.
        rotation_rate: s-1.
        gravity: m s-2.
        mean_geopotential: Geopotential Phi0 in m2 s-2 that the free surface is measured from, and
            about whose gravity waves the solver is exact; close to that of the flow's mean depth.
        tilt_degrees: Angle between the axis of rotation and the pole of the grid.
    """

    radius: Annotated[float, Gt(0)] = 6.37122e6
    rotation_rate: float = 7.292e-5
    gravity: float = 9.80616
    mean_geopotential: Annotated[float, Gt(0)] = 9.80616e4
    tilt_degrees: float = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "planet")


class Relaxation(NamedTuple):
    """Linear damping toward a state: d x / dt = rate * (equilibrium - x).

    ``rate`` (s-1) broadcasts against states. The mean geopotential is never relaxed.
    """

    equilibrium: Tensor
    rate: Tensor


class ShallowWater:
    """Time stepper of the rotating shallow-water equations for a batch of states.

    A state is the spectrum of (zeta, delta, eta) of shape (order, part, degree, 3, batch), see
    ``data_pipeline.grids.spherical_harmonics``, in s-1, s-1 and m2 s-2.

    Args:
        transform: Gaussian transform, which sets resolution, precision and device.
        planet: Constants.
        timestep: Seconds. Wind and depth bound it, see the head of this module.
        diffusion_rate: Damping of the smallest resolved scale by hyperdiffusion in s-1.
        diffusion_power: Power of the Laplacian in the hyperdiffusion, 2 for del^4.
        surface_geopotential: Spectrum of the geopotential of the ground in m2 s-2, of shape
            (order, part, degree).
        relaxation: Forcing and drag.
    """

    def __init__(
        self,
        transform: SphericalHarmonicTransform,
        planet: Planet,
        *,
        timestep: float,
        diffusion_rate: float = 0.0,
        diffusion_power: int = 2,
        surface_geopotential: Float[Tensor, "order part degree"] | None = None,
        relaxation: Relaxation | None = None,
    ) -> None:
        self.transform, self.planet, self.timestep = transform, planet, timestep
        self._relaxation, self._surface = relaxation, torch.zeros(())
        self._latest: ShallowWaterState | None = None
        if surface_geopotential is not None:
            self._surface = transform.synthesize(surface_geopotential[..., None])
        like, tilt = transform.laplacian, np.deg2rad(planet.tilt_degrees)
        latitude = torch.tensor(np.deg2rad(transform.latitude)).to(like)[:, None]
        longitude = torch.tensor(np.deg2rad(transform.longitude)).to(like)[:, None, None]
        self._cosine = torch.cos(latitude)
        along = torch.cos(longitude) * self._cosine * float(np.sin(tilt))
        pole_sine = torch.sin(latitude) * float(np.cos(tilt)) - along
        self.coriolis = 2 * planet.rotation_rate * pole_sine
        self._exponentials = _exponentials(
            transform.laplacian, planet, timestep, diffusion_rate, diffusion_power
        )

    def step(
        self, state: ShallowWaterState, forcing: ShallowWaterState | float = 0.0
    ) -> ShallowWaterState:
        """The state one ``timestep`` later, by ETDRK4, with a constant further tendency.

        Raises:
            InputError: If the state is not the result of the last step and beyond the bound of
                stability, see ``require_stable``.
        """
        if state is not self._latest:
            self.require_stable(state)
        self._latest = exponential.step(
            self._exponentials, _apply, lambda x: self.tendency(x) + forcing, state
        )
        return self._latest

    def require_stable(self, state: ShallowWaterState) -> None:
        """Reject a state that the solver cannot follow, see the head of this module.

        Raises:
            InputError: If a depth is not positive, or the timestep beyond the bound.
        """
        u, v, geopotential, _ = self.fields(state).unbind(2)
        depth, wind = geopotential - self._surface, torch.hypot(u, v)
        mean, means = self.planet.mean_geopotential, self._means(depth)
        found = (
            f"depths of {depth.min():.4g} to {depth.max():.4g} m2 s-2, {means.mean():.4g} on "
            f"average, with planet.mean_geopotential={mean:g}"
        )
        if depth.min() <= 0:
            raise InputError(
                f"the state has {found}; they must be positive everywhere: raise the free surface "
                "or lower the geopotential of the ground",
                code="unstable-solver",
            )
        slower, faster = mean**0.5 - depth.sqrt(), (depth - mean) / (2 * mean**0.5)
        speed = (wind + torch.where(depth < mean, slower, faster)).max().item()
        wavenumber = (-self.transform.laplacian.min().item()) ** 0.5 / self.planet.radius
        if np.isnan(speed):
            return  # the steps keep it visible
        rate = max(wavenumber * speed, 2 * abs(self.planet.rotation_rate))
        if self.timestep * rate > _LARGEST_ANGLE or self._growth(means) > _LARGEST_GROWTH:
            raise InputError(
                f"steps of {self.timestep:g} s are unstable at a truncation of "
                f"{self.transform.truncation} for {found}, and winds of up to {wind.max():.3g} "
                f"m s-1; set mean_geopotential to the mean depth, or a timestep below "
                f"{_LARGEST_ANGLE / rate:.0f} s, less where waves resonate",
                code="unstable-solver",
            )

    def tendency(self, state: ShallowWaterState) -> ShallowWaterState:
        """Rate of change without gravity waves of the mean depth and hyperdiffusion."""
        result = self._advection(state)
        if self._relaxation is None:
            return result
        forcing = self._relaxation.rate * (self._relaxation.equilibrium - state)
        forcing[0, 0, 0] = 0
        return result + forcing

    def _advection(self, state: Tensor) -> Tensor:
        """Tendency of the quadratic and Coriolis terms, in a single pair of transforms."""
        transform, radius = self.transform, self.planet.radius
        v, u, zeta, eta = self._grid(state).unbind(2)
        q, depth = zeta + self.coriolis, eta - self._surface
        # In place: to stack fields takes longer than their products.
        products = u.new_empty(*u.shape[:2], 5, *u.shape[2:])
        factors = (q, u), (q, v), (depth, u), (depth, v), (u, u)
        for index, (first, second) in enumerate(factors):
            torch.mul(first, second, out=products[:, :, index])
        products[:, :, 4].addcmul_(v, v)  # twice the energy
        value, slope = transform.analyze_vectors(products)
        zonal = transform.zonal_derivative(value[:, :, :, :3])
        lift = transform.laplacian[:, None] / (2 * radius) * value[:, :, :, 4]
        result = torch.empty_like(state)
        torch.sub(slope[:, :, :, 1], zonal[:, :, :, 0], out=result[:, :, :, 0])
        torch.sub(zonal[:, :, :, 1] + slope[:, :, :, 0], lift, out=result[:, :, :, 1])
        torch.sub(slope[:, :, :, 3], zonal[:, :, :, 2], out=result[:, :, :, 2])
        result /= radius
        result[0, 0, 0] = 0
        return result

    def state(
        self,
        u: Float[Tensor, "lon lat batch"],
        v: Float[Tensor, "lon lat batch"],
        geopotential: Float[Tensor, "lon lat batch"],
    ) -> ShallowWaterState:
        """The state of wind (m s-1) and free-surface geopotential (m2 s-2) on the Gaussian grid."""
        wind = torch.stack([u, v], dim=2) * self._cosine[..., None]
        value, slope = self.transform.analyze_vectors(wind)
        zonal = self.transform.zonal_derivative(value)
        vorticity = (zonal[:, :, :, 1] + slope[:, :, :, 0]) / self.planet.radius
        divergence = (zonal[:, :, :, 0] - slope[:, :, :, 1]) / self.planet.radius
        eta = self.transform.analyze(geopotential - self.planet.mean_geopotential)
        return torch.stack([vorticity, divergence, eta], dim=3)

    def balanced(self, vorticity: Float[Tensor, "order part degree batch"]) -> ShallowWaterState:
        """The state without divergence whose divergence does not change (nonlinear balance).

        Solves laplacian(eta) = curl(q v) - laplacian(|v|^2 / 2); the mean of eta is 0.
        """
        zero = torch.zeros_like(vorticity)
        state = torch.stack([vorticity, zero, zero], dim=3)
        unbalanced = self._advection(state)[:, :, :, 1]
        scale = self.planet.radius**2 * self.transform.inverse_laplacian[:, None]
        return torch.stack([vorticity, zero, unbalanced * scale], dim=3)

    def fields(self, state: ShallowWaterState) -> Float[Tensor, "lon lat 4 batch"]:
        """(u, v, free-surface geopotential, relative vorticity) on the Gaussian grid, SI units."""
        v, u, zeta, eta = self._grid(state).unbind(2)
        geopotential = eta + self.planet.mean_geopotential
        return torch.stack([u / self._cosine, v / self._cosine, geopotential, zeta], dim=2)

    def invariants(self, state: ShallowWaterState) -> dict[str, Float[Tensor, " batch"]]:
        """Means over the sphere that free flow keeps.

        ``mass`` is the depth h in m, ``energy`` the kinetic and potential energy per area and
        density in m3 s-2, ``potential_enstrophy`` (zeta + f)^2 / (2 h) in m-1 s-2.
        """
        u, v, geopotential, zeta = self.fields(state).unbind(2)
        free_surface, surface = (x / self.planet.gravity for x in (geopotential, self._surface))
        depth = free_surface - surface
        potential = self.planet.gravity * (free_surface**2 - surface**2)
        energy = (depth * (u**2 + v**2) + potential) / 2
        densities = torch.stack([depth, energy, (zeta + self.coriolis) ** 2 / (2 * depth)])
        names = "mass", "energy", "potential_enstrophy"
        return dict(zip(names, self._means(densities), strict=True))

    def _growth(self, depths: Float[Tensor, " batch"]) -> float:
        """Largest growth of gravity waves in a step, on water at rest of uniform depths."""
        excess = (depths - self.planet.mean_geopotential).repeat_interleave(2)
        waves = depths.new_zeros(1, 1, len(self.transform.laplacian), 3, len(excess))
        waves[:, :, :, 1, 0::2] = 1  # divergence alone, and geopotential alone
        waves[:, :, :, 2, 1::2] = 1

        def tendency(waves: Tensor) -> Tensor:
            zero = torch.zeros_like(waves[:, :, :, 0])
            return torch.stack([zero, zero, -excess * waves[:, :, :, 1]], dim=3)

        after = exponential.step(self._exponentials, _apply, tendency, waves)
        matrices = rearrange(
            after[0, 0, :, 1:], "n row (batch column) -> n batch row column", column=2
        )
        return torch.linalg.eigvals(matrices.double().cpu()).abs().max().item()

    def _means(
        self, fields: Float[Tensor, "*field lon lat batch"]
    ) -> Float[Tensor, "*field batch"]:
        """Means over the sphere."""
        weights = torch.tensor(np.array(self.transform.quadrature_weights)).to(fields)
        return torch.einsum("...xyb,y->...b", fields, weights) / len(self.transform.longitude)

    def _grid(self, state: Tensor) -> Tensor:
        """The fields (v cos, u cos, zeta, eta) on the Gaussian grid."""
        scale = self.planet.radius * self.transform.inverse_laplacian[:, None, None]
        return self.transform.synthesize_wind(state[:, :, :, :2] * scale, state[:, :, :, 0::2])


def williamson2(model: ShallowWater) -> ShallowWaterState:
    """Steady zonal flow around the axis of rotation: test case 2 of Williamson et al. (1992).

    Solid-body rotation once in 12 days in geostrophic balance with g h0 = 2.94e4 m2 s-2 at the pole
    of rotation. With ``Planet.tilt_degrees`` the flow crosses the poles of the grid.
    """
    transform, planet = model.transform, model.planet
    speed = 2 * np.pi * planet.radius / (12 * 86400)
    sine = model.coriolis / (2 * planet.rotation_rate)
    head = planet.radius * planet.rotation_rate * speed + speed**2 / 2
    eta = 2.94e4 - head * sine**2 - planet.mean_geopotential
    vorticity = transform.analyze(2 * speed / planet.radius * sine)
    return torch.stack([vorticity, 0 * vorticity, transform.analyze(eta)], dim=3)


def zonal_jet(
    model: ShallowWater, speed: Callable[[np.ndarray], np.ndarray]
) -> Float[Tensor, "order part degree 1"]:
    """Vorticity of a zonal wind u (m s-1) as a function of latitude in degrees."""
    u = torch.tensor(speed(model.transform.latitude)).to(model.coriolis)
    u = u[None, :, None].expand(len(model.transform.longitude), -1, 1).contiguous()
    return model.state(u, torch.zeros_like(u), torch.zeros_like(u))[:, :, :, 0]


def galewsky(model: ShallowWater, perturbed: bool = True) -> ShallowWaterState:
    """Barotropically unstable jet of Galewsky et al. (2004), balanced by the model's equations.

    A jet of 80 m s-1 at 45 degrees north, with a bump of 120 m in the height if ``perturbed``.

    References:
        Galewsky, Scott and Polvani, 2004, An initial-value problem for testing numerical models of
        the global shallow-water equations, https://doi.org/10.3402/tellusa.v56i5.14436.
    """
    south, north = np.pi / 7, np.pi / 2 - np.pi / 7

    def speed(latitude: np.ndarray) -> np.ndarray:
        phi = np.deg2rad(latitude)
        inside = (phi > south) & (phi < north)
        shape = np.where(inside, (phi - south) * (phi - north), -np.inf)
        return 80 * np.exp(1 / shape + 4 / (north - south) ** 2) * inside

    state = model.balanced(zonal_jet(model, speed))
    if not perturbed:
        return state
    latitude = np.deg2rad(model.transform.latitude)[None, :]
    longitude = np.deg2rad((model.transform.longitude + 180) % 360 - 180)[:, None]
    bump = np.cos(latitude) * np.exp(-((3 * longitude) ** 2) - (15 * (np.pi / 4 - latitude)) ** 2)
    bump = torch.tensor(model.planet.gravity * 120 * bump[..., None]).to(state)
    state[:, :, :, 2] += model.transform.analyze(bump)
    return state


def _apply(function: tuple[Tensor, Tensor], state: Tensor) -> Tensor:
    """A function of gravity waves and hyperdiffusion, applied to a state."""
    diagonal, exchange = function  # of delta and eta of the same harmonic
    result = diagonal * state
    for ours, theirs in ((1, 2), (2, 1)):
        result[:, :, :, ours].addcmul_(exchange[:, ours], state[:, :, :, theirs])
    return result


def _exponentials(
    laplacian: Tensor, planet: Planet, timestep: float, diffusion_rate: float, diffusion_power: int
) -> exponential.Exponentials[tuple[Tensor, Tensor]]:
    """Coefficients of ETDRK4 for gravity waves and hyperdiffusion.

    On (delta, eta) of degree n the linear operator is [[-nu, k], [-Phi0, -nu]] with
    k = n (n + 1) / a^2 and the eigenvalues -nu +- i omega, omega^2 = k Phi0. So a real analytic
    function F of it has Re F(z) on the diagonal and Im F(z) k / omega and -Im F(z) Phi0 / omega
    off it, with z = -nu + i omega. On zeta it is F(-nu).
    """
    degrees = -laplacian.double().cpu().numpy()
    wavenumber = degrees / planet.radius**2
    frequency = np.sqrt(wavenumber * planet.mean_geopotential)
    damping = diffusion_rate * (degrees / max(degrees[-1], 1.0)) ** diffusion_power

    def pair(function: exponential.Function) -> tuple[Tensor, Tensor]:
        rotation = exponential.circle_mean(function, timestep * (-damping + 1j * frequency))
        growth, turn = np.real(rotation), np.imag(rotation)
        decay = np.real(exponential.circle_mean(function, -timestep * damping + 0j))
        ratio = turn / np.maximum(frequency, 1e-30)
        exchange = [0 * decay, ratio * wavenumber, -ratio * planet.mean_geopotential]
        arrays = np.stack([decay, growth, growth], 1), np.stack(exchange, 1)
        diagonal, mixed = (torch.tensor(array[..., None]).to(laplacian) for array in arrays)
        return diagonal, mixed

    return exponential.Exponentials.from_operator(pair, timestep)
