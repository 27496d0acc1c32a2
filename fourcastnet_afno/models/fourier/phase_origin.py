"""Phases of Fourier modes counted from a given point, whatever the points of the grid.

The perceptron of AFNO acts on real and imaginary parts by themselves, so that its result depends on
where phases are counted from: the first token. Grids of other resolution over the same domain often
start elsewhere, such as cell centers, half a cell from the edge. With the translation S by the
difference (multiplication of mode k by exp(-2 pi i k s / n) along an axis of n tokens), S^-1 AFNO S
counts from the point that the network was trained with.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fourcastnet_afno.models.mixers import AFNO2D


class PhaseShifted(nn.Module):
    """A mixer whose phases are counted from another point than the first token.

    Args:
        mixer: Adds a change of its kept modes to the tokens.
        shift: Tokens from that point to the first one, by axis; 0 if not periodic to the mixer.
    """

    def __init__(self, mixer: AFNO2D, shift: tuple[float, float]) -> None:
        super().__init__()
        self.mixer, self._shift = mixer, shift

    def forward(self, tokens: Float[Tensor, "batch h w embed"]) -> Float[Tensor, "batch h w embed"]:
        """Mix the tokens; modes that the mixer does not keep stay as they are."""
        moved = translated(tokens, self._shift)
        change = self.mixer(moved) - moved
        return tokens + translated(change, tuple(-s for s in self._shift)).to(tokens.dtype)


def shift_phase_origin(mixer: nn.Module, shift: tuple[float, float]) -> nn.Module:
    """The mixer, counting phases from the point ``shift`` before the first token.

    Other mixers than AFNO commute with translations: it makes no difference to them.
    """
    return PhaseShifted(mixer, shift) if any(shift) and isinstance(mixer, AFNO2D) else mixer


def translated(
    tokens: Float[Tensor, "batch h w embed"], shift: Sequence[float]
) -> Float[Tensor, "batch h w embed"]:
    """Tokens moved forward along periodic axes, f(j) to f(j - shift), in float32 or better."""
    with torch.autocast(tokens.device.type, enabled=False):
        result = tokens if tokens.dtype == torch.float64 else tokens.float()
        for axis, distance in enumerate(shift, start=1):
            if not distance:
                continue
            count = result.shape[axis]
            wavenumbers = torch.arange(count // 2 + 1, device=tokens.device, dtype=torch.float64)
            angle = -2 * torch.pi * distance / count * wavenumbers
            phase = torch.polar(torch.ones_like(angle), angle).to(result.dtype.to_complex())
            shape = [-1 if i == axis else 1 for i in range(result.ndim)]
            modes = torch.fft.rfft(result, dim=axis) * phase.view(shape)
            result = torch.fft.irfft(modes, n=count, dim=axis)
    return result
