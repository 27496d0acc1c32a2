"""Losses built for the channels and the grid of a forecaster or a head."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.grids.plane import require_latlon
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.losses.loss import FieldStatistics, Loss
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows
from fourcastnet_afno.training.config import TrainingConfig


def build_stage_losses(config: TrainingConfig, build: Callable[[LossConfig], Loss]) -> list[Loss]:
    """The loss of each stage; stages with the same settings share one, as it may be large."""
    configs = [config.loss_of(stage) for stage in config.stages]
    losses: list[Loss] = []
    for index, wanted in enumerate(configs):
        first = configs.index(wanted)
        losses.append(losses[first] if first < index else build(wanted))
    return losses


def build_loss(
    config: LossConfig,
    forecaster: Forecaster,
    field_weights: Float[Tensor, "channel lat lon"] | None = None,
) -> Loss:
    """The loss for a forecaster's channels, grid, statistics and rows, on its device.

    The ``field_weights`` of the points by channel are for example 0 where values are filled.

    Raises:
        InputError: If the configuration does not suit the channels or the grid.
    """
    normalizer = forecaster.normalizer
    moments = normalizer.mean.flatten(), normalizer.std.flatten(), forecaster.diff_std.flatten()
    return _build(config, forecaster.spec, moments, field_weights, forecaster.rows)


def build_diagnostic_loss(
    config: LossConfig,
    head: DiagnosticHead,
    field_weights: Float[Tensor, "diagnostic lat lon"] | None = None,
) -> Loss:
    """Like ``build_loss``, for a head's values as its network sees them: they have scale 1."""
    one = torch.ones_like(head.normalizer.std).flatten()
    return _build(config, head.spec, (0 * one, one, one), field_weights)


def _build(
    config: LossConfig,
    spec: FieldSpec,
    moments: tuple[Tensor, Tensor, Tensor],
    field_weights: Tensor | None,
    rows: Rows = ALL_ROWS,
) -> Loss:
    grid, (mean, std, diff_std) = spec.grid, moments
    if config.kind == "amse" and config.spectral_basis == "spherical_harmonics":
        setting = "training.loss.spectral_basis=spherical_harmonics"
        require_latlon(grid, setting, "set it to zonal, which is along x")
    statistics = FieldStatistics(
        labels=spec.channels.labels,
        levels=[channel.level for channel in spec.channels],
        mean=mean,
        std=std,
        diff_std=diff_std,
        area_weights=torch.from_numpy(grid.area_weights()),
        field_weights=field_weights,
        latitude=tuple(grid.coords[grid.dims[0]].tolist()),
        is_periodic=grid.is_periodic,
        is_plane=not grid.on_sphere,
        has_periodic_rows=grid.dims[0] in grid.periodic_axes,
        rows=rows,
    )
    try:
        return Loss(config, statistics)
    except ValueError as error:
        raise InputError(f"training.{error}", code="bad-setting") from error
