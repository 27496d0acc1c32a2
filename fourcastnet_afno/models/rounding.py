"""Weights held in the type that autocast rounds them to.

Under autocast to bfloat16 a network casts the weights of its matrix products in every call. Where
they do not change between calls, they may as well be held in bfloat16: the products are the same
bits, and the weights take half of the memory. Normalizations, tables of positions, kernels and
transforms work in float32, with weights in float32.
"""

import torch
from torch import Tensor, nn

from fourcastnet_afno.models.mixers import AFNO, WavenumberAFNO

_ROUNDED = (
    (nn.Linear, ("weight", "bias")),
    (AFNO, ("weight1", "bias1", "weight2", "bias2")),
    (WavenumberAFNO, ("weight1", "weight2")),
)


def round_weights(network: nn.Module) -> None:
    """Hold the float32 weights that autocast to bfloat16 rounds in bfloat16, in place.

    They have no gradients any more. Nothing changes where they are in bfloat16 already.
    """
    for part in network.modules():
        names = next((names for kind, names in _ROUNDED if isinstance(part, kind)), ())
        if isinstance(part, AFNO) and part.kept_offset is None:
            part.keep_offset()
        for name in names:
            value = getattr(part, name)
            if isinstance(value, Tensor) and value.dtype == torch.float32:
                rounded = value.detach().to(torch.bfloat16)
                setattr(part, name, nn.Parameter(rounded, requires_grad=False))
