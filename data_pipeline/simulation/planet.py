"""The simulated planet: weather-like shallow-water flow, written as an ERA5-style dataset.

A layer of fluid on the rotating sphere is relaxed toward two zonal jets, one in each hemisphere,
over a mountain of the middle latitudes. Random stirring of the vorticity at wavenumbers 6 to 12, a
Markov process with a memory of a day and a half, stands for the baroclinic eddies that a single
layer cannot make; relaxation and hyperdiffusion damp them. The eddies ride on the jets, break and
decay for years without settling, so that the flow can be predicted for days and not for months.
There are no seasons.

References:
    Vallis, Gerber, Kushner and Cash, 2004, A mechanism and simple dynamical model of the North
    Atlantic Oscillation and annular modes,
    https://doi.org/10.1175/1520-0469(2004)061<0264:AMASDM>2.0.CO;2 (stirring, equation 4).
"""

import json
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_pipeline.files.progress import track
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.spherical_harmonics import (
    SphericalHarmonicTransform,
    alias_free_truncation,
)
from data_pipeline.memory import require_memory
from data_pipeline.simulation.config import SIMULATED_JET_SPEED, SimulationConfig
from data_pipeline.simulation.equiangular_states import sample
from data_pipeline.simulation.shallow_water import Planet, Relaxation, ShallowWater, zonal_jet

_DAY = 86400.0
_JET_LATITUDE, _JET_WIDTH = 45.0, 10.0
_RELAXATION_DAYS = 10.0
_STIRRING_RMS, _STIRRING_DAYS, _STIRRING_DEGREES = 5e-11, 1.5, (6, 12)
_DIFFUSION_HOURS = 4.0
_MOUNTAIN_HEIGHT, _MOUNTAIN_WIDTH = 2000.0, 18.0

VARIABLES = {
    "u_component_of_wind": ("m s-1", "eastward_wind"),
    "v_component_of_wind": ("m s-1", "northward_wind"),
    "geopotential": ("m2 s-2", "geopotential"),
    "relative_vorticity": ("s-1", "atmosphere_upward_relative_vorticity"),
}


def simulate_planet(config: SimulationConfig) -> xr.Dataset:
    """Simulate and return a canonical dataset, float32, the trajectories one after the other.

    It has ``VARIABLES`` (time, latitude, longitude) and the static ``geopotential_at_surface``.
    """
    shape = config.num_latitudes, config.num_longitudes
    states, surface = simulate_on(config, [shape])[shape]
    series = states.reshape(-1, *states.shape[2:])
    dims = ("time", "latitude", "longitude")
    data = {
        name: (dims, series[:, index], {"units": units, "standard_name": standard_name})
        for index, (name, (units, standard_name)) in enumerate(VARIABLES.items())
    }
    coords = {"time": config.times().ravel(), **LatLonGrid.equiangular(*shape).coords}
    dataset = xr.Dataset(data, coords)
    attrs = {"units": "m2 s-2", "long_name": "geopotential of the ground"}
    dataset["geopotential_at_surface"] = (dims[1:], surface, attrs)
    dataset.attrs = {
        "Conventions": "CF-1.8",
        "title": "Forced rotating shallow-water planet",
        "source": "data_pipeline.simulation.planet",
        "config": json.dumps(config.to_json()),
    }
    return dataset


simulate = simulate_planet  # its name in version 0.1


class SampledFields(NamedTuple):
    """States (trajectory, time, variable, latitude, longitude), geopotential of the ground."""

    states: np.ndarray
    surface: np.ndarray


def simulate_on(
    config: SimulationConfig, shapes: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], SampledFields]:
    """Simulate once, and evaluate on grids of several shapes, half a cell away from the poles.

    Coarser ones than the simulation's are without the harmonics that they do not resolve.
    """
    _check_memory(config, shapes)
    model = planet_of(config)
    outputs = {
        shape: SphericalHarmonicTransform(
            *shape,
            rows="equiangular",
            truncation=min(model.transform.truncation, alias_free_truncation(*shape)),
            dtype=torch.float32,
        )
        for shape in shapes
    }
    stirring = Stirring(model, [[config.seed, k] for k in range(config.num_trajectories)])
    speed = partial(jet_speed, peak=config.jet_speed)
    state = model.balanced(zonal_jet(model, speed) + stirring.initial_eddies())
    steps_per_state = round(config.timestep_hours * 3600 / model.timestep)
    spinup = config.spinup_days * 24 // config.timestep_hours
    times = config.times().shape
    series = {shape: np.empty((*times, len(VARIABLES), *shape), np.float32) for shape in shapes}
    for index in track(range(spinup + times[1]), "Simulating (timesteps)"):
        if index >= spinup:
            for shape, output in outputs.items():
                sampled = sample(model.planet, output, _truncate(state, output))
                series[shape][:, index - spinup] = sampled.numpy()
        for _ in range(steps_per_state):
            state = model.step(state, stirring.next())
    mountain, fields = _mountain(model.transform)[..., None], {}
    for shape, output in outputs.items():
        surface = output.synthesize(_truncate(mountain, output))[..., 0].T.numpy()
        fields[shape] = SampledFields(series[shape], surface)
    return fields


def _check_memory(config: SimulationConfig, shapes: Sequence[tuple[int, int]]) -> None:
    degrees = alias_free_truncation(config.num_latitudes, config.num_longitudes) + 1
    states = math.prod(config.times().shape) * len(VARIABLES) * sum(map(math.prod, shapes))
    require_memory(
        4 * states + 4 * degrees**2 * config.num_latitudes,
        f"the simulated planet of {config.num_trajectories} x {config.days} days on "
        f"{config.num_latitudes} x {config.num_longitudes} points",
        "lower data.simulation.num_trajectories, days or num_latitudes, or raise timestep_hours",
    )


def _truncate(spectrum: Tensor, transform: SphericalHarmonicTransform) -> Tensor:
    """Keep the harmonics (order, part, degree, ...) that a transform has."""
    count = transform.truncation + 1
    return spectrum[:count, :, :count]


def planet_of(config: SimulationConfig) -> ShallowWater:
    """The planet of a configuration, see ``build_planet``."""
    shape = config.num_latitudes, config.num_longitudes
    return build_planet(*shape, config.timestep_hours, jet_peak=config.jet_speed)


def build_planet(
    num_latitudes: int,
    num_longitudes: int,
    timestep_hours: int = 6,
    *,
    longest_step: float = 5400.0,
    jet_peak: float = SIMULATED_JET_SPEED,
) -> ShallowWater:
    """The forced and damped planet, in float32 on a Gaussian grid, as a time stepper.

    The ``jet_peak`` is that of ``jet_speed``. Its steps divide the time between states and are at
    most ``longest_step`` seconds, less beyond a truncation of 21.
    """
    transform = SphericalHarmonicTransform(num_latitudes, num_longitudes, dtype=torch.float32)
    # Resolved waves move faster across smaller cells: the step shrinks with the truncation.
    finest = longest_step * min(1.0, 21 / transform.truncation)
    substeps = int(np.ceil(timestep_hours * 3600 / finest))
    step = timestep_hours * 3600 / substeps
    free = ShallowWater(transform, Planet(), timestep=step)
    equilibrium = free.balanced(zonal_jet(free, partial(jet_speed, peak=jet_peak)))
    rate = torch.full((3, 1), 1 / (_RELAXATION_DAYS * _DAY))
    return ShallowWater(
        transform,
        Planet(),
        timestep=step,
        diffusion_rate=1 / (_DIFFUSION_HOURS * 3600),
        diffusion_power=4,
        surface_geopotential=_mountain(transform),
        relaxation=Relaxation(equilibrium, rate),
    )


def jet_speed(latitude: np.ndarray, peak: float = SIMULATED_JET_SPEED) -> np.ndarray:
    """Zonal wind of the equilibrium in m s-1: a westerly jet in each hemisphere."""
    distance = (np.abs(latitude) - _JET_LATITUDE) / _JET_WIDTH
    return peak * np.exp(-(distance**2)) * np.cos(np.deg2rad(latitude)) ** 0.5


def _mountain(transform: SphericalHarmonicTransform) -> Tensor:
    """Spectrum of the surface geopotential: a Gaussian mountain at 40 N, 90 E."""
    latitude = np.deg2rad(transform.latitude)[None, :]
    longitude = np.deg2rad(transform.longitude - 90)[:, None]
    center = np.deg2rad(40.0)
    cosine = np.sin(center) * np.sin(latitude)
    cosine = cosine + np.cos(center) * np.cos(latitude) * np.cos(longitude)
    width = np.deg2rad(_MOUNTAIN_WIDTH)
    height = _MOUNTAIN_HEIGHT * np.exp((cosine - 1) / width**2)
    field = torch.tensor(Planet().gravity * height[..., None]).to(transform.laplacian)
    return transform.analyze(field)[..., 0]


class Stirring:
    """Random vorticity tendencies, a Markov process for each harmonic and trajectory.

    Args:
        model: The planet.
        seeds: Seed, or generator of the noise to come, of each trajectory.
        tendencies: The state to continue from, see ``tendencies``; by default it is drawn.
    """

    def __init__(
        self,
        model: ShallowWater,
        seeds: Sequence[list[int] | np.random.Generator],
        tendencies: np.ndarray | None = None,
    ) -> None:
        degree = np.arange(model.transform.truncation + 1)
        low, high = _STIRRING_DEGREES
        stirred = (degree >= low) & (degree <= high) & (degree > 0)
        self._mask = (stirred & (degree[:, None] <= degree) & (degree[:, None] > 0))[:, None, :]
        # Each order m > 0 stands for itself and its conjugate, in two parts.
        self._scale = _STIRRING_RMS / np.sqrt(4 * self._mask.sum())
        self._memory = np.exp(-model.timestep / (_STIRRING_DAYS * _DAY))
        self._generators = [np.random.default_rng(seed) for seed in seeds]
        self._like = model.transform.laplacian
        self.tendencies = self._noise() if tendencies is None else tendencies
        """Tendencies of vorticity in s-2, (order, part, degree, trajectory): all of its memory."""

    def next(self) -> Tensor:
        """Tendency of the state during the next step, (order, part, degree, 3, trajectory)."""
        kick = np.sqrt(1 - self._memory**2)
        self.tendencies = self._memory * self.tendencies + kick * self._noise()
        vorticity = torch.tensor(self.tendencies).to(self._like)
        return torch.stack([vorticity, 0 * vorticity, 0 * vorticity], dim=3)

    def initial_eddies(self) -> Tensor:
        """Vorticity that the stirring leaves in a day, (order, part, degree, trajectory)."""
        return torch.tensor(_DAY * self.tendencies).to(self._like)

    def _noise(self) -> np.ndarray:
        shape = (self._mask.shape[0], 2, self._mask.shape[2])
        fields = [generator.standard_normal(shape) for generator in self._generators]
        return self._scale * self._mask[..., None] * np.stack(fields, axis=-1)
