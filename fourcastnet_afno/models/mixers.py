r"""Token mixing in the Fourier domain.

The adaptive Fourier neural operator transforms the tokens ``x`` of a grid to wavenumbers, passes
each wavenumber through the same two-layer perceptron with block-diagonal complex weights, shrinks
small coefficients to zero, and transforms back:

    z = DFT(x),    y = S(W2 . relu(W1 . z + b1) + b2),    out = x + IDFT(y),

with relu on real and imaginary parts and the soft threshold S(y) = sign(y) max(|y| - threshold, 0)
likewise. Its cost is O(N log N) in the number of tokens N, its memory O(N).

References:
    Adaptive Fourier Neural Operators: Efficient Token Mixers for Transformers, Guibas et al., 2022,
    https://arxiv.org/abs/2111.13587, section 4.
"""

import math
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

ModeSelection = Literal["wavenumber", "fourcastnet"]


def kept_modes(
    shape: tuple[int, int], fraction: float
) -> tuple[Int[Tensor, " kept_meridional"], int]:
    """Wavenumbers that hard thresholding keeps, as indices into an unshifted ``rfft2``.

    Meridional wavenumbers ``|k| <= fraction * H / 2`` and zonal ``0 <= k <= fraction * W / 2``
    stay. A fraction of 1 keeps every mode; the mean is always kept.

    Args:
        shape: Height H and width W of the token grid.
        fraction: Share of the wavenumbers to keep, in 0..1.

    Returns:
        Row indices, and the number of leading columns.
    """
    height, width = shape
    meridional = torch.fft.fftfreq(height, d=1 / height).abs()
    # Rounding keeps 0.1 * 20 / 2 = 1.0000000000000002 from depending on the platform.
    rows = torch.nonzero(meridional <= round(fraction * height / 2, 9)).flatten()
    columns = math.floor(round(fraction * width / 2, 9)) + 1
    return rows, columns


def fourcastnet_modes(
    shape: tuple[int, int], fraction: float
) -> tuple[Int[Tensor, " kept_meridional"], int]:
    """The modes that FourCastNet v1 mixes: as ``kept_modes``, for its published weights alone.

    With ``total = H // 2 + 1`` and ``kept = int(fraction * total)``, these are the rows
    ``total - kept : total + kept`` and the columns ``: kept`` of the unshifted spectrum. At a
    fraction of 1 they leave out the zonal wavenumbers above H / 2, and below 1 the lowest
    meridional ones.
    """
    height, width = shape
    total = height // 2 + 1
    kept = int(total * fraction)
    rows = torch.arange(total - kept, min(total + kept, height))
    return rows, min(kept, width // 2 + 1)


class AFNO2D(nn.Module):
    """Adaptive Fourier neural operator on a 2-D grid of tokens, with its own skip connection.

    The weights do not depend on the size of the grid. Zero weights give the identity.

    Args:
        embed_dim: Channels of a token.
        num_blocks: Number of diagonal blocks; divides ``embed_dim``.
        sparsity_threshold: Threshold of the soft shrinkage.
        hard_thresholding_fraction: Share of wavenumbers that are mixed, see ``kept_modes``.
        hidden_size_factor: Width of the hidden layer over the width of a block.
        mode_selection: ``wavenumber`` for ``kept_modes``, ``fourcastnet`` for
            ``fourcastnet_modes``.

    Raises:
        ValueError: If ``num_blocks`` does not divide ``embed_dim`` or a fraction is out of range.

    References:
        Guibas et al., 2022, https://arxiv.org/abs/2111.13587, algorithm 1.
    """

    def __init__(
        self,
        embed_dim: int,
        num_blocks: int = 8,
        *,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
        mode_selection: ModeSelection = "wavenumber",
    ) -> None:
        super().__init__()
        _check_afno(embed_dim, num_blocks, sparsity_threshold, hard_thresholding_fraction)
        self.num_blocks = num_blocks
        self.sparsity_threshold = sparsity_threshold
        self.hard_thresholding_fraction = hard_thresholding_fraction
        self.mode_selection = mode_selection
        block, hidden = embed_dim // num_blocks, embed_dim // num_blocks * hidden_size_factor
        # Real and imaginary parts lie on the leading axis: complex parameters do not mix with some
        # optimizers, with gradient buckets or with bfloat16.
        self.weight1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, block, hidden))
        self.bias1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden))
        self.weight2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden, block))
        self.bias2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, block))

    def forward(self, tokens: Float[Tensor, "batch h w embed"]) -> Float[Tensor, "batch h w embed"]:
        """Mix the tokens; float32 or wider inside, whatever autocast says."""
        with torch.autocast(tokens.device.type, enabled=False):
            wide = tokens.float() if tokens.dtype in (torch.bfloat16, torch.float16) else tokens
            return (wide + self._mix(wide)).to(tokens.dtype)

    def _mix(self, tokens: Float[Tensor, "batch h w embed"]) -> Float[Tensor, "batch h w embed"]:
        height, width = tokens.shape[1:3]
        select = kept_modes if self.mode_selection == "wavenumber" else fourcastnet_modes
        rows, columns = select((height, width), self.hard_thresholding_fraction)
        spectrum = torch.fft.rfft2(tokens, dim=(1, 2), norm="ortho")
        if len(rows) == height and columns == spectrum.shape[2]:
            mixed = self._mix_modes(spectrum)
        else:
            rows = rows.to(tokens.device)
            mixed = torch.zeros_like(spectrum)
            mixed[:, rows, :columns] = self._mix_modes(spectrum[:, rows, :columns])
        return torch.fft.irfft2(mixed, s=(height, width), dim=(1, 2), norm="ortho")

    def _mix_modes(
        self, modes: Complex[Tensor, "batch kh kw embed"]
    ) -> Complex[Tensor, "batch kh kw embed"]:
        parts = rearrange(
            torch.view_as_real(modes), "b h w (k i) c -> k (b h w) (i c)", k=self.num_blocks
        )
        hidden = F.relu(torch.baddbmm(_interleave(self.bias1), parts, _as_real(self.weight1)))
        output = torch.baddbmm(_interleave(self.bias2), hidden, _as_real(self.weight2))
        shrunk = F.softshrink(output, self.sparsity_threshold)
        batch, height, width, _ = modes.shape
        restored = rearrange(
            shrunk, "k (b h w) (i c) -> b h w (k i) c", b=batch, h=height, w=width, c=2
        )
        return torch.view_as_complex(restored.contiguous())


def _check_afno(embed_dim: int, num_blocks: int, threshold: float, fraction: float) -> None:
    if num_blocks < 1 or embed_dim % num_blocks:
        raise ValueError(
            f"num_blocks must divide embed_dim, got num_blocks={num_blocks} and "
            f"embed_dim={embed_dim}"
        )
    if threshold < 0:
        raise ValueError(f"sparsity_threshold must not be negative, got {threshold}")
    if not 0 <= fraction <= 1:
        raise ValueError(f"hard_thresholding_fraction must lie in 0..1, got {fraction}")


def _as_real(
    weight: Float[Tensor, "2 block in_dim out_dim"],
) -> Float[Tensor, "block in_dim*2 out_dim*2"]:
    """The real matrix that acts on interleaved real and imaginary parts as the complex one does."""
    real, imaginary = weight
    from_real = torch.stack([real, imaginary], dim=-1)
    from_imaginary = torch.stack([-imaginary, real], dim=-1)
    matrix = torch.stack([from_real, from_imaginary], dim=2)
    return rearrange(matrix, "k i a o c -> k (i a) (o c)")


def _interleave(bias: Float[Tensor, "2 block out_dim"]) -> Float[Tensor, "block 1 out_dim*2"]:
    return rearrange(bias, "c k o -> k 1 (o c)")
