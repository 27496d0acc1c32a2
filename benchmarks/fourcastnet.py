"""AFNO in the formulation of FourCastNet v1, the baseline of several benchmarks.

Written from the formulas: a full transform of channels-last tokens in float32, zero-filled buffers
for the hidden layer and the output, and four real contractions for each complex product.

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fourcastnet_afno.models.afno import AFNOBlock, AFNONet
from fourcastnet_afno.models.mixers import AFNO


class FourCastNetFilter(nn.Module):
    """The same function as an ``AFNO`` with ``mode_selection="fourcastnet"``, of the same weights.

    Args:
        mixer: The mixer whose weights are shared.
    """

    def __init__(self, mixer: AFNO) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, tokens: Float[Tensor, "batch h w embed"]) -> Float[Tensor, "batch h w embed"]:
        """Mix the tokens."""
        mixer, (batch, height, width, embed) = self.mixer, tokens.shape
        block = embed // mixer.num_blocks
        spectrum = torch.fft.rfft2(tokens.float(), dim=(1, 2), norm="ortho")
        spectrum = spectrum.reshape(batch, height, width // 2 + 1, mixer.num_blocks, block)
        total = height // 2 + 1
        count = int(total * mixer.spectrum.fraction)
        modes = (slice(None), slice(total - count, total + count), slice(count))
        hidden = _layer(spectrum.real, spectrum.imag, mixer.weight1, mixer.bias1, modes, "relu")
        output = _layer(*hidden, mixer.weight2, mixer.bias2, modes, "none")
        shrunk = F.softshrink(torch.stack(output, dim=-1), mixer.sparsity_threshold)
        mixed = torch.view_as_complex(shrunk).reshape(batch, height, width // 2 + 1, embed)
        field = torch.fft.irfft2(mixed, s=(height, width), dim=(1, 2), norm="ortho")
        return field.to(tokens.dtype) + tokens


def as_fourcastnet(network: AFNONet) -> AFNONet:
    """A copy of a network that evaluates mixers and perceptrons as FourCastNet v1 does."""
    result = copy.deepcopy(network)
    for block in result.blocks:
        assert isinstance(block, AFNOBlock)
        assert isinstance(block.mixer, AFNO)
        block.mixer = FourCastNetFilter(block.mixer)
        block.mlp = nn.Sequential(*block.mlp)
    return result


def without_mixers(network: AFNONet) -> AFNONet:
    """A copy of a network whose mixers do nothing: the cost of all other layers."""
    result = copy.deepcopy(network)
    for block in result.blocks:
        assert isinstance(block, AFNOBlock)
        block.mixer = nn.Identity()
    return result


def _layer(
    real: Tensor,
    imaginary: Tensor,
    weight: Tensor,
    bias: Tensor,
    modes: tuple[slice, ...],
    activation: Literal["relu", "none"],
) -> tuple[Tensor, Tensor]:
    shape = (*real.shape[:-1], weight.shape[-1])
    buffers = torch.zeros(shape, device=real.device), torch.zeros(shape, device=real.device)
    r, i = real[modes], imaginary[modes]
    sums = (
        _contract(r, weight[0]) - _contract(i, weight[1]) + bias[0],
        _contract(i, weight[0]) + _contract(r, weight[1]) + bias[1],
    )
    for buffer, values in zip(buffers, sums, strict=True):
        buffer[modes] = F.relu(values) if activation == "relu" else values
    return buffers


def _contract(values: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("...ki,kio->...ko", values, weight)
