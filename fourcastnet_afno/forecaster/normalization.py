"""Normalization by channel, with the statistics as buffers that travel with the weights."""

from jaxtyping import Float
from torch import Tensor, nn


class Normalizer(nn.Module):
    """Maps physical values to zero mean and unit variance by channel, and back.

    Args:
        mean: Mean of each channel, in its units, shape (channel,).
        std: Standard deviation of each channel, in its units, positive, shape (channel,).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Float[Tensor, " channel"], std: Float[Tensor, " channel"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float()[:, None, None])
        self.register_buffer("std", std.float()[:, None, None])

    def normalize(
        self, field: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel lat lon"]:
        """``(field - mean) / std``."""
        return (field - self.mean) / self.std

    def denormalize(
        self, field: Float[Tensor, "*batch channel lat lon"]
    ) -> Float[Tensor, "*batch channel lat lon"]:
        """Inverse of ``normalize``."""
        return field * self.std + self.mean
