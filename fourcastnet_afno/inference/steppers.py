"""Steppers without a network: persistence, a climatology, a solver; and diagnostic models."""

from typing import Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preprocessing.climatology import climatology_at
from data_pipeline.simulation.equiangular_states import EquiangularStates
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
        self._states = EquiangularStates(model, grid.shape)
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
        spectrum = self._states.analyze(state[:, -1, :3])
        for _ in range(self._num_steps):
            spectrum = self._model.step(spectrum)
        return self.synthesize(spectrum).to(state.dtype)

    def synthesize(self, state: Tensor) -> Tensor:
        """Fields (batch, channel, lat, lon) of states of the solver."""
        return self._states.synthesize(state)
