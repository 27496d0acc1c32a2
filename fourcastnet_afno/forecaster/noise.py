"""Random fields that a network sees, by which the members of an ensemble differ in every step.

Gaussian fields of mean 0 and variance 1, whose correlation at the distance d is about
exp(-d^2 / (2 L^2)), are sums of waves that do not know the grid. On the sphere, with s_n as in
``variances_by_degree`` and independent standard normal numbers a_mn,

    f = sum_{n=0}^{T} sum_{m=-n}^{n} sqrt(s_n / (2 n + 1)) a_mn Y_mn,    sum_n s_n = 1,

and on a plane, with cosines and sines of the wavenumbers 2 pi k / P of each axis,

    f = sum_ij sqrt(s_i s_j) a_ij u_i(y) v_j(x),    s_k ~ exp(-(2 pi k / P)^2 L^2 / 2),

where P is the length of an axis that closes on itself, and of others so much longer that their ends
do not know of each other. Waves that a grid does not resolve are left out. In time the numbers are
a first-order process of variance 1, with r = exp(-timestep / memory) and fresh numbers e,

    a(t + timestep) = r a(t) + sqrt(1 - r^2) e.

References:
    Weaver and Courtier, 2001, Correlation modelling on the sphere using a generalized diffusion
    equation, https://doi.org/10.1002/qj.49712757518, section 2.
    Bonev et al., 2025, FourCastNet 3, https://arxiv.org/abs/2507.12144 (noise on the sphere at
    several length scales, with a memory).
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.spherical_harmonics import legendre_functions
from data_pipeline.memory import require_memory
from data_pipeline.timestep import Timestep
from fourcastnet_afno.models.config import NoiseConfig
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows

EARTH_RADIUS_KM = 6371.22
LARGEST_TRUNCATION = 360
_LEAST_VARIANCE = 0.5  # that a grid must resolve
_RELEVANT = 1e-8  # of the largest variance of a wave
_REACH = math.sqrt(-2 * math.log(_RELEVANT))  # of the waves, over the inverse of the length scale
_MARGIN = 5  # length scales from one end of an axis that does not close on itself to the other


class NoiseFields(nn.Module):
    """Random fields of all length scales on one grid.

    Args:
        config: Which fields.
        grid: Their grid.
        step: Time from one to the next.

    Attributes:
        numbers_shape: Axes of the random numbers of one set of fields. On planes it depends on the
            length scales and the domain alone; on the sphere a coarser grid takes fewer degrees,
            the first numbers of a finer one.
        persistence: The factor r of the module's header.
        rows: The rows of the fields that this process has.

    Raises:
        InputError: If the grid does not resolve a length scale.
    """

    def __init__(self, config: NoiseConfig, grid: Grid, step: Timestep) -> None:
        super().__init__()
        self.num_channels = config.num_channels
        hours = step.mean_nanoseconds / 3600e9
        self.persistence = math.exp(-hours / config.memory_hours) if config.memory_hours else 0.0
        waves = _Harmonics if grid.on_sphere else _PlaneWaves
        self.waves = waves(config.length_scales, grid)
        self.rows: Rows = ALL_ROWS
        self.numbers_shape = self.waves.numbers_shape(config.channels)
        require_memory(
            4 * math.prod(self.numbers_shape),
            f"the random numbers of {config.num_channels} fields of model.noise",
            "choose fewer channels, or longer length_scales",
        )

    def forward(
        self, numbers: Float[Tensor, "batch number *axes"]
    ) -> Float[Tensor, "batch noise lat lon"]:
        """Fields of standard normal numbers."""
        return self.waves(numbers)[..., self.rows.field_slice, :].flatten(1, 2)

    def following(self, numbers: Tensor | None, fresh: Tensor) -> Tensor:
        """The numbers one timestep after ``numbers``; the first ones where there are none."""
        if numbers is None or not self.persistence:
            return fresh
        return self.persistence * numbers + math.sqrt(1 - self.persistence**2) * fresh


def noise_fields(config: NoiseConfig, grid: Grid, step: Timestep) -> NoiseFields | None:
    """The fields of a model, or None of one without noise; see ``NoiseFields``."""
    return NoiseFields(config, grid, step) if config.length_scales else None


def append_noise(
    noise: NoiseFields | None,
    forcing: Float[Tensor, "batch step forcing lat lon"],
    generators: Sequence[torch.Generator] = (),
) -> Float[Tensor, "batch step forcing_and_noise lat lon"]:
    """Forcings of rollouts and fresh noise.

    Each rollout has a generator of its own; without any, all have torch's global one.
    """
    if noise is None:
        return forcing
    own, device = generators or [None] * len(forcing), forcing.device
    numbers, fields = None, []
    for _ in range(forcing.shape[1]):
        draws = [torch.randn(noise.numbers_shape, generator=g, device=device) for g in own]
        fresh = torch.stack(draws)
        numbers = noise.following(numbers, fresh)
        fields.append(noise(numbers))
    return torch.cat([forcing, torch.stack(fields, dim=1)], dim=2)


def append_zero_noise(
    noise: NoiseFields | None, forcing: Float[Tensor, "batch step forcing lat lon"]
) -> Float[Tensor, "batch step forcing_and_noise lat lon"]:
    """Forcings of rollouts and fields of zero, which give weights of noise no gradient."""
    if noise is None:
        return forcing
    batch, steps, _, *shape = forcing.shape
    zero = forcing.new_zeros(batch, steps, noise.num_channels, *shape)
    return torch.cat([forcing, zero], dim=2)


def split_noise(
    noise: NoiseFields | None, forcing: Float[Tensor, "batch forcing lat lon"], num_forcings: int
) -> tuple[Tensor, Tensor | None]:
    """Forcings and noise of a step, of which the noise is last.

    Raises:
        ValueError: If a part is missing.
    """
    if noise is None:
        return forcing, None
    expected, found = num_forcings + noise.num_channels, forcing.shape[1]
    if found != expected:
        raise ValueError(
            f"a forecaster with model.noise takes {num_forcings} forcings and {noise.num_channels} "
            f"fields of noise after them, got {found}; give forcings_from the noise of noise_of"
        )
    return forcing[:, :num_forcings], forcing[:, num_forcings:]


def variances_by_degree(length_scale_km: float) -> np.ndarray:
    """Shares s_n ~ (2 n + 1) exp(-n (n + 1) L^2 / (2 a^2)) of the degrees in the variance.

    They end where they are negligible, at the latest at the degree 360.
    """
    ratio = length_scale_km / EARTH_RADIUS_KM
    degree = np.arange(LARGEST_TRUNCATION + 1)
    variances = (2 * degree + 1) * np.exp(-degree * (degree + 1) * ratio**2 / 2)
    relevant = np.flatnonzero(variances > _RELEVANT * variances.max())
    variances = variances[: relevant[-1] + 1]
    return variances / variances.sum()


class _Harmonics(nn.Module):
    """Spherical harmonics up to the degree that a grid resolves, with the scales of noise.

    Numbers are by degree: a_0n, then a_mn and a_-mn for each order m up to n.
    """

    meridional: Tensor
    sizes: Tensor
    zonal: Tensor
    places: Tensor

    def __init__(self, length_scales: list[float], grid: Grid) -> None:
        super().__init__()
        _check_waves([scale / EARTH_RADIUS_KM for scale in length_scales])
        variances = [variances_by_degree(scale) for scale in length_scales]
        latitude, longitude = (grid.coords[axis] for axis in grid.dims)
        spacing = max(np.abs(np.diff(values)).max() for values in (latitude, longitude))
        count = min(max(map(len, variances)), max(1, math.ceil(180 / spacing)))
        _check_resolved([v[:count].sum() for v in variances], length_scales, "km")
        values, _ = legendre_functions(count - 1, np.sin(np.deg2rad(latitude)))
        degree = np.arange(count)
        # An order m > 0 stands for itself and -m: its cosine and its sine have twice the square.
        values *= np.sqrt(np.where(degree == 0, 1.0, 2.0))[:, None, None]
        by_degree = [np.sqrt(_padded(v[:count], count) / (2 * degree + 1)) for v in variances]
        sizes = np.repeat(np.stack(by_degree, axis=-1), 2 * degree + 1, axis=0)
        angle = np.deg2rad(longitude) * degree[:, None]
        zonal = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        orders = np.minimum(degree[:, None], degree)[..., None]  # without a number beyond: zero
        places = degree[:, None] ** 2 + np.maximum(2 * orders - 1 + np.arange(2), 0)
        arrays = {"meridional": values, "sizes": sizes, "zonal": zonal}
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array).float(), persistent=False)
        self.register_buffer("places", torch.from_numpy(places.ravel()), persistent=False)

    def numbers_shape(self, channels: int) -> tuple[int, ...]:
        """Axes of the numbers of some channels of each scale."""
        return *self.sizes.shape, channels

    def forward(
        self, numbers: Float[Tensor, "batch number scale channel"]
    ) -> Float[Tensor, "batch scale channel lat lon"]:
        """Fields of the numbers."""
        scaled = (numbers * self.sizes[:, :, None]).flatten(2).index_select(1, self.places)
        count = len(self.meridional)
        by_order = scaled.view(len(scaled), count, count, -1).mT @ self.meridional.mT
        fields = by_order.view(len(scaled), 2 * count, -1).mT @ self.zonal.flatten(0, 1)
        return fields.view(len(scaled), *numbers.shape[2:], -1, fields.shape[-1])


class _PlaneWaves(nn.Module):
    """Waves along both axes up to those that a grid resolves, with the scales of noise."""

    rows: Tensor
    columns: Tensor

    def __init__(self, length_scales: list[float], grid: Grid) -> None:
        super().__init__()
        shape, resolved = [], np.ones(len(length_scales))
        for name, axis in zip(("rows", "columns"), grid.dims, strict=True):
            values = grid.coords[axis]
            start, end = grid.domain(axis)
            is_periodic = axis in grid.periodic_axes
            period = end - start + (0 if is_periodic else _MARGIN * max(length_scales))
            if len(values) > 1:
                _check_waves([2 * math.pi * scale / period for scale in length_scales])
            variances = [_variances_of_waves(scale / period) for scale in length_scales]
            if len(values) == 1:  # a problem in one dimension
                variances = [np.ones(1) for _ in length_scales]
            drawn = max(map(len, variances))
            spacing = (end - start) / len(values)
            count = min(drawn, max(1, 2 * math.ceil(period / spacing / 2) - 1))
            resolved *= [v[:count:2].sum() for v in variances]
            phase = 2 * np.pi * np.arange((count + 1) // 2)[:, None] * (values - start) / period
            waves = np.empty((count, len(values)))
            waves[0::2], waves[1::2] = np.cos(phase), np.sin(phase[1:])
            sizes = np.stack([np.sqrt(_padded(v[:count], count)) for v in variances])
            scaled = sizes[:, :, None] * waves
            self.register_buffer(name, torch.from_numpy(scaled).float(), persistent=False)
            shape.append(drawn)
        self._drawn = tuple(shape)
        _check_resolved(resolved, length_scales, "units of x and y")

    def numbers_shape(self, channels: int) -> tuple[int, ...]:
        """Axes of the numbers of some channels of each scale."""
        return len(self.rows), channels, *self._drawn

    def forward(
        self, numbers: Float[Tensor, "batch scale channel wave_y wave_x"]
    ) -> Float[Tensor, "batch scale channel y x"]:
        """Fields of the numbers."""
        numbers = numbers[..., : self.rows.shape[1], : self.columns.shape[1]]
        return torch.einsum("bscij,siy,sjx->bscyx", numbers, self.rows, self.columns)


def _variances_of_waves(ratio: float) -> np.ndarray:
    """Shares of the constant, and of cosine and sine of each wavenumber, in the variance.

    The length scale is ``ratio`` times the period.
    """
    most = min(LARGEST_TRUNCATION, math.ceil(_REACH / (2 * math.pi * ratio)))
    shares = np.exp(-((2 * np.pi * ratio * np.arange(most + 1)) ** 2) / 2)
    shares[1:] *= 2  # the wavenumber k stands for itself and -k
    # Cosine and sine have the variance of their wavenumber each: the sum of their squares is 1.
    return np.repeat(shares / shares.sum(), 2)[1:]


def _padded(values: np.ndarray, count: int) -> np.ndarray:
    return np.pad(values, (0, count - len(values)))


def _check_waves(ratios: list[float]) -> None:
    """Check that length scales, over that of the wavenumber 1, are not too short to be drawn."""
    if min(ratios) * LARGEST_TRUNCATION < _REACH:
        factor = _REACH / LARGEST_TRUNCATION / min(ratios)
        raise InputError(
            "model.noise.length_scales: fields of the shortest one need more than "
            f"{LARGEST_TRUNCATION} wavenumbers; make it {factor:.3g} times as long",
            code="bad-setting",
        )


def _check_resolved(
    shares: "list[float] | np.ndarray", length_scales: list[float], units: str
) -> None:
    for share, scale in zip(shares, length_scales, strict=True):
        if share < _LEAST_VARIANCE:
            raise InputError(
                f"model.noise.length_scales: the grid resolves {100 * share:.0f} % of the variance "
                f"of fields with the length scale {scale:g} {units}; use longer ones",
                code="bad-setting",
            )
