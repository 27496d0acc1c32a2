"""Stability of a forecast: statistics of every step, blow-ups, and conserved quantities.

Global means have the exact area weights of the grid. The zonal spectrum of a channel is

    E(k) = mean over latitude of c_k |X_k|^2,    X_k = (1 / N) sum_j x_j exp(-2 pi i k j / N),

with c_k = 2 except for k = 0 and N / 2, where it is 1; the sum over k is the mean square.

References:
    Trenberth and Smith, 2005, The mass of the atmosphere: a constraint on global analyses,
    https://doi.org/10.1175/JCLI-3299.1 (dry mass from surface pressure and column water vapor).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.sources.convert import GRAVITY
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Scales
from fourcastnet_afno.inference.config import StabilityConfig

_U, _V = "u_component_of_wind", "v_component_of_wind"
_DRY_MASS = "surface_pressure", "total_column_water_vapour"


class BlowUp(NamedTuple):
    """Where a forecast ended: the cell of the farthest value, or the first that is not finite."""

    forecast: int
    channel: str
    place: str
    coords: dict[str, float]
    value: float


class StabilityTracker:
    """Statistics of states, and their blow-ups."""

    def __init__(self, spec: FieldSpec, scales: Scales, config: StabilityConfig) -> None:
        self._spec, self._limit, self._diagnostics = spec, config.limit, config.diagnostics
        self._mean, self._std = scales.mean[:, 0, 0], scales.std[:, 0, 0]
        device = scales.mean.device
        self._weights = torch.from_numpy(spec.grid.area_weights()).float().to(device)
        self._winds = wind_pairs(spec.channels)

    def __call__(
        self, state: Float[Tensor, "forecast channel lat lon"]
    ) -> tuple[dict[str, Tensor], list[BlowUp]]:
        """Statistics by name, float32 on the host with a leading axis of forecasts, and blow-ups.

        They are minimum, maximum and mean by channel, kinetic energy by wind, and spectrum by
        channel and zonal wavenumber where rows are periodic.
        """
        cells = state.flatten(2)
        low, high = cells.amin(2), cells.amax(2)  # ``aminmax`` takes longer than both
        distance = torch.maximum((low - self._mean).abs(), (high - self._mean).abs()) / self._std
        healthy = (distance <= self._limit).all(dim=1).cpu()
        blow_ups = [self._locate(state[index], index) for index in torch.nonzero(~healthy)[:, 0]]
        if not self._diagnostics:
            return {}, blow_ups
        statistics = {"minimum": low, "maximum": high, "mean": self._mean_of(state)}
        if self._winds:
            u, v = (state[:, [pair[component] for pair in self._winds]] for component in (0, 1))
            statistics["kinetic_energy"] = self._mean_of(u.square() + v.square()) / 2
        if self._spec.grid.is_periodic:
            statistics["spectrum"] = zonal_spectrum(state, self._weights[:, 0])
        return {name: values.cpu() for name, values in statistics.items()}, blow_ups

    def unknown(self, count: int) -> dict[str, Tensor]:
        """Statistics of forecasts that have ended: NaN."""
        statistics, _ = self(self._mean.new_zeros(1, len(self._mean), *self._weights.shape))
        return {k: v.new_full((count, *v.shape[1:]), torch.nan) for k, v in statistics.items()}

    def _mean_of(self, fields: Tensor) -> Tensor:
        """Global means, as one product of a matrix with a vector."""
        return fields.flatten(2) @ (self._weights.flatten() / self._weights.numel())

    def _locate(self, state: Tensor, index: Tensor) -> BlowUp:
        distance = (state - self._mean[:, None, None]).abs() / self._std[:, None, None]
        distance = torch.nan_to_num(distance, nan=torch.inf, posinf=torch.inf)
        channel, *cell = map(int, np.unravel_index(int(distance.argmax()), tuple(state.shape)))
        grid = self._spec.grid
        return BlowUp(
            int(index),
            self._spec.channels.labels[channel],
            grid.describe_cell(*cell),
            {axis: float(grid.coords[axis][i]) for axis, i in zip(grid.dims, cell, strict=True)},
            float(state[channel, *cell]),
        )


def zonal_spectrum(
    fields: Float[Tensor, "*batch lat lon"], row_weights: Float[Tensor, " lat"]
) -> Float[Tensor, "*batch wavenumber"]:
    """Mean square of fields by zonal wavenumber, see the module's header.

    The columns close a circle; ``row_weights`` have mean 1.
    """
    coefficients = torch.fft.rfft(fields, dim=-1, norm="forward")
    power = torch.view_as_real(coefficients).square().sum(-1)
    power = row_weights / len(row_weights) @ power
    multiplicity = torch.full((power.shape[-1],), 2.0, device=power.device)
    multiplicity[0] = 1
    if fields.shape[-1] % 2 == 0:
        multiplicity[-1] = 1
    return power * multiplicity


def wind_pairs(channels: Channels) -> dict[tuple[int, int], str]:
    """Indices of the components of winds, and the level of each, such as ``500`` or ``10m``."""
    labels = channels.labels
    pairs = {}
    for index, label in enumerate(labels):
        other = label.replace(_U, _V)
        if _U in label and other in labels:
            pairs[index, labels.index(other)] = label.replace(_U, "").strip("_") or "wind"
    return pairs


class Fixer:
    """Clamps and conservation after each step; an ``InputError`` names all missing channels."""

    def __init__(
        self, config: StabilityConfig, channels: Channels, grid: Grid, device: torch.device
    ) -> None:
        self._nonnegative = _indices(config.nonnegative, channels, "nonnegative")
        self._conserved = _indices(config.conserve_mean, channels, "conserve_mean")
        dry_mass = _DRY_MASS if config.conserve_dry_mass else ()
        self._dry_mass = _indices(dry_mass, channels, "conserve_dry_mass")
        self._weights = torch.from_numpy(grid.area_weights()).to(device)

    def reference(
        self, state: Float[Tensor, "forecast channel lat lon"]
    ) -> Float[Tensor, "forecast conserved"]:
        """Conserved quantities of initial states: global means and the pressure of dry air."""
        means = self._means(state[:, self._conserved])
        if not self._dry_mass:
            return means
        return torch.cat([means, self._dry_pressure(state)[:, None]], dim=1)

    def __call__(
        self,
        state: Float[Tensor, "forecast channel lat lon"],
        reference: Float[Tensor, "forecast conserved"],
    ) -> Float[Tensor, "forecast channel lat lon"]:
        """The state with negative values removed and means as they were."""
        if not (self._nonnegative or self._conserved or self._dry_mass):
            return state
        state = state.clone()
        if self._nonnegative:
            state[:, self._nonnegative] = state[:, self._nonnegative].clamp_min(0)
        if self._conserved:
            missing = reference[:, : len(self._conserved)] - self._means(state[:, self._conserved])
            state[:, self._conserved] += missing[..., None, None].to(state.dtype)
        if self._dry_mass:
            missing = reference[:, -1] - self._dry_pressure(state)
            state[:, self._dry_mass[0]] += missing[:, None, None].to(state.dtype)
        return state

    def _means(self, fields: Tensor) -> Tensor:
        return (self._weights * fields).mean(dim=(2, 3))

    def _dry_pressure(self, state: Tensor) -> Tensor:
        pressure, vapor = self._means(state[:, self._dry_mass]).unbind(1)
        return pressure - GRAVITY * vapor


def _indices(names: Sequence[str], channels: Channels, setting: str) -> list[int]:
    unknown = [n for n in names if n not in channels.labels and n not in {c.name for c in channels}]
    if unknown:
        raise InputError(
            f"forecast.stability.{setting} needs {unknown}, the model has {channels.labels}",
            code="missing-variable",
        )
    return [
        index
        for name in names
        for index, channel in enumerate(channels)
        if name in (channel.name, channel.label)
    ]
