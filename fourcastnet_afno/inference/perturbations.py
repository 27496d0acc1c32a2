"""Random fields that perturb initial states, and the noise of a model's members in each step.

A homogeneous and isotropic Gaussian random field of variance 1 is the sum over spherical harmonics

    f = sum_{n=0}^{T} sum_{m=-n}^{n} sqrt(s_n / (2 n + 1)) a_mn Y_mn,    sum_n s_n = 1,

with independent standard normal a_mn and harmonics of mean square 1 over the sphere. Its
correlation at the angle theta is sum_n s_n P_n(cos theta). With

    s_n ~ (2 n + 1) exp(-n (n + 1) L^2 / (2 a^2))

it is close to the Gaussian exp(-d^2 / (2 L^2)) of the distance d for length scales L well below the
radius a: the kernel of diffusion on the sphere.

References:
    Weaver and Courtier, 2001, Correlation modelling on the sphere using a generalized diffusion
    equation, https://doi.org/10.1002/qj.49712757518, section 2.
    Toth and Kalnay, 1997, Ensemble forecasting at NCEP and the breeding method,
    https://doi.org/10.1175/1520-0493(1997)125<3297:EFANAT>2.0.CO;2.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import require_latlon
from data_pipeline.grids.spherical_harmonics import legendre_functions
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.noise import (
    EARTH_RADIUS_KM,
    LARGEST_TRUNCATION,
    NoiseFields,
    variances_by_degree,
)
from fourcastnet_afno.inference.rollout import Stepper

_OF_NOISE = 1  # tells these random numbers from those of initial states


def generator_for(seed: int, init_time: np.datetime64, member: int) -> np.random.Generator:
    """Random numbers of one forecast, the same whichever others run with it."""
    return np.random.default_rng(_entropy(seed, init_time, member))


def step_seed(seed: int, init_time: np.datetime64, member: int, step: int) -> int:
    """Seed of torch's generator for one step of one forecast."""
    sequence = np.random.SeedSequence([*_entropy(seed, init_time, member), step + 1])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def _entropy(seed: int, init_time: np.datetime64, member: int) -> list[int]:
    seconds = int(init_time.astype("datetime64[s]").astype(np.int64))
    return [seed, member, seconds % 2**63]


def spectral_variances(length_scale_km: float) -> np.ndarray:
    """The variances s_n of the module's header (degree,); an ``InputError`` if L is too short."""
    shortest = 6.1 * EARTH_RADIUS_KM / LARGEST_TRUNCATION
    if not length_scale_km >= shortest:
        raise InputError(
            f"forecast.ensemble.length_scale_km={length_scale_km:g} is below {shortest:.0f}; use "
            "perturbation=gaussian for noise without a length scale",
            code="bad-setting",
        )
    return variances_by_degree(length_scale_km)


class SphericalRandomField:
    """Draws fields of variance 1 with the length scale L on any latitude-longitude grid."""

    def __init__(self, grid: Grid, length_scale_km: float) -> None:
        setting = "forecast.ensemble.perturbation=spherical"
        require_latlon(grid, setting, "use perturbation=gaussian")
        variances = spectral_variances(length_scale_km)
        truncation = len(variances) - 1
        mu = np.sin(np.deg2rad(grid.coords["latitude"]))
        values, _ = legendre_functions(truncation, mu)
        degree = np.arange(truncation + 1)
        # An order m > 0 stands for itself and -m: its cosine and its sine have twice the square.
        both = np.where(np.arange(truncation + 1) == 0, 1.0, 2.0)[:, None, None]
        self._meridional = values * np.sqrt(both * variances / (2 * degree + 1))
        angle = np.deg2rad(grid.coords["longitude"]) * degree[:, None]
        self._cosine, self._sine = np.cos(angle), np.sin(angle)

    def draw(self, generator: np.random.Generator, count: int) -> np.ndarray:
        """Independent fields, float32 of shape (count, latitude, longitude)."""
        orders, _, degrees = self._meridional.shape
        fields = np.empty((count, self._meridional.shape[1], self._cosine.shape[1]), np.float32)
        for field in fields:
            a, b = generator.standard_normal((2, orders, degrees))
            by_order = np.matmul(self._meridional, np.stack([a, b], -1))
            field[:] = by_order[..., 0].T @ self._cosine + by_order[..., 1].T @ self._sine
        return fields


def white_noise(generator: np.random.Generator, count: int, shape: Sequence[int]) -> np.ndarray:
    """Independent standard normal values at each grid point, float32 of shape (count, *shape)."""
    return generator.standard_normal((count, *shape), np.float32)


class MemberNoise:
    """The noise of forecasts with a model, a function of seed, member, initial time and step alone.

    Each call gives that of the next steps; with a memory it depends on those before, which are
    drawn again where a forecast resumes. Its standard deviation is ``amplitude``, 1 in training.
    """

    def __init__(
        self,
        fields: NoiseFields,
        seed: int,
        init_times: np.ndarray,
        members: np.ndarray,
        amplitude: float = 1.0,
    ) -> None:
        self._fields, self._seed, self._amplitude = fields, seed, amplitude
        self._forecasts = list(zip(init_times, members.tolist(), strict=True))
        self._numbers: list[Tensor | None] = [None] * len(self._forecasts)
        self._next = 0

    def __call__(self, step: int, device: torch.device) -> Float[Tensor, "forecast noise lat lon"]:
        """Noise of a step, counted from 0, not before that of the last call."""
        first = self._next if self._fields.persistence else step
        for number in range(first, step + 1):
            self._numbers = [
                self._fields.following(numbers, self._fresh(*forecast, number))
                for numbers, forecast in zip(self._numbers, self._forecasts, strict=True)
            ]
        self._next = step + 1
        # One by one, so that the roundings of one do not depend on the others.
        known = [numbers.to(device) for numbers in self._numbers if numbers is not None]
        fields = torch.cat([self._fields(numbers[None]) for numbers in known])
        return fields if self._amplitude == 1 else self._amplitude * fields

    def _fresh(self, init_time: np.datetime64, member: int, step: int) -> Tensor:
        entropy = [*_entropy(self._seed, init_time, member), step + 1, _OF_NOISE]
        generator = np.random.default_rng(entropy)
        return torch.from_numpy(generator.standard_normal(self._fields.numbers_shape, np.float32))


def noise_of(
    stepper: Stepper,
    seed: int,
    init_times: np.ndarray,
    members: np.ndarray,
    amplitude: float = 1.0,
) -> MemberNoise | None:
    """The noise of forecasts with a stepper, see ``MemberNoise``; None where it has none."""
    fields = stepper.noise if isinstance(stepper, Forecaster) else None
    return None if fields is None else MemberNoise(fields, seed, init_times, members, amplitude)
