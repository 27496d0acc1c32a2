r"""Token mixing in the Fourier domain.

The adaptive Fourier neural operator transforms the tokens ``x`` of a grid to wavenumbers, passes
each wavenumber through the same two-layer perceptron with block-diagonal complex weights, shrinks
small coefficients to zero, and transforms back:

    z = DFT(x),    y = S(W2 . relu(W1 . z + b1) + b2),    out = x + IDFT(y - y(0)),

with relu on real and imaginary parts and the soft threshold S(y) = sign(y) max(|y| - threshold, 0)
likewise. Its cost is O(N log N) in the number of tokens N, its memory O(N).

The paper has ``y`` where this has ``y - y(0)``, the response to ``z`` less that to zero. Equal
biases at all wavenumbers are a spike at the first grid point, which grows with the grid; without
their response, a field of few wavenumbers has an output of the same few wavenumbers.

The coefficients are those of the orthonormal transform on a reference grid: the ones of the same
field sampled finer or coarser are the same, so that biases and thresholds act alike on all grids.

References:
    Adaptive Fourier Neural Operators: Efficient Token Mixers for Transformers, Guibas et al., 2022,
    https://arxiv.org/abs/2111.13587, section 4.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

ModeSelection = Literal["wavenumber", "fourcastnet"]


def kept_modes(
    shape: Sequence[int], fraction: float, reference: Sequence[int] | None = None
) -> list[Int[Tensor, " kept"]]:
    """Wavenumbers that hard thresholding keeps, as indices into an unshifted ``rfftn``.

    On every axis the wavenumbers ``|k| <= fraction * n / 2`` stay, where n is the reference's
    number of points. A fraction of 1 keeps every mode of the reference; the mean is always kept.

    Args:
        shape: Points of the token grid by axis; the last axis has half a spectrum.
        fraction: Share of the wavenumbers to keep, in 0..1.
        reference: Points by axis of the grid that the fraction is of; by default the same grid.

    Returns:
        Indices for each axis, increasing.
    """
    indices = []
    for axis, (size, points) in enumerate(zip(shape, reference or shape, strict=True)):
        # Rounding keeps 0.1 * 20 / 2 = 1.0000000000000002 from depending on the platform.
        largest = math.floor(round(fraction * points / 2, 9))
        wavenumbers = torch.arange(size)
        half = axis == len(shape) - 1
        wavenumbers = wavenumbers[: size // 2 + 1] if half else wavenumbers
        folded = torch.minimum(wavenumbers, size - wavenumbers)
        indices.append(torch.nonzero(folded <= largest).flatten())
    return indices


def fourcastnet_modes(shape: Sequence[int], fraction: float) -> list[Int[Tensor, " kept"]]:
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
    return [rows, torch.arange(min(kept, width // 2 + 1))]


class AFNO(nn.Module):
    """Adaptive Fourier neural operator on a grid of tokens, with its own skip connection.

    Tokens have any number of grid axes, two in most uses. The weights do not depend on the size of
    the grid. Zero weights give the identity.

    Args:
        embed_dim: Channels of a token.
        num_blocks: Number of diagonal blocks; divides ``embed_dim``.
        sparsity_threshold: Threshold of the soft shrinkage.
        hard_thresholding_fraction: Share of wavenumbers that are mixed, see ``kept_modes``.
        hidden_size_factor: Width of the hidden layer over the width of a block.
        reference_grid: Points by axis of the grid whose wavenumbers are mixed and whose orthonormal
            transform scales the coefficients, whatever the grid of the tokens; by default the
            tokens' own, which does not carry over to other grids.
        mode_selection: ``wavenumber`` as above; ``fourcastnet`` computes what FourCastNet v1 does,
            for its published weights: ``fourcastnet_modes`` and the response to zero not taken off.

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
        reference_grid: Sequence[int] | None = None,
        mode_selection: ModeSelection = "wavenumber",
    ) -> None:
        super().__init__()
        _check_afno(embed_dim, num_blocks, sparsity_threshold, hard_thresholding_fraction)
        self.num_blocks = num_blocks
        self.sparsity_threshold = sparsity_threshold
        self.hard_thresholding_fraction = hard_thresholding_fraction
        self.reference_grid = None if reference_grid is None else tuple(reference_grid)
        self.mode_selection = mode_selection
        block, hidden = embed_dim // num_blocks, embed_dim // num_blocks * hidden_size_factor
        # Real and imaginary parts lie on the leading axis: complex parameters do not mix with some
        # optimizers, with gradient buckets or with bfloat16.
        self.weight1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, block, hidden))
        self.bias1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden))
        self.weight2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden, block))
        self.bias2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, block))

    def forward(
        self, tokens: Float[Tensor, "batch *grid embed"]
    ) -> Float[Tensor, "batch *grid embed"]:
        """Mix the tokens; float32 or wider inside, whatever autocast says."""
        with torch.autocast(tokens.device.type, enabled=False):
            wide = tokens.float() if tokens.dtype in (torch.bfloat16, torch.float16) else tokens
            return (wide + self._mix(wide)).to(tokens.dtype)

    def _mix(
        self, tokens: Float[Tensor, "batch *grid embed"]
    ) -> Float[Tensor, "batch *grid embed"]:
        shape = tokens.shape[1:-1]
        axes = tuple(range(1, 1 + len(shape)))
        kept = [indices.to(tokens.device) for indices in self._kept_modes(shape)]
        scale = math.sqrt(math.prod(self.reference_grid or shape))
        spectrum = torch.fft.rfftn(tokens * scale, dim=axes, norm="forward")
        mixed = _expand(self._mix_modes(_select(spectrum, kept)), kept, spectrum.shape)
        return torch.fft.irfftn(mixed, s=shape, dim=axes, norm="forward") / scale

    def _kept_modes(self, shape: Sequence[int]) -> list[Tensor]:
        if self.mode_selection == "fourcastnet":
            return fourcastnet_modes(shape, self.hard_thresholding_fraction)
        return kept_modes(shape, self.hard_thresholding_fraction, self.reference_grid)

    def _mix_modes(
        self, modes: Complex[Tensor, "batch *kept embed"]
    ) -> Complex[Tensor, "batch *kept embed"]:
        flat = torch.view_as_real(modes).flatten(0, -3)
        output = self._perceptron(rearrange(flat, "n (k c) i -> k n (i c)", k=self.num_blocks))
        if self.mode_selection == "wavenumber":
            zero = output.new_zeros(self.num_blocks, 1, 2 * self.weight1.shape[2])
            output = output - self._perceptron(zero)
        restored = rearrange(output, "k n (i c) -> n (k c) i", i=2).contiguous()
        return torch.view_as_complex(restored).view(modes.shape)

    def _perceptron(
        self, parts: Float[Tensor, "block mode in_dim"]
    ) -> Float[Tensor, "block mode in_dim"]:
        """Two layers on real and imaginary parts side by side, and the soft threshold."""
        hidden = F.relu(torch.baddbmm(_side_by_side(self.bias1), parts, _as_real(self.weight1)))
        output = torch.baddbmm(_side_by_side(self.bias2), hidden, _as_real(self.weight2))
        return F.softshrink(output, self.sparsity_threshold)


AFNO2D = AFNO
"""``AFNO``, under the name that it has in the literature for grids of two axes."""


def _select(spectrum: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """The kept modes of a spectrum (batch, *modes, embed), axis by axis."""
    for axis, indices in enumerate(kept, start=1):
        if len(indices) < spectrum.shape[axis]:
            spectrum = spectrum.index_select(axis, indices)
    return spectrum


def _expand(modes: Tensor, kept: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Inverse of ``_select``, with zeros in the other modes."""
    for axis, indices in enumerate(kept, start=1):
        if len(indices) < shape[axis]:
            full = (*modes.shape[:axis], shape[axis], *modes.shape[axis + 1 :])
            modes = modes.new_zeros(full).index_copy(axis, indices, modes)
    return modes


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
    """The real matrix that acts on real and imaginary parts side by side as the complex one."""
    real, imaginary = weight
    from_real = torch.cat([real, imaginary], dim=2)
    from_imaginary = torch.cat([-imaginary, real], dim=2)
    return torch.cat([from_real, from_imaginary], dim=1)


def _side_by_side(bias: Float[Tensor, "2 block out_dim"]) -> Float[Tensor, "block 1 out_dim*2"]:
    return rearrange(bias, "i k o -> k 1 (i o)")
