"""Losses built for the channels and the grid of a forecaster or a head."""

import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import require_latlon
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.losses.loss import Loss, build_loss_from_statistics
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows


def build_loss(
    config: LossConfig,
    forecaster: Forecaster,
    field_weights: Float[Tensor, "channel lat lon"] | None = None,
) -> Loss:
    """The loss for a forecaster's channels and grid, on its device."""
    spec, normalizer = forecaster.spec, forecaster.normalizer
    return build_loss_for_channels(
        config,
        spec.grid,
        spec.channels,
        mean=normalizer.mean.flatten(),
        std=normalizer.std.flatten(),
        diff_std=forecaster.diff_std.flatten(),
        field_weights=field_weights,
        rows=forecaster.rows,
    )


def build_loss_for_channels(
    config: LossConfig,
    grid: Grid,
    channels: Channels,
    *,
    mean: Float[Tensor, " channel"],
    std: Float[Tensor, " channel"],
    diff_std: Float[Tensor, " channel"],
    field_weights: Float[Tensor, "channel lat lon"] | None = None,
    rows: Rows = ALL_ROWS,
) -> Loss:
    """The loss for channels on a grid, on the device of ``mean``.

    Args:
        config: What is minimized.
        grid: Grid of every field.
        channels: Channels, in order.
        mean: Mean of each channel, in its units.
        std: Standard deviation of each channel, likewise.
        diff_std: Standard deviation of the change over a timestep, likewise.
        field_weights: Weights of the points by channel, as 0 where values are filled.
        rows: The rows that fields have here.

    Raises:
        InputError: If the configuration does not suit the channels or the grid.
    """
    if config.kind == "amse" and config.spectral_basis == "spherical_harmonics":
        asked_by = "training.loss.spectral_basis=spherical_harmonics"
        require_latlon(grid, asked_by, "set it to zonal, which is along x")
    try:
        return build_loss_from_statistics(
            config,
            area_weights=torch.from_numpy(grid.area_weights()),
            mean=mean,
            std=std,
            diff_std=diff_std,
            labels=channels.labels,
            levels=[channel.level for channel in channels],
            field_weights=field_weights,
            latitude=tuple(grid.coords[grid.dims[0]].tolist()),
            is_periodic=grid.is_periodic,
            rows=rows,
        )
    except ValueError as error:
        raise InputError(f"training.{error}") from error


def build_diagnostic_loss(
    config: LossConfig,
    head: DiagnosticHead,
    forecaster: Forecaster,
    field_weights: Float[Tensor, "diagnostic lat lon"] | None = None,
) -> Loss:
    """A loss of the head's values as the network sees them, which have no further scale.

    Args:
        config: What is minimized.
        head: Gives the channels.
        forecaster: Gives the grid.
        field_weights: Weights of the points, as 0 where values are filled.

    Raises:
        InputError: If the configuration does not suit the channels or the grid.
    """
    one = torch.ones_like(head.normalizer.std).flatten()
    return build_loss_for_channels(
        config,
        forecaster.spec.grid,
        head.channels,
        mean=0 * one,
        std=one,
        diff_std=one,
        field_weights=field_weights,
    )
