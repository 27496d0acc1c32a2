"""Forecaster: from physical states to the next physical state.

With the normalized history X_t and features f_t (forcings and static fields), a residual forecaster
is

    x_{t+dt} = x_t + s * network(X_t, f_t),

where s is the standard deviation of the change over one timestep, by channel; a direct forecaster
is ``x_{t+dt} = mean + std * network(X_t, f_t)``. Both keep channels whose s is 0, such as the
coefficients of a steady problem, bit for bit. Points that had no value in training, such as land in
sea-surface temperature, have the value that training saw there, in every input and every output.

With a ``band_limit`` the network predicts long waves alone, see ``band_limit``: with the projection
B on them, a residual forecaster is

    x_{t+dt} = c + A B(x_t - c) + D (x_t - c - B(x_t - c)) + B(s * network(X_t, f_t)),

where c is the mean state of training. Waves beyond the band persist (D = 1) or decay by half each
step (D = 1/2). With a smooth ``band_edge`` the last term has less of the shorter waves within the
band, see ``BandLimit.faded``. With ``damping_days`` T, the state is drawn to the mean by
A = exp(-dt / T), which the network makes up for as far as training shows how; without, A = 1. With
A < 1 forecasts are bounded by construction: where C is the largest norm of B(s * network), B(x - c)
never leaves the ball of radius C / (1 - A) once it is inside, and the rest never grows.

The size at which a constant damping balances the growth that a network has learned is hardly known.
With a ``damping_power`` p the damping grows with the size of the anomaly of the state as a whole,

    A = exp(-dt / T r^p),    r^2 = mean over channels of <(x - c)^2> / <(x - c)^2 in training>,

where <.> is the mean over the area: both balance near r = 1, and anomalies keep that size. With
``diffusion_hours`` H, B(x_t - c) is damped by exp(-dt / H (k / K)^2) as well, along each axis of
largest wavenumber K, so that errors at the scales of patches do not add up over many steps.

A limited area (``boundary_width``) is driven at its edges. The driving state b of the time that a
step leads to follows its forcings, see ``with_boundary``. In the zone of ``grids.relaxation``, with
the weights w, the network sees (b - x_t) / s, and the step ends with

    x_{t+dt} <- (1 - w) x_{t+dt} + w b.
"""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import grid_from_json
from data_pipeline.grids.relaxation import BoundaryWidth
from data_pipeline.preprocessing.forcings import check_forcings, compute_forcings, forcing_scales
from data_pipeline.records import from_plain
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.band_limit import BandLimit, largest_wavenumbers
from fourcastnet_afno.forecaster.boundaries import (
    BoundaryRelaxation,
    adapt_config_to_grid,
    check_pole,
    check_same_ends,
)
from fourcastnet_afno.forecaster.config import DampingPower, ModelConfig, Resolution
from fourcastnet_afno.forecaster.interpolation import Regridder, regridded_fill
from fourcastnet_afno.forecaster.network_size import check_network_size
from fourcastnet_afno.forecaster.noise import noise_fields, split_noise
from fourcastnet_afno.forecaster.normalization import Normalizer
from fourcastnet_afno.models.afno import AFNOBlock, AFNONet
from fourcastnet_afno.models.config import AFNONetConfig, scaled_padding
from fourcastnet_afno.models.fourier.phase_origin import shift_phase_origin
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows, ShardedRows


@dataclass(frozen=True, kw_only=True)
class FieldSpec:
    """Meaning of the axes of a forecaster's tensors.

    Args:
        channels: Prognostic channels, in order.
        static_channels: Static channels, in order.
        forcings: Names of computed forcings, see ``data_pipeline.preprocessing.forcings``.
        grid: Grid of every field.
        step: Time from a state to the next.
        boundary_width: Cells along the open edges of a limited area in which states are relaxed to
            driving ones, see ``grids.relaxation``; 0 for others.
    """

    channels: Channels
    static_channels: Channels
    forcings: tuple[str, ...]
    grid: Grid
    step: Timestep
    boundary_width: BoundaryWidth = 0

    @property
    def num_step_fields(self) -> int:
        """Fields of each step besides states and noise: forcings, and the driving state."""
        return len(self.forcings) + (len(self.channels) if self.boundary_width else 0)

    @property
    def timestep(self) -> np.timedelta64:
        """The step as timedelta64[ns], or timedelta64[M] for months: its multiples are leads."""
        return self.step.delta

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints."""
        record = {
            "channels": self.channels.to_json(),
            "static_channels": self.static_channels.to_json(),
            "forcings": list(self.forcings),
            "grid": self.grid.to_json(),
            **self.step.to_json(),
        }
        return record | ({"boundary_width": self.boundary_width} if self.boundary_width else {})

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "FieldSpec":
        """Inverse of ``to_json``.

        Raises:
            InputError: If an entry is missing, has another type, or makes no sense.
        """
        spec = cls(
            channels=Channels.from_json(record.get("channels")),
            static_channels=Channels.from_json(record.get("static_channels")),
            forcings=from_plain(tuple[str, ...], record.get("forcings"), "forcings"),
            grid=grid_from_json(record.get("grid")),
            step=Timestep.from_json(record),
            boundary_width=from_plain(
                BoundaryWidth, record.get("boundary_width", 0), "boundary_width"
            ),
        )
        check_forcings(spec.forcings)
        if not len(spec.channels):
            raise InputError("channels must name at least one, got none", code="bad-record")
        return spec


class Scales(NamedTuple):
    """Moments by channel, each of shape (channel, 1, 1), in the channels' units.

    ``std`` is infinite where unknown, ``diff_std`` is that of the change over a timestep.
    ``filled`` (channel, lat, lon) are the values at points that never had one, NaN at the others;
    None where there are no such points.
    """

    mean: Tensor
    std: Tensor
    diff_std: Tensor
    filled: Tensor | None = None


class Forecaster(nn.Module):
    """Steps physical states forward by one timestep.

    Args:
        config: Inputs and outputs of the network, and its size.
        spec: Meaning of the axes.
        mean: Mean of each channel, shape (channel,), in the channel's units.
        std: Standard deviation of each channel, likewise.
        diff_std: Standard deviation of the change over a timestep, likewise.
        static: Static fields, each with zero mean and unit variance, shape (static, lat, lon).
        filled: Values at the points of each channel that had none in training, in its units, NaN at
            all others, shape (channel, lat, lon); None where there are no such points.
        mean_state: Mean over the training period of each channel, in its units, to which states are
            drawn, shape (channel, lat, lon); needed with ``damping_days``.

    Attributes:
        noise: Random fields that the network sees besides; None without ``model.noise``.
        rows: The rows that states and forcings have here; weights and static fields are complete
            in every process.

    Raises:
        InputError: If the padding joins edges of the grid that are no neighbors, or the network
            knows poles or mirrors fields and the grid does not end there.
    """

    diff_std: Tensor
    forcing_scales: Tensor
    static: Tensor
    filled: Tensor | None
    mean_state: Tensor | None
    anomaly_variance: Tensor | None
    area_weights: Tensor | None

    def __init__(
        self,
        config: ModelConfig,
        spec: FieldSpec,
        *,
        mean: Float[Tensor, " channel"],
        std: Float[Tensor, " channel"],
        diff_std: Float[Tensor, " channel"],
        static: Float[Tensor, "static lat lon"],
        filled: Float[Tensor, "channel lat lon"] | None = None,
        mean_state: Float[Tensor, "channel lat lon"] | None = None,
    ) -> None:
        super().__init__()
        network = adapt_config_to_grid(config.network, spec.grid, "model.network")
        self.config, self.spec = config, spec
        self.normalizer = Normalizer(mean, std)
        self.register_buffer("diff_std", diff_std.float()[:, None, None])
        self._stays = not bool((diff_std > 0).all())
        scales = torch.from_numpy(forcing_scales(spec.forcings)).float()[:, None, None]
        self._scales_forcing = not bool((scales == 1).all())
        self.register_buffer("forcing_scales", scales, persistent=False)
        static = _with_coordinates(static, spec.grid) if config.coordinates else static.float()
        self.register_buffer("static", static)
        self.register_buffer("filled", None if filled is None else filled.float())
        if config.damping_days is None:
            mean_state = None
        elif mean_state is None:
            raise ValueError("damping_days needs mean_state")
        mean_state = None if mean_state is None else mean_state.float().contiguous()
        self.register_buffer("mean_state", mean_state)
        self.network_grid = spec.grid
        self.band_limit = self._band_limit_on(spec.grid)
        days = spec.step.mean_nanoseconds / 86400e9
        self._damping_rate = 0.0 if config.damping_days is None else days / config.damping_days
        variance = None
        if mean_state is not None:
            of_mean = mean_state.double() - mean.double()[:, None, None]
            weights = torch.from_numpy(spec.grid.area_weights()).to(of_mean)
            spatial = (weights * of_mean.square()).mean(dim=(1, 2))
            variance = (std.double().square() - spatial).clamp_min(0)[:, None, None].float()
        self.register_buffer("anomaly_variance", variance, persistent=False)
        self._weigh_areas(spec.grid)
        self.rows: Rows = ALL_ROWS
        self.to_network_grid: nn.Module = nn.Identity()
        self.from_network_grid: nn.Module = nn.Identity()
        width, count = spec.boundary_width, len(spec.channels)
        self.relaxation = BoundaryRelaxation(spec.grid, width) if width else None
        in_channels = count * config.num_history + spec.num_step_fields + len(static)
        sizes = in_channels, count
        noise, self.noise = config.noise, noise_fields(config.noise, spec.grid, spec.step)
        check_network_size(network, *sizes, spec.grid.shape, "model.network", noise)
        options = {"noise_channels": noise.num_channels, "noise_width": noise.width}
        self.network = AFNONet(*sizes, config=network, **options)

    def forward(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch forcing network_lat network_lon"],
    ) -> Float[Tensor, "batch channel lat lon"]:
        """The state one timestep after the newest one, in physical units.

        Args:
            state: The last ``num_history`` states, oldest first, in physical units.
            forcing: Computed forcings at the time of the newest state, on the network's grid, in
                the units of ``data_pipeline.preprocessing.forcings``; then the driving state, see
                ``with_boundary``, and the fields of ``noise``.
        """
        forcing, noise = split_noise(self.noise, forcing, self.spec.num_step_fields)
        state, driving = self.refill(state), None
        if self.relaxation is not None:
            forcing, driving = self.relaxation.split(forcing, len(self.spec.forcings))
            driving = self.refill(driving)
        history = self.normalizer.normalize(self.to_network_grid(state)).flatten(1, 2)
        forcing = forcing / self.forcing_scales if self._scales_forcing else forcing
        static = self.static[:, self.rows.field_slice].expand(len(state), -1, -1, -1)
        inputs = [history, forcing, static]
        if self.relaxation is not None and driving is not None:
            change = self.relaxation.within(driving - state[:, -1], self.rows)
            inputs.append(change / torch.where(self.diff_std > 0, self.diff_std, torch.inf))
        output = self.network(torch.cat(inputs, dim=1), noise).float()
        if self.config.prediction == "residual":
            change = self.from_network_grid(self.diff_std * output)
            if self.config.band_edge == "smooth":
                assert isinstance(self.band_limit, BandLimit)
                change = self.band_limit.faded(change)
            following = self._changed(state[:, -1], change)
        else:
            output = self.from_network_grid(self.normalizer.denormalize(output))
            following = self.band_limit(output)
        if self._stays:
            following = torch.where(self.diff_std > 0, following, state[:, -1])
        following = self.refill(following)
        if self.relaxation is not None and driving is not None:
            return self.relaxation(following, driving, self.rows)
        return following

    def _changed(self, state: Tensor, change: Tensor) -> Tensor:
        """The state after a step and a change, see the head of this module."""
        short = 0.5 if self.config.short_waves == "decay" else 1.0
        if self.mean_state is None:
            if short == 1:
                return state + self.band_limit(change)
            return short * state + self.band_limit((1 - short) * state + change)
        anomaly = state - self.mean_state[:, self.rows.field_slice]
        damping = self._damping(anomaly)
        kept = damping if self.config.band_limit is None else short
        is_diffused = self.config.diffusion_hours is not None
        change = self.band_limit(((0 if is_diffused else damping) - kept) * anomaly + change)
        if is_diffused:
            assert isinstance(self.band_limit, BandLimit)
            change = change + damping * self.band_limit.diffused(anomaly)
        return state + (kept - 1) * anomaly + change

    def _damping(self, anomaly: Tensor) -> float | Tensor:
        """The factor A of the head of this module."""
        if not self.config.damping_power:
            return math.exp(-self._damping_rate)
        assert self.anomaly_variance is not None
        assert self.area_weights is not None
        weights = self.area_weights[self.rows.field_slice]
        squares = self.rows.mean(weights * anomaly.square())[..., None, None]
        varies = self.anomaly_variance > 0
        ratios = torch.where(varies, squares / torch.where(varies, self.anomaly_variance, 1), 0)
        mean = ratios.sum(dim=1, keepdim=True) / varies.sum().clamp_min(1)
        size = mean.clamp_min(1e-12) ** (self.config.damping_power / 2)  # a root has a slope at 0
        return torch.exp(-self._damping_rate * size)

    def _weigh_areas(self, grid: Grid) -> None:
        """Keep the areas of a grid's cells, if they are needed."""
        weights = None if self.anomaly_variance is None else grid.area_weights()
        value = None if weights is None else torch.from_numpy(weights).to(self.diff_std)
        self.register_buffer("area_weights", value, persistent=False)

    def _band_limit_on(self, grid: Grid) -> nn.Module:
        """The projection on the band of the trained grid, for fields on another."""
        if self.config.band_limit is None:
            return nn.Identity()
        largest = largest_wavenumbers(self.network_grid, self.config.band_limit)
        rate = self.spec.step.mean_nanoseconds / 3600e9 / (self.config.diffusion_hours or math.inf)
        return BandLimit(grid, largest, self.spec.channels, diffusion=rate)

    def refill(
        self, states: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel lat lon"]:
        """States with the values of training at the points that had none."""
        if self.filled is None:
            return states
        filled = self.filled[:, self.rows.field_slice]
        return torch.where(filled.isnan(), states, filled)

    def shard(self, rows: ShardedRows) -> None:
        """From here on states and forcings are the rows of this process.

        Raises:
            ValueError: If the network cannot exchange with others.
        """
        self.network.shard(rows)
        if isinstance(self.band_limit, BandLimit):
            self.band_limit.rows = rows
        if self.noise is not None:
            self.noise.rows = rows
        self.rows = rows

    @property
    def num_history(self) -> int:
        """Number of states that go in."""
        return self.config.num_history

    @property
    def patch_size(self) -> tuple[int, int] | None:
        """Rows and columns of a patch on the grid of the states; ``None`` if interpolated to it."""
        is_direct = self.network_grid.is_same(self.spec.grid)
        return self.network.config.patch_size if is_direct else None

    @property
    def scales(self) -> Scales:
        """Moments of the training period."""
        return Scales(self.normalizer.mean, self.normalizer.std, self.diff_std, self.filled)

    def forcing_at(
        self, times: np.ndarray
    ) -> Float[Tensor, "batch forcing network_lat network_lon"]:
        """Computed forcings at ``times`` (datetime64), on the device of the weights."""
        fields = compute_forcings(self.spec.forcings, times, self.network_grid)
        return torch.from_numpy(fields).to(self.diff_std.device)

    def on_grid(self, grid: Grid, resolution: Resolution = "interpolate") -> "Forecaster":
        """The same forecaster for states on another grid.

        With ``interpolate``, its patches keep their physical extent: fields are interpolated to the
        grid of the network, and its predictions back, see ``interpolation``. A residual forecaster
        leaves scales that the network does not resolve as they are.

        With ``native``, the network itself works on the tokens of the other grid, with the
        wavenumbers of the grid that it was trained on. Coordinates are computed and static fields
        interpolated for it. A patch keeps its number of cells, so that only with patches of one
        cell this is the same operator, for fields that both grids resolve; and nearly so along
        zero-padded axes, where AFNO's phases are counted from the first point.

        Raises:
            InputError: If one grid does not cover the other, the network is tied to its grid or
                would mirror fields at other locations, or processes share the fields.
        """
        if self.relaxation is not None and not self.network_grid.is_same(grid):
            raise InputError(
                f"a model of a limited area (data.boundary) works on its own grid {self.spec.grid} "
                f"alone, the data has {grid}; give data on that grid or one that contains its "
                "points",
                code="grid-mismatch",
            )
        if self.rows.is_sharded:
            raise InputError(
                "fields that processes share cannot be interpolated to another grid; forecast from "
                "a checkpoint in one process",
                code="bad-setting",
            )
        result, channels = copy.deepcopy(self), self.spec.channels
        result.spec = replace(self.spec, grid=grid)
        result.band_limit = self._band_limit_on(grid).to(self.diff_std.device)
        result._weigh_areas(grid)
        if self.network_grid.is_same(grid):
            return result
        device = self.diff_std.device
        if self.filled is not None:
            result.filled = regridded_fill(self.filled, self.spec.grid, grid, channels)
        if self.mean_state is not None:
            regridder = Regridder(self.spec.grid, grid, channels).to(device)
            result.mean_state = regridder(self.mean_state)
        if resolution == "native":
            if not self.network_grid.is_same(self.spec.grid):
                raise ValueError("a forecaster goes to another grid from the one it was trained on")
            result._use_native_resolution()
            return result
        result.to_network_grid = Regridder(grid, self.network_grid, channels).to(device)
        result.from_network_grid = Regridder(self.network_grid, grid, channels).to(device)
        return result

    def with_damping_power(self, power: DampingPower) -> "Forecaster":
        """The same forecaster, whose damping grows with another power of the anomaly's size.

        Raises:
            InputError: If it has no damping.
        """
        if self.config.damping_days is None:
            raise InputError(
                f"damping_power={power} needs a forecaster with model.damping_days, this one has "
                "none; train one that has, such as 5",
                code="bad-setting",
            )
        result = copy.deepcopy(self)
        result.config = replace(self.config, damping_power=power)
        return result

    def _use_native_resolution(self) -> None:
        """Have the network work on the grid of the fields instead of the one of its training."""
        trained, grid, fixed = self.network_grid, self.spec.grid, self.spec.static_channels
        config, network = self.config.network, self.network
        if config.position_grid is not None or config.mode_selection == "fourcastnet":
            raise InputError(
                "forecast.resolution=native needs weights of wavenumbers, this network has a table "
                "of positions or mode_selection=fourcastnet; use resolution=interpolate",
                code="bad-setting",
            )
        if not trained.same_domain(grid):
            raise InputError(
                f"forecast.resolution=native needs the domain of the network's grid {trained}, the "
                f"data has {grid}; use resolution=interpolate, or data on the same domain",
                code="grid-mismatch",
            )
        check_pole(config, grid, "model.network")
        check_same_ends(config, trained, grid)
        static = Regridder(trained, grid, fixed).to(self.static.device)(self.static[: len(fixed)])
        self.static = _with_coordinates(static, grid) if self.config.coordinates else static
        network.padding = scaled_padding(config.padding, trained.shape, grid.shape)
        shift = _origin_shift(config, trained, grid)
        for block in network.blocks:
            assert isinstance(block, AFNOBlock)
            block.mixer = shift_phase_origin(block.mixer, shift)
        self.network_grid = grid
        noise = noise_fields(self.config.noise, grid, self.spec.step)
        self.noise = None if noise is None else noise.to(self.static.device)


def _origin_shift(network: AFNONetConfig, trained: Grid, grid: Grid) -> tuple[float, float]:
    """Tokens by axis from the first one of the trained grid to the first one of another grid.

    Zero along axes that are not periodic to the network: cosines count from the edge.
    """
    paddings = network.padding, scaled_padding(network.padding, trained.shape, grid.shape)
    shift = []
    for axis, patch in enumerate(network.patch_size):
        starts, step = [], 0.0
        for each, padding in zip((trained, grid), paddings, strict=True):
            values = each.coords[each.dims[axis]]
            before = padding.widths(each.shape, network.patch_size)[axis][0]
            step = float(values[-1] - values[0]) / max(1, len(values) - 1)
            starts.append(values[0] + ((patch - 1) / 2 - before) * step)
        counts = network.boundary[axis] == "periodic" and (axis == 1 or network.pole == "none")
        shift.append(round((starts[1] - starts[0]) / (patch * step), 9) if counts and step else 0.0)
    return shift[0], shift[1]


def _with_coordinates(static: Tensor, grid: Grid) -> Tensor:
    coordinates = torch.from_numpy(grid.coordinate_channels()).float().to(static.device)
    return torch.cat([static.float(), coordinates])
