r"""Token mixing in the Fourier domain.

The adaptive Fourier neural operator transforms the tokens ``x`` of a grid to wavenumbers, passes
each wavenumber through the same two-layer perceptron with block-diagonal complex weights, shrinks
small coefficients to zero, and transforms back:

    z = DFT(x),    y = S(W2 . relu(W1 . z + b1) + b2),    out = x + IDFT(y - y(0)),

with relu on real and imaginary parts and the soft threshold S(y) = sign(y) max(|y| - threshold, 0)
likewise. Its cost is O(N log N) in the number of tokens N, its memory O(N).

The paper has ``y`` instead of ``y - y(0)``, the response to ``z`` minus that to zero. Equal
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
from dataclasses import replace
from typing import ClassVar, TypedDict, Unpack

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fourcastnet_afno.models.config import (
    Boundary,
    Initialization,
    ModeCounting,
    Pole,
    TransformKind,
)
from fourcastnet_afno.models.fourier.filter_op import Filter, filter_modes
from fourcastnet_afno.models.fourier.kernels import kernel_bases, kernel_sizes
from fourcastnet_afno.models.fourier.mixing_op import Perceptron, mix_modes
from fourcastnet_afno.models.fourier.modes import (
    analyze,
    kept_modes,
    largest_wavenumber,
    select_modes,
    signed_wavenumbers,
    synthesize,
)
from fourcastnet_afno.models.fourier.transforms import ModeSelection
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows

_Tokens = Float[Tensor, "batch *grid embed"]


class ModeOptions(TypedDict, total=False):
    """Options of a mixer that decide which modes it mixes, see ``AFNO``."""

    hard_thresholding_fraction: float
    reference_grid: Sequence[int] | None
    mode_selection: ModeCounting
    boundary: Boundary | Sequence[Boundary]
    pole: Pole
    vector_channels: int
    transform: TransformKind


class ModeMixer(nn.Module):
    """A new value of tokens that is computed from their Fourier modes.

    Args:
        options: Which modes.

    Attributes:
        spectrum: The modes, and their scale.
        rows: The rows that this process has of a grid of two axes.
    """

    def __init__(self, **options: Unpack[ModeOptions]) -> None:
        super().__init__()
        grid, boundary = options.get("reference_grid"), options.get("boundary", "periodic")
        spectrum = ModeSelection(
            fraction=options.get("hard_thresholding_fraction", 1.0),
            reference_grid=None if grid is None else tuple(grid),
            boundary=boundary if isinstance(boundary, str) else tuple(boundary),
            pole=options.get("pole", "none"),
            vector_channels=options.get("vector_channels", 0),
            mode_selection=options.get("mode_selection", "wavenumber"),
            transform=options.get("transform", "auto"),
        )
        self._select(spectrum)
        self.rows: Rows = ALL_ROWS

    def _select(self, spectrum: ModeSelection) -> None:
        self.spectrum, self._spectrum = spectrum, spectrum.to_json()

    def use_matrices(self) -> None:
        """Have the transforms be products with matrices on any grid."""
        self._select(replace(self.spectrum, transform="matrix"))


def _check_blocks(embed_dim: int, num_blocks: int) -> None:
    if num_blocks < 1 or embed_dim % num_blocks:
        raise ValueError(f"num_blocks must divide embed_dim, got {num_blocks} and {embed_dim}")


class AFNO(ModeMixer):
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
        boundary: Continuation of fields beyond the edges, for all axes or by axis; see
            ``transforms``.
        pole: ``double_fourier_sphere`` if the last two axes are latitude, from pole to pole, and
            longitude: fields continue smoothly across the poles.
        vector_channels: How many of the last channels change sign across the pole.
        transform: How modes are computed; the result is the same. ``auto`` takes the faster one.
        initialization: Of the weights: ``he`` keeps the size of the coefficients through both
            layers, whatever the width of the blocks, and learns faster where those are narrow;
            ``small`` has standard deviation 0.02, like FourCastNet's.

    Raises:
        ValueError: If ``num_blocks`` does not divide ``embed_dim`` or a fraction is out of range.

    References:
        Guibas et al., 2022, https://arxiv.org/abs/2111.13587, algorithm 1.
    """

    kept_offset: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        num_blocks: int = 8,
        *,
        sparsity_threshold: float = 0.01,
        hard_thresholding_fraction: float = 1.0,
        hidden_size_factor: int = 1,
        reference_grid: Sequence[int] | None = None,
        mode_selection: ModeCounting = "wavenumber",
        boundary: Boundary | Sequence[Boundary] = "periodic",
        pole: Pole = "none",
        vector_channels: int = 0,
        transform: TransformKind = "auto",
        initialization: Initialization = "he",
    ) -> None:
        _check_blocks(embed_dim, num_blocks)
        if sparsity_threshold < 0:
            raise ValueError(f"sparsity_threshold must not be negative, got {sparsity_threshold}")
        super().__init__(
            hard_thresholding_fraction=hard_thresholding_fraction,
            reference_grid=reference_grid,
            mode_selection=mode_selection,
            boundary=boundary,
            pole=pole,
            vector_channels=vector_channels,
            transform=transform,
        )
        self.num_blocks, self.sparsity_threshold = num_blocks, sparsity_threshold
        block, hidden = embed_dim // num_blocks, embed_dim // num_blocks * hidden_size_factor
        # Real and imaginary parts are on the leading axis: complex parameters do not mix with some
        # optimizers, with gradient buckets or with bfloat16.
        # Each real output of a layer is the sum of twice as many products, with both parts.
        by_fan_in = initialization == "he"
        std1, std2 = (block**-0.5, (2 * hidden) ** -0.5) if by_fan_in else (0.02, 0.02)
        self.weight1 = nn.Parameter(std1 * torch.randn(2, num_blocks, block, hidden))
        self.bias1 = nn.Parameter(0.02 * torch.randn(2, num_blocks, hidden))
        self.weight2 = nn.Parameter(std2 * torch.randn(2, num_blocks, hidden, block))
        self.bias2 = nn.Parameter(0.02 * torch.randn(2, num_blocks, block))
        self.register_buffer("kept_offset", None, persistent=False)

    def forward(self, tokens: _Tokens) -> _Tokens:
        """Mix the tokens.

        Under autocast to bfloat16 the perceptron is in bfloat16, the transforms are in float32.

        Raises:
            ValueError: If the grid has other axes than ``reference_grid`` or ``boundary``.
        """
        device, dtype = tokens.device.type, torch.promote_types(self.weight1.dtype, torch.float32)
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
            dtype = torch.bfloat16
        with torch.autocast(device, enabled=False):
            parameters = self._layers()
            offset = self._offset(*parameters) if self.kept_offset is None else self.kept_offset
            weight1, bias1, weight2, bias2 = (value.to(dtype) for value in parameters)
            threshold = self.sparsity_threshold
            perceptron = Perceptron(weight1, bias1, weight2, bias2, offset, threshold)
            return mix_modes(tokens, perceptron, self._spectrum, self.rows)

    def keep_offset(self) -> None:
        """Keep the response to zero, which comes from weights that are not rounded."""
        self.kept_offset = self._offset(*self._layers()).detach()

    def _layers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights and biases as real matrices, real and imaginary parts side by side."""
        bias1, bias2 = (rearrange(b, "i k o -> k 1 (i o)") for b in (self.bias1, self.bias2))
        return _as_real(self.weight1), bias1, _as_real(self.weight2), bias2

    def _offset(self, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor) -> Tensor:
        """The response of the perceptron to zero, where it is taken off."""
        if self.spectrum.mode_selection == "fourcastnet":
            return torch.zeros_like(bias2)
        at_zero = torch.baddbmm(bias2, F.relu(bias1), weight2)
        return F.softshrink(at_zero, self.sparsity_threshold)

    def reference_forward(self, tokens: _Tokens) -> _Tokens:
        """The layer as its equation, which tests hold the fast operator of ``forward`` to.

        It is for periodic and zero-padded axes: a field followed by as many zeros is periodic.

        Raises:
            ValueError: If the layer has other boundaries or a pole.
        """
        shape, modes = tokens.shape[1:-1], self.spectrum
        axes = tuple(range(1, tokens.ndim - 1))
        boundaries = modes.boundaries(len(shape))
        if modes.pole != "none" or not set(boundaries) <= {"periodic", "zero_padded"}:
            raise ValueError(f"no reference for boundary={modes.boundary}, pole={modes.pole}")
        factors = [2 if boundary == "zero_padded" else 1 for boundary in boundaries]
        doubled, reference = (
            [factor * size for factor, size in zip(factors, sizes, strict=True)]
            for sizes in (shape, modes.reference_grid or shape)
        )
        kept = replace(modes, reference_grid=tuple(reference)).periodic_modes(doubled)
        kept = [torch.from_numpy(indices) for indices in kept]
        scale = math.prod(reference) ** 0.5

        spectrum = torch.fft.rfftn(tokens, doubled, axes, norm="forward")
        z = scale * select_modes(spectrum, kept)
        y = self._reference_perceptron(z)
        if modes.mode_selection != "fourcastnet":
            y = y - self._reference_perceptron(torch.zeros_like(z))
        change = synthesize(y / scale, kept, doubled)
        return tokens + change[(slice(None), *(slice(size) for size in shape))]

    def _reference_perceptron(self, z: Tensor) -> Tensor:
        """S(W2 . relu(W1 . z + b1) + b2) in complex numbers, block by block."""
        layers = ((self.weight1, self.bias1), (self.weight2, self.bias2))
        (weight1, bias1), (weight2, bias2) = (
            (torch.complex(*weight), torch.complex(*bias)) for weight, bias in layers
        )
        blocks = rearrange(z, "... (k i) -> ... k i", k=self.num_blocks)
        hidden = torch.einsum("...ki,kio->...ko", blocks, weight1) + bias1
        hidden = torch.complex(F.relu(hidden.real), F.relu(hidden.imag))
        y = torch.einsum("...ki,kio->...ko", hidden, weight2) + bias2
        y = torch.complex(*(F.softshrink(x, self.sparsity_threshold) for x in (y.real, y.imag)))
        return rearrange(y, "... k o -> ... (k o)")


AFNO2D = AFNO
"""``AFNO``, under the name that it has in the literature for grids of two axes."""


class WavenumberAFNO(ModeMixer):
    """AFNO whose weights know the wavenumber: factors in place of the rectifier.

        z = DFT(x),    out = IDFT(W2 . F . (W1 . z)),

    with block-diagonal weights W1 and W2 that all wavenumbers share, as in AFNO, and a complex
    factor F for each wavenumber and channel, the transform of a kernel in a window, see
    ``kernels``. How fast a wave moves and grows depends on its wavenumber, which a perceptron
    that all wavenumbers share cannot know. The layer is linear; the token-wise MLP that follows is
    not.

    Args:
        embed_dim: Channels of a token.
        num_blocks: Number of diagonal blocks; divides ``embed_dim``.
        window: Points of the reference grid that the kernel reaches to each side. Its weights are
            at these points or, if not all wavenumbers are mixed, at those that are, see
            ``kernel_bases``.
        num_axes: How many axes the grid has.
        initialization: Of the block-diagonal weights: of random values, whose squares sum to 1 with
            ``he``, or the ``identity``, with which the factors learn faster where the channels of
            tokens have a meaning of their own from the start, as with patches of one point.
        options: Which modes; kernels are never wider than ``reference_grid``, ``vector_channels``
            are half of ``embed_dim``, in whole blocks, or none.

    Raises:
        ValueError: If ``num_blocks`` does not divide ``embed_dim``, or ``vector_channels`` is
            another number.

    References:
        Guibas et al., 2022, https://arxiv.org/abs/2111.13587, section 4; Rao et al., 2021, Global
        Filter Networks for Image Classification, https://arxiv.org/abs/2107.00645, equation 5.
    """

    def __init__(
        self,
        embed_dim: int,
        num_blocks: int = 8,
        *,
        window: int = 16,
        num_axes: int = 2,
        initialization: Initialization = "he",
        **options: Unpack[ModeOptions],
    ) -> None:
        _check_blocks(embed_dim, num_blocks)
        vector_channels = options.get("vector_channels", 0)
        if vector_channels and (2 * vector_channels != embed_dim or num_blocks % 2):
            raise ValueError(
                "weights of wavenumbers need vector_channels=0, or half of embed_dim and an even "
                f"num_blocks, got {vector_channels}, {embed_dim} and {num_blocks}"
            )
        super().__init__(**options)
        width = embed_dim // num_blocks
        std = {"he": width**-0.5, "small": 0.02}.get(initialization)
        identity = torch.eye(width).repeat(num_blocks, 1, 1)
        self.weight1, self.weight2 = (
            nn.Parameter(std * torch.randn_like(identity) if std else identity.clone())
            for _ in range(2)
        )
        self._bases: list[list[str]] = []
        if self.spectrum.fraction < 1:
            bases = kernel_bases(self.spectrum, window, num_axes)
            self._bases = [self._registered(part, axes) for part, axes in enumerate(bases)]
            sizes, std = [[basis.shape[1] for basis in part] for part in bases], 0.02 * math.sqrt(2)
        else:
            sizes = kernel_sizes(self.spectrum, window, num_axes)
            # Factors have the size of those in a table of factors, whatever the window.
            std = 0.02 * math.sqrt(2 / math.prod(sizes[0]))
        self.kernels = nn.ParameterList(
            std * torch.randn(*size, embed_dim) for size in sizes if 0 not in size
        )

    def _registered(self, part: int, bases: Sequence[Float[np.ndarray, "_ _"]]) -> list[str]:
        """Names of the buffers of a kernel's bases."""
        names = [f"basis{part}_{axis}" for axis in range(len(bases))]
        for name, basis in zip(names, bases, strict=True):
            self.register_buffer(name, torch.from_numpy(basis).float(), persistent=False)
        return names

    def forward(self, tokens: _Tokens) -> _Tokens:
        """Mix the tokens.

        Under autocast to bfloat16 the layers are in bfloat16, transforms and factors in float32.
        """
        device, dtype = tokens.device.type, self.weight1.dtype
        if torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16:
            dtype = torch.bfloat16
        with torch.autocast(device, enabled=False):
            layers = self.weight1.to(dtype), self.weight2.to(dtype)
            weights = Filter(*layers, self.points_of_kernels())
            return filter_modes(tokens, weights, self._spectrum, self.rows)

    def points_of_kernels(self) -> list[Float[Tensor, "*offsets embed"]]:
        """The kernels, which are weights at points, or at the wavenumbers that are mixed."""
        kernels = list(self.kernels)
        for part, names in enumerate(self._bases[: len(kernels)]):
            for axis, name in enumerate(names):
                values = kernels[part].movedim(axis, 0)
                points = self.get_buffer(name) @ values.flatten(1)
                kernels[part] = points.unflatten(1, values.shape[1:]).movedim(0, axis)
        return kernels


class _Spectral(nn.Module):
    """A linear map of each Fourier coefficient with weights of its own for each wavenumber.

    Args:
        embed_dim: Channels of a token.
        reference_grid: Points by axis of the grid whose wavenumbers have weights.
        hard_thresholding_fraction: Share of the wavenumbers, see ``kept_modes``.
    """

    is_dense: ClassVar[bool]  # whether channels are mixed, too

    def __init__(
        self,
        embed_dim: int,
        reference_grid: Sequence[int],
        hard_thresholding_fraction: float = 1.0,
    ) -> None:
        super().__init__()
        self.reference_grid, self.fraction = tuple(reference_grid), hard_thresholding_fraction
        self._limits = [largest_wavenumber(n, self.fraction) for n in reference_grid]
        *others, last = self._limits
        sizes = [*(2 * limit + 1 for limit in others), last + 1]
        channels = [embed_dim, embed_dim] if self.is_dense else [embed_dim]
        self.weight = nn.Parameter(0.02 * torch.randn(2, *sizes, *channels))

    def forward(self, tokens: _Tokens) -> _Tokens:
        """Transform, multiply by the weights, transform back; float32 or wider inside."""
        with torch.autocast(tokens.device.type, enabled=False):
            wide = tokens.float() if tokens.dtype in (torch.bfloat16, torch.float16) else tokens
            shape = wide.shape[1:-1]
            indices = kept_modes(shape, self.fraction, self.reference_grid)
            weight = torch.complex(self.weight[0], self.weight[1])
            for axis, (kept, size) in enumerate(zip(indices, shape, strict=True)):
                rows = torch.from_numpy(signed_wavenumbers(kept, size))
                if axis < len(shape) - 1:
                    rows = rows + self._limits[axis]
                weight = weight.index_select(axis, rows.to(weight.device))
            kept = [torch.from_numpy(axis).to(tokens.device) for axis in indices]
            modes = analyze(wide, kept)
            if self.is_dense:
                modes = torch.einsum("b...i,...io->b...o", modes, weight)
            else:
                modes = modes * weight
            return synthesize(modes, kept, shape).to(tokens.dtype)


class FNO2D(_Spectral):
    """Fourier neural operator layer: a dense matrix for each wavenumber, and a pointwise bypass.

    References:
        Fourier Neural Operator for Parametric Partial Differential Equations, Li et al., 2021,
        https://arxiv.org/abs/2010.08895, equations 4 and 5.
    """

    is_dense = True

    def __init__(
        self,
        embed_dim: int,
        reference_grid: Sequence[int],
        hard_thresholding_fraction: float = 1.0,
    ) -> None:
        super().__init__(embed_dim, reference_grid, hard_thresholding_fraction)
        self.bypass = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens: _Tokens) -> _Tokens:
        """Mix the tokens."""
        return self.bypass(tokens) + super().forward(tokens)


class GlobalFilter2D(_Spectral):
    """Global filter: a complex factor for each wavenumber and channel, a circular convolution.

    References:
        Global Filter Networks for Image Classification, Rao et al., 2021,
        https://arxiv.org/abs/2107.00645, equation 5.
    """

    is_dense = False


class SelfAttention(nn.Module):
    """Multi-head self-attention over all tokens of the grid.

    References:
        An Image is Worth 16x16 Words, Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929,
        appendix A.
    """

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(f"num_heads must divide embed_dim, got {num_heads} and {embed_dim}")
        self.num_heads = num_heads
        self.query_key_value = nn.Linear(embed_dim, 3 * embed_dim)
        self.projection = nn.Linear(embed_dim, embed_dim)

    def forward(self, tokens: _Tokens) -> _Tokens:
        """Mix the tokens."""
        projected = self.query_key_value(tokens.flatten(1, -2))
        query, key, value = rearrange(
            projected, "b n (part head c) -> part b head n c", part=3, head=self.num_heads
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        merged = rearrange(attended, "b head n c -> b n (head c)")
        return self.projection(merged).view(tokens.shape)


def _as_real(
    weight: Float[Tensor, "2 block in_dim out_dim"],
) -> Float[Tensor, "block in_dim*2 out_dim*2"]:
    """The real matrix that acts on real and imaginary parts side by side as the complex one."""
    real, imaginary = weight
    from_real = torch.cat([real, imaginary], dim=2)
    from_imaginary = torch.cat([-imaginary, real], dim=2)
    return torch.cat([from_real, from_imaginary], dim=1)
