"""Losses on tensors, weighted by cell area and by channel."""

from jaxtyping import Float
from torch import Tensor


def area_weighted_mse(
    predictions: Float[Tensor, "batch channel lat lon"],
    targets: Float[Tensor, "batch channel lat lon"],
    area_weights: Float[Tensor, "lat lon"],
    scale: Float[Tensor, "channel 1 1"],
) -> Float[Tensor, ""]:
    """Mean over batch, channels and area of the squared error in units of ``scale``.

    With the standard deviation of the change over a timestep as scale, persistence has the loss 1
    at the first step.

    Args:
        predictions: Forecast in physical units.
        targets: Truth in physical units.
        area_weights: Cell areas with mean 1.
        scale: Scale of the error of each channel, in its units.
    """
    error = (predictions - targets) / scale
    return (area_weights * error.square()).mean()
