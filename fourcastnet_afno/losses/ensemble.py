"""Scores of ensembles of fields, which are least on average for members drawn from the truth's law.

With the errors e_1 to e_M of the members and a distance |.|, the almost fair score is

    1/M sum_j |e_j| - (1 - (1 - alpha) / M) / (2 M (M - 1)) sum_jk |e_j - e_k|,

which is alpha times the fair score plus 1 - alpha times that of the M members alone. The mean of
the fair score does not depend on M, but it leaves a member free where all others equal the truth;
alpha below 1 does not. The score of one member is the size of its error.

It is the continuous ranked probability score where |.| is the absolute value of a number, at each
point or for each coefficient of a field, and the energy score where it is the norm of a field.
Members with the right distribution at each point have the same score there, however their points
are correlated; coefficients and norms tell the right correlation.

References:
    Gneiting and Raftery, 2007, Strictly Proper Scoring Rules, Prediction, and Estimation,
    https://doi.org/10.1198/016214506000001437, section 4.3 (energy score).
    Lang et al., 2024, AIFS-CRPS, https://arxiv.org/abs/2412.15832, equation 4 (almost fair).
    Bonev et al., 2025, FourCastNet 3, https://arxiv.org/abs/2507.12144 (coefficients).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourcastnet_afno.losses.spectral import PowerSpectrum

_FEW_MEMBERS = 6  # whose pairs take less time than sorting


def almost_fair_crps(
    errors: Float[Tensor, "batch realization *point"], alpha: float
) -> Float[Tensor, " batch *point"]:
    """Almost fair continuous ranked probability score of an ensemble at each point."""
    members = errors.shape[1]
    skill = errors.abs().mean(dim=1)
    if members == 1:
        return skill
    if members <= _FEW_MEMBERS:
        spread = sum(pair.abs().sum(dim=1) for pair in _pairs(errors))
    else:
        # Sorted, member i is the larger one of i pairs and the smaller one of members - 1 - i.
        ranks = 2 * torch.arange(members, device=errors.device) - (members - 1)
        ranks = ranks.view(-1, *[1] * (errors.ndim - 2))
        spread = (ranks * errors.sort(dim=1).values).sum(dim=1)
    return skill - _share_of_spread(members, alpha) * spread


def almost_fair_energy_score(
    errors: Float[Tensor, "batch realization *field"],
    alpha: float,
    norm: Callable[[Tensor], Tensor],
) -> Float[Tensor, " batch *channel"]:
    """Almost fair energy score of an ensemble.

    Args:
        errors: Of the members.
        alpha: Share of the fair score.
        norm: Gives the norms (batch, realization, *channel) of fields.
    """
    members = errors.shape[1]
    skill = norm(errors).mean(dim=1)
    if members == 1:
        return skill
    spread = sum(norm(pair).sum(dim=1) for pair in _pairs(errors))
    return skill - _share_of_spread(members, alpha) * spread


def _share_of_spread(members: int, alpha: float) -> float:
    """Factor of the sum of the distances of all pairs, each of which counts once."""
    return (1 - (1 - alpha) / members) / (members * (members - 1))


def _pairs(errors: Tensor) -> Iterator[Tensor]:
    """Differences (batch, pair, ...) of members, each pair once."""
    for distance in range(1, errors.shape[1]):
        yield errors[:, :-distance] - errors[:, distance:]


class FieldCoefficients(nn.Module):
    """Real coefficients of fields in orthonormal functions, from large scales to small ones.

    Their mean square is the weighted mean square of the field. On the globe the functions are
    spherical harmonics, see ``spectral``; elsewhere products of sines and cosines along a periodic
    axis, and of cosines along others.

    Args:
        weights: Weights of the points with mean 1, (channel, lat, lon), or one for all channels.
        area_weights: Their part that is the area of the cells.
        latitude: Rows in degrees, from north to south, of a globe; empty elsewhere.
        periodic: Whether rows and columns close on themselves.
    """

    roots: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        weights: Float[Tensor, "channel lat lon"],
        area_weights: Float[Tensor, "lat lon"],
        latitude: Sequence[float],
        periodic: tuple[bool, bool],
    ) -> None:
        super().__init__()
        self.count, self.spectrum = area_weights.numel(), None
        roots, matrices = weights.sqrt(), [torch.empty(0), torch.empty(0)]
        if latitude and periodic[1]:
            roots = (weights / area_weights).sqrt()  # the area is in the harmonics
            self.spectrum = PowerSpectrum(
                latitude, area_weights.shape[1], area_weights.mean(dim=1), "spherical_harmonics"
            )
        else:
            matrices = [
                torch.from_numpy(_waves(size, closes)).to(weights)
                for size, closes in zip(area_weights.shape, periodic, strict=True)
            ]
        for name, value in zip(("roots", "rows", "columns"), (roots, *matrices), strict=True):
            self.register_buffer(name, value, persistent=False)

    def forward(
        self, fields: Float[Tensor, "batch realization channel lat lon"]
    ) -> Float[Tensor, "batch realization channel coefficient"]:
        """Coefficients of fields; those of waves that have no sine are among them as zeros."""
        fields = self.roots * fields
        if self.spectrum is None:
            return (self.rows @ fields @ self.columns.T).flatten(3)
        found = self.spectrum.coefficients(fields.flatten(0, 1)) * self.count**0.5
        return torch.view_as_real(found).flatten(2).unflatten(0, fields.shape[:2])


def _waves(size: int, closes: bool) -> np.ndarray:
    """Orthonormal waves (wave, point) on an axis, which closes on itself or has two ends."""
    points = np.arange(size)
    if not closes:
        waves = np.cos(np.pi * points[:, None] * (points + 0.5) / size)
    else:
        wavenumber = (points + 1) // 2  # the constant, then cosine and sine of each
        angle = 2 * np.pi * wavenumber[:, None] * points / size
        waves = np.where(points[:, None] % 2 == 1, np.cos(angle), np.sin(angle))
        waves[0] = 1
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)
