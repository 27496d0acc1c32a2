"""Losses on tensors in physical units, weighted by cell area and by channel.

With the error e = (prediction - target) / scale of a channel and the mean <.> over the area, or
with ``area_weights: false`` over the points,

    mse           <e^2>; with the change over a timestep as scale, channels are weighted by their
                  inverse one-step variance and persistence has the loss 1 at the first step
    l1            <|e|>
    huber         <e^2 / 2 where |e| < delta, delta (|e| - delta / 2) elsewhere>
    relative_l2   sqrt(<e^2> / <t^2>), t the target about its mean over the scale, over all channels
                  of a sample together or for each channel; FourCastNet's is over all channels and
                  points together, with ``scale: state`` and ``area_weights: false``
    amse          adjusted mean square error by wavenumber, see ``losses.spectral``
    crps          almost fair continuous ranked probability score of an ensemble; may be added to it
                  with weights: that of spectral coefficients, and the energy score of the field of
                  a channel with the norm sqrt(<e^2>), see ``losses.ensemble``

Every loss is given for each sample of a batch, so that the samples of several processes can be
weighted exactly. The mean over channels is weighted by ``channel_weights`` and by pressure.

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3 (relative L2).
    Lam et al., 2023, GraphCast, https://arxiv.org/abs/2212.12794, supplement 4 (weights by
    pressure, inverse one-step variance).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.losses.ensemble import (
    FieldCoefficients,
    almost_fair_crps,
    almost_fair_energy_score,
)
from fourcastnet_afno.losses.spectral import PowerSpectrum, adjusted_mse
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows

_LEAST_NORM = 1e-6  # of a target about its mean, in units of the scale


def area_weighted_mse(
    predictions: Float[Tensor, "batch channel lat lon"],
    targets: Float[Tensor, "batch channel lat lon"],
    area_weights: Float[Tensor, "lat lon"],
    scale: Float[Tensor, "channel 1 1"],
) -> Float[Tensor, ""]:
    """Mean over batch, channels and area of the squared error in units of ``scale``.

    Args:
        predictions: Forecast in physical units.
        targets: Truth in physical units.
        area_weights: Cell areas with mean 1.
        scale: Scale of the error of each channel, in its units.
    """
    error = (predictions - targets) / scale
    return (area_weights * error.square()).mean()


@dataclass(frozen=True, kw_only=True)
class FieldStatistics:
    """Channels and grid of the fields of a loss; everything but ``rows`` is of the full grid.

    Args:
        labels: Labels of the channels.
        levels: Pressure of each channel in hPa, or None.
        mean: Mean of each channel, in its units; the loss has its type and device.
        std: Standard deviation of each channel, likewise.
        diff_std: Standard deviation of the change over a timestep, likewise; 0 for channels that
            never change, such as the coefficients of a steady problem.
        area_weights: Cell areas with mean 1.
        field_weights: Further weights of the points, such as 0 where values are filled.
        latitude: Rows in degrees, for spectra; of a plane, its y.
        is_periodic: Whether the longitudes close a circle, for spectra.
        is_plane: Whether the grid is a plane, likewise.
        has_periodic_rows: Whether the rows close on themselves too, likewise.
        rows: The rows that fields have in this process.
    """

    labels: Sequence[str]
    levels: Sequence[int | None]
    mean: Float[Tensor, " channel"]
    std: Float[Tensor, " channel"]
    diff_std: Float[Tensor, " channel"]
    area_weights: Float[Tensor, "lat lon"]
    field_weights: Float[Tensor, "channel lat lon"] | None = None
    latitude: Sequence[float] = ()
    is_periodic: bool = True
    is_plane: bool = False
    has_periodic_rows: bool = False
    rows: Rows = ALL_ROWS


class Loss(nn.Module):
    """Loss of each sample of a batch, in float32 or better, also under autocast.

    ``amse`` has no weighted mean and multiplies the errors by ``field_weights``.

    Raises:
        ValueError: If ``channel_weights`` name no channel, no channel has weight, or the grid has
            no wavenumbers.
    """

    weights: Tensor
    mean: Tensor
    scale: Tensor
    channel_weights: Tensor
    error_weights: Tensor | None

    def __init__(self, config: LossConfig, statistics: FieldStatistics) -> None:
        super().__init__()
        self.config, self.rows = config, statistics.rows
        mean, area_weights = statistics.mean, statistics.area_weights.to(statistics.mean)
        if not config.area_weights:
            area_weights = torch.ones_like(area_weights)
        labels = statistics.labels
        unknown = sorted(config.channel_weights.keys() - set(labels))
        if unknown:
            raise ValueError(
                f"loss.channel_weights names {unknown}, the channels are {list(labels)}"
            )
        channel_weights = torch.tensor([config.channel_weights.get(name, 1.0) for name in labels])
        if config.level_weights == "pressure":
            channel_weights = channel_weights * pressure_weights(statistics.levels)
        channel_weights = channel_weights.to(mean)
        scale = statistics.diff_std if config.scale == "change" else statistics.std
        channel_weights = torch.where(scale > 0, channel_weights, 0)
        scale = torch.where(scale > 0, scale, 1)
        weights, field_weights = area_weights[None], statistics.field_weights
        if field_weights is not None:
            field_weights = field_weights.to(area_weights)
            weights = weights * field_weights
            sums = weights.mean(dim=(-2, -1), keepdim=True)
            weights = weights / torch.where(sums > 0, sums, 1)
            channel_weights = torch.where(sums[:, 0, 0] > 0, channel_weights, 0)
        if not channel_weights.sum() > 0:
            needed = "a channel with weight that changes and has points that are not filled"
            raise ValueError(f"loss.channel_weights must leave {needed}, got none")
        self.spectrum = None
        if config.kind == "amse":
            if not statistics.is_periodic:
                raise ValueError(
                    "loss.kind=amse needs longitudes that close a circle, got a region"
                )
            row_weights, num_columns = area_weights.mean(dim=1), area_weights.shape[1]
            self.spectrum = PowerSpectrum(
                statistics.latitude, num_columns, row_weights, config.spectral_basis
            )
        self.coefficients = None
        if config.spectral_weight > 0:
            self.coefficients = FieldCoefficients(
                weights,
                area_weights,
                () if statistics.is_plane else statistics.latitude,
                (statistics.has_periodic_rows, statistics.is_periodic),
            )
        buffers = {
            "weights": weights[:, self.rows.field_slice],
            "mean": mean[:, None, None],
            "scale": scale[:, None, None],
            "channel_weights": channel_weights / channel_weights.mean(),
            "error_weights": field_weights if config.kind == "amse" else None,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    def forward(
        self,
        predictions: Float[Tensor, "batch *realization channel lat lon"],
        targets: Float[Tensor, "batch channel lat lon"],
    ) -> Float[Tensor, " batch"]:
        """Weighted mean over channels; for ``crps`` the predictions may be an ensemble."""
        if self.config.kind == "relative_l2" and self.config.relative_to == "sample":
            self._check(predictions, targets)
            with torch.autocast(targets.device.type, enabled=False):
                weights = self.weights * self.channel_weights[:, None, None]
                return self._relative_norm(predictions, targets, weights, dims=(-3, -2, -1))
        return (self.channel_weights * self.by_channel(predictions, targets)).mean(dim=1)

    def by_channel(
        self,
        predictions: Float[Tensor, "batch *realization channel lat lon"],
        targets: Float[Tensor, "batch channel lat lon"],
    ) -> Float[Tensor, "batch channel"]:
        """Loss of each channel by itself."""
        self._check(predictions, targets)
        with torch.autocast(targets.device.type, enabled=False):
            if self.config.kind == "relative_l2":
                return self._relative_norm(predictions, targets, self.weights, dims=(-2, -1))
            if self.spectrum is not None:
                fields = (self._normalized(x) for x in (predictions, targets))
                predictions, targets = (self.rows.gather(x) for x in fields)
                if self.error_weights is not None:
                    predictions = targets + self.error_weights * (predictions - targets)
                return adjusted_mse(predictions, targets, self.spectrum)
            if predictions.ndim > targets.ndim:
                targets = targets[:, None]
            error = (_precise(predictions) - _precise(targets)) / self.scale
            if self.config.kind == "crps":
                return self._ensemble_score(error if error.ndim == 5 else error[:, None])
            return self.rows.mean(self.weights * self._pointwise(error))

    def _check(self, predictions: Tensor, targets: Tensor) -> None:
        if predictions.ndim > targets.ndim and self.config.kind != "crps":
            raise ValueError(
                f"loss.kind={self.config.kind} takes one forecast, got an ensemble of shape "
                f"{tuple(predictions.shape)}; use kind=crps"
            )

    def _normalized(self, fields: Tensor) -> Tensor:
        return (_precise(fields) - self.mean) / self.scale

    def _pointwise(self, error: Tensor) -> Tensor:
        if self.config.kind == "mse":
            return error.square()
        if self.config.kind == "huber":
            delta, size = self.config.huber_delta, error.abs()
            return torch.where(size < delta, error.square() / 2, delta * (size - delta / 2))
        return error.abs()

    def _ensemble_score(
        self, error: Float[Tensor, "batch realization channel lat lon"]
    ) -> Float[Tensor, "batch channel"]:
        config, rows = self.config, self.rows
        alpha = config.crps_alpha
        *_, num_rows, num_columns = rows.full_shape(error.shape)
        count = num_rows * num_columns
        score = rows.mean(self.weights * almost_fair_crps(error, alpha))
        if self.coefficients is not None:
            coefficients = self.coefficients(rows.gather(error))
            spectral = almost_fair_crps(coefficients, alpha).sum(dim=-1) / count
            score = score + config.spectral_weight * spectral
        if config.energy_weight > 0:
            roots = self.weights.sqrt()

            def norm(fields: Tensor) -> Tensor:
                return rows.norm(roots * fields, (-2, -1)) / count**0.5

            energy = almost_fair_energy_score(error, alpha, norm)
            score = score + config.energy_weight * energy
        return score

    def _relative_norm(
        self, predictions: Tensor, targets: Tensor, weights: Tensor, dims: tuple[int, ...]
    ) -> Tensor:
        """Ratio of the norms of error and target; a norm, unlike a root, has a slope at 0."""
        predictions, targets = self._normalized(predictions), self._normalized(targets)
        roots = weights.sqrt()
        error = self.rows.norm(roots * (predictions - targets), dims)
        size = self.rows.norm(roots * targets, dims)
        *_, num_rows, num_columns = self.rows.full_shape(targets.shape)
        return error / size.clamp_min(_LEAST_NORM * (num_rows * num_columns) ** 0.5)


def pressure_weights(levels: Sequence[int | None]) -> Float[Tensor, " channel"]:
    """Weights in proportion to pressure, with mean 1 over the channels that have levels.

    Args:
        levels: Pressure of each channel in hPa; channels with None have the weight 1.
    """
    pressures = [level for level in levels if level is not None]
    mean = sum(pressures) / max(1, len(pressures))
    return torch.tensor([1.0 if level is None else level / mean for level in levels])


def _precise(fields: Tensor) -> Tensor:
    return fields if fields.dtype == torch.float64 else fields.float()
