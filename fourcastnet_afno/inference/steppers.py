"""Steppers without a network: persistence, a climatology, a solver; and diagnostic models."""

from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.simulation.shallow_water import ShallowWater
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Scales

_SHALLOW_WATER = (
    ("u_component_of_wind", "m s-1"),
    ("v_component_of_wind", "m s-1"),
    ("geopotential", "m2 s-2"),
    ("relative_vorticity", "s-1"),
)


@runtime_checkable
class DiagnosticModel(Protocol):
    """Predicts further channels of a state that are not fed back, such as precipitation."""

    @property
    def channels(self) -> Channels:
        """The further channels."""
        ...

    def __call__(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch forcing network_lat network_lon"],
        /,
    ) -> Float[Tensor, "batch diagnosed lat lon"]:
        """Further channels at the time of the newest state; the forcing is of that time."""
        ...


class _Memoryless:
    """A stepper of the newest state, without forcings.

    Args:
        spec: Channels, grid and timestep.
        scales: Usual values; without them only values that are not finite are a blow-up.
    """

    num_history = 1

    def __init__(self, spec: FieldSpec, scales: Scales | None = None) -> None:
        one = torch.ones(len(spec.channels), 1, 1)
        self.spec, self.scales = spec, scales or Scales(0 * one, torch.inf * one, one)

    def forcing_at(self, times: np.ndarray) -> Tensor:
        """No channels."""
        return torch.zeros(len(times), 0, *self.spec.grid.shape, device=self.scales.mean.device)


class Persistence(_Memoryless):
    """The next state is the present one."""

    def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
        """The newest state."""
        return state[:, -1]


class ClimatologyStepper(_Memoryless):
    """The next state is the climatology at its time.

    Args:
        spec: Channels, grid and timestep.
        coefficients: See ``data_pipeline.preprocessing.climatology``.
        scales: Usual values, where known.

    Raises:
        InputError: If the climatology lacks a channel.
    """

    def __init__(
        self, spec: FieldSpec, coefficients: xr.Dataset, scales: Scales | None = None
    ) -> None:
        missing = [c.name for c in spec.channels if c.name not in coefficients]
        if missing:
            raise InputError(
                f"the climatology lacks {missing}, it has {list(coefficients.data_vars)}; prepare "
                "the data with these variables",
                code="missing-variable",
            )
        super().__init__(spec, scales)
        self._coefficients = coefficients

    def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
        """The forcing, which is the climatology one timestep on."""
        return forcing

    def forcing_at(self, times: np.ndarray) -> Tensor:
        """The climatology one timestep after ``times``."""
        fields = climatology_at(self._coefficients, self.spec.step.advance(times, 1))
        return torch.from_numpy(self.spec.channels.stack(fields).values).to(self.scales.mean)


class ShallowWaterSolver(_Memoryless):
    """The spectral shallow-water solver as a forecaster of fields on an equiangular grid.

    Wind and geopotential are transformed to the solver's spectrum, stepped, and evaluated on the
    grid again; what the truncation does not resolve is lost.

    Args:
        model: Solver with its constants, forcing and step.
        grid: Global grid of equal angles, half a cell away from the poles.
        timestep_hours: Time from a state to the next, a multiple of the solver's step.
        scales: Usual values, where known.

    Raises:
        InputError: If the timestep is no multiple of the solver's, or the grid does not suit.
    """

    def __init__(
        self,
        model: ShallowWater,
        grid: LatLonGrid,
        timestep_hours: int,
        scales: Scales | None = None,
    ) -> None:
        self._model, self._num_steps = model, round(timestep_hours * 3600 / model.timestep)
        if not np.isclose(self._num_steps * model.timestep, timestep_hours * 3600, rtol=1e-9):
            raise InputError(
                f"the timestep of {timestep_hours} h is no multiple of the solver's step of "
                f"{model.timestep:g} s; choose one that is",
                code="timestep-mismatch",
            )
        LatLonGrid.equiangular(*grid.shape).require_same(grid, "the solver")
        truncation, (rows, columns) = model.transform.truncation, grid.shape
        if rows <= truncation + 1 or columns <= 2 * (truncation + 1):
            raise InputError(
                f"a grid of {rows} x {columns} does not resolve the solver's truncation "
                f"{truncation}; use a finer grid or a coarser solver",
                code="grid-mismatch",
            )
        precision = {"dtype": model.coriolis.dtype, "device": model.coriolis.device}
        gaussian = len(model.transform.latitude), len(model.transform.longitude)
        make, more = partial(SphericalHarmonicTransform, **precision), truncation + 1  # for wind
        self._output = make(rows, columns, rows="equiangular", truncation=truncation)
        self._input = make(rows, columns, rows="equiangular", truncation=more)
        self._gaussian = make(*gaussian, truncation=more)
        channels = Channels(tuple(Channel(name=n, units=u) for n, u in _SHALLOW_WATER))
        spec = FieldSpec(
            channels=channels,
            static_channels=Channels(()),
            forcings=(),
            grid=grid,
            step=Timestep.of_hours(timestep_hours),
        )
        super().__init__(spec, scales)

    def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
        """The newest state, ``timestep_hours`` later."""
        columns_first = state[:, -1].to(self._model.coriolis.dtype).permute(3, 2, 1, 0)
        # Wind is not smooth at the poles, wind times the cosine of latitude is.
        wind = columns_first[:, :, :2] * self._cosine(self._input)
        smooth = torch.cat([wind, columns_first[:, :, 2:3]], dim=2).contiguous()
        fields = self._gaussian.synthesize(self._input.analyze(smooth))
        u, v = (fields[:, :, :2] / self._cosine(self._gaussian)).unbind(2)
        spectrum = self._model.state(u, v, fields[:, :, 2])
        for _ in range(self._num_steps):
            spectrum = self._model.step(spectrum)
        return self.synthesize(spectrum).to(state.dtype)

    def synthesize(self, state: Tensor) -> Tensor:
        """Fields (batch, channel, lat, lon) of states of the solver."""
        planet, transform = self._model.planet, self._output
        scale = planet.radius * transform.inverse_laplacian[:, None, None]
        grid = transform.synthesize_wind(state[:, :, :, :2] * scale, state[:, :, :, 0::2])
        v, u, vorticity, eta = grid.unbind(2)
        cosine = self._cosine(transform)[:, :, 0]
        fields = [u / cosine, v / cosine, eta + planet.mean_geopotential, vorticity]
        return torch.stack(fields).permute(3, 0, 2, 1)

    def _cosine(self, transform: SphericalHarmonicTransform) -> Tensor:
        cosine = np.cos(np.deg2rad(transform.latitude))
        return torch.from_numpy(cosine).to(self._model.coriolis)[:, None, None]
