"""Layers around the mixers: padding, patches, the token-wise MLP and stochastic depth."""

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fourcastnet_afno.models.config import Padding, PaddingMode
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows

_TORCH_MODES = {"reflect": "reflect", "wrap": "circular", "zero": "constant"}
_CHUNK_ROWS = 1400
_WIDE = (torch.complex128, torch.float64)
_Field = Float[Tensor, "batch channel lat lon"]
_Tokens = Float[Tensor, "batch h w embed"]


def pad_to_patches(
    field: _Field, padding: Padding, patch_size: tuple[int, int], rows: Rows = ALL_ROWS
) -> Float[Tensor, "batch channel padded_lat padded_lon"]:
    """Extend both axes to a multiple of the patch, where ``rows`` are at the edges of the field.

    Raises:
        ValueError: If an axis is too short to be reflected or wrapped that far.
    """
    height, width = field.shape[-2:]
    vertical, columns = padding.widths((height, width), patch_size)
    vertical = rows.edge_padding(height, vertical)
    field = _pad(field, (0, 0, *vertical), padding.latitude, "latitude")
    return _pad(field, (*columns, 0, 0), padding.longitude, "longitude")


def _pad(field: Tensor, widths: tuple[int, ...], mode: PaddingMode, axis: str) -> Tensor:
    if not any(widths):
        return field
    size = field.shape[-2] if axis == "latitude" else field.shape[-1]
    longest = {"reflect": size - 1, "wrap": size, "zero": max(widths)}[mode]
    if max(widths) > longest:
        raise ValueError(
            f"padding.{axis}={mode} adds at most {longest} cells to {size}, the patch needs "
            f"{max(widths)}; use a smaller patch_size or padding.{axis}=zero"
        )
    return F.pad(field, widths, mode=_TORCH_MODES[mode])


class PatchEmbed(nn.Module):
    """Cuts a field into patches and maps each linearly to a token."""

    def __init__(self, in_channels: int, embed_dim: int, patch_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(in_channels * patch_size[0] * patch_size[1], embed_dim)

    def forward(self, field: _Field) -> _Tokens:
        """Tokens of the field.

        Raises:
            ValueError: If the field does not divide into patches.
        """
        rows, columns = self.patch_size
        if field.shape[-2] % rows or field.shape[-1] % columns:
            raise ValueError(
                f"{field.shape[-2]} x {field.shape[-1]} points do not divide into patches of "
                f"{rows} x {columns}; pad the field (pad_to_patches) or change patch_size"
            )
        runs, count = _runs(field, columns), field.shape[-1] // columns
        patches = rearrange(runs, "b c (h p) (w q) -> b h w (c p q)", p=rows, w=count)
        return self.projection(_values_of(patches, field.dtype))


class PatchRecovery(nn.Module):
    """Maps each token linearly to a patch of the field; the counterpart of ``PatchEmbed``."""

    def __init__(self, embed_dim: int, out_channels: int, patch_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(embed_dim, out_channels * patch_size[0] * patch_size[1])

    def forward(self, tokens: _Tokens) -> _Field:
        """Field of the tokens."""
        rows, columns = self.patch_size
        patches = self.projection(tokens)
        runs = _runs(patches, columns)
        width = runs.shape[-1] * columns // patches.shape[-1]
        fields = rearrange(runs, "b h w (c p q) -> b c (h p) (w q)", p=rows, q=width)
        return _values_of(fields, patches.dtype)


def _runs(values: Tensor, length: int) -> Tensor:
    """Values of which each is ``length`` neighbors or a part of them, which CPUs copy faster.

    Where there are gradients, or no type is as wide, they are the values themselves.
    """
    wide = next((t for t in _WIDE if length * values.itemsize % t.itemsize == 0), None)
    is_plain = values.device.type != "cpu" or torch.compiler.is_compiling()
    if wide is None or is_plain or (torch.is_grad_enabled() and values.requires_grad):
        return values
    return values.contiguous().view(wide)


def _values_of(runs: Tensor, dtype: torch.dtype) -> Tensor:
    """Inverse of ``_runs``."""
    return runs if runs.dtype == dtype else runs.contiguous().view(dtype)


class NoiseModulation(nn.Linear):
    """Scales and shifts the tokens of both normalizations of a block by tokens of noise.

    Its weights are zero at first: it changes nothing. The last ``vector_channels``, which change
    sign across a pole, are scaled alone, as the noise does not change sign there.
    """

    def __init__(self, noise_width: int, embed_dim: int, vector_channels: int) -> None:
        super().__init__(noise_width, 4 * embed_dim - 2 * vector_channels, bias=False)
        nn.init.zeros_(self.weight)
        self.scalars, self.vectors = embed_dim - vector_channels, vector_channels

    def of(
        self, first: nn.Module, second: nn.Module, noise: Float[Tensor, "batch h w noise_width"]
    ) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        """The two normalizations followed by scale and shift."""
        widths = 2 * (self.scalars + self.vectors, self.scalars)
        scale1, shift1, scale2, shift2 = self(noise).split(widths, dim=-1)

        def modulated(norm: nn.Module, scale: Tensor, shift: Tensor) -> Callable[[Tensor], Tensor]:
            def apply(tokens: Tensor) -> Tensor:
                normed = norm(tokens)
                result = torch.addcmul(normed, normed, scale.to(normed.dtype))
                if not self.vectors:
                    return result + shift
                result[..., : self.scalars] += shift
                return result

            return apply

        return modulated(first, scale1, shift1), modulated(second, scale2, shift2)


class Mlp(nn.Sequential):
    """Two-layer perceptron on every token, with GELU between the layers.

    Its backward pass keeps the input and the hidden layer before GELU, half of what autograd would.
    """

    def __init__(self, embed_dim: int, hidden_dim: int, drop_rate: float) -> None:
        super().__init__(
            nn.Linear(embed_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(drop_rate),
            nn.Linear(hidden_dim, embed_dim),
            nn.Dropout(drop_rate),
        )

    def forward(self, input: Float[Tensor, "batch *grid embed"]) -> Tensor:
        """The perceptron of each token."""
        first, _, dropout, second, _ = self
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        assert isinstance(dropout, nn.Dropout)
        # A compiler decides by itself what to keep, and fuses what is not behind a Function.
        if torch.compiler.is_compiling() or (self.training and dropout.p > 0):
            return super().forward(input)
        device = input.device.type
        autocast = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else first.weight.dtype
        values = (input, first.weight, first.bias, second.weight, second.bias)
        keep = torch.is_grad_enabled() and any(value.requires_grad for value in values)
        run = _Perceptron.apply if keep else _Perceptron.forward
        with torch.autocast(device, enabled=False):
            tokens, weight1, bias1, weight2, bias2 = (value.to(dtype) for value in values)
            return run(tokens, weight1, bias1, weight2, bias2, keep)[0]


class _Perceptron(torch.autograd.Function):
    """W2 gelu(W1 x + b1) + b2, some tokens at a time, with GELU computed again on the way back."""

    @staticmethod
    def forward(
        tokens: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor]:
        flat = tokens.reshape(-1, tokens.shape[-1])
        output, hidden = torch.empty_like(flat), flat.new_empty(0)
        if keep:
            hidden = flat.new_empty(len(flat), len(weight1))
        for rows in _row_chunks(flat):
            layer = torch.addmm(bias1, flat[rows], weight1.T, out=hidden[rows] if keep else None)
            activated = F.gelu(layer) if keep else torch.ops.aten.gelu_(layer)
            torch.addmm(bias2, activated, weight2.T, out=output[rows])
        return output.view(tokens.shape), hidden

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # noqa: ANN001
        tokens, weight1, _, weight2, _, _ = inputs
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(tokens, weight1, weight2, output[1])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        tokens, weight1, weight2, hidden = ctx.saved_tensors
        gradient = gradients[0]
        if gradient is None:
            return (None,) * 6
        flat, by_output = (x.reshape(-1, x.shape[-1]) for x in (tokens, gradient))
        by_tokens = torch.empty_like(flat)
        by_weight1, by_weight2 = torch.zeros_like(weight1), torch.zeros_like(weight2)
        by_bias1 = weight1.new_zeros(len(weight1))
        for rows in _row_chunks(flat):
            torch.addmm(by_weight2, by_output[rows].T, F.gelu(hidden[rows]), out=by_weight2)
            by_hidden = by_output[rows] @ weight2
            by_hidden = torch.ops.aten.gelu_backward(by_hidden, hidden[rows])
            torch.addmm(by_weight1, by_hidden.T, flat[rows], out=by_weight1)
            by_bias1 += by_hidden.sum(0)
            torch.mm(by_hidden, weight1, out=by_tokens[rows])
        by_bias2 = by_output.sum(0)
        return by_tokens.view(tokens.shape), by_weight1, by_bias1, by_weight2, by_bias2, None


class GatedMlp(nn.Module):
    """A perceptron on every token whose hidden layer is a product, W3 (gelu(W1 x) * (W2 x)).

    Products of fields, such as the advection of one by another, need no sum of GELUs. It has as
    many weights as an ``Mlp``: its hidden layer has two thirds of the width.

    Args:
        embed_dim: Channels of a token.
        hidden_dim: Width of the hidden layer of the ``Mlp`` with as many weights.
        drop_rate: Dropout of both layers.

    References:
        Shazeer, 2020, GLU Variants Improve Transformer, https://arxiv.org/abs/2002.05202 (GEGLU).
    """

    def __init__(self, embed_dim: int, hidden_dim: int, drop_rate: float) -> None:
        super().__init__()
        hidden_dim = max(2 * hidden_dim // 3, 1)
        self.gate, self.value = (nn.Linear(embed_dim, hidden_dim) for _ in range(2))
        self.output = nn.Linear(hidden_dim, embed_dim)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, tokens: _Tokens) -> _Tokens:
        """The perceptron of each token."""
        hidden = F.gelu(self.gate(tokens)) * self.value(tokens)
        return self.dropout(self.output(self.dropout(hidden)))


def _row_chunks(tokens: Tensor) -> list[slice]:
    """Tokens that are worked on together: on a CPU, about as many as its cache holds."""
    count = len(tokens)
    chunks = -(-count // _CHUNK_ROWS) if tokens.device.type == "cpu" else 1
    step = -(-count // max(chunks, 1))
    return [slice(start, start + step) for start in range(0, count, max(step, 1))]


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for random samples of a batch.

    The branches that stay are scaled by ``1 / (1 - rate)``, so that the expectation is kept.

    Attributes:
        rows: The rows that this process has of each field.

    References:
        Deep Networks with Stochastic Depth, Huang et al., 2016, https://arxiv.org/abs/1603.09382
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.rows: Rows = ALL_ROWS

    def forward(self, branch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The branch, or zero, for each sample."""
        if not self.training or self.rate == 0:
            return branch
        shape = (len(branch),) + (1,) * (branch.ndim - 1)
        drawn = torch.rand(shape, device=branch.device) >= self.rate
        # All rows of a sample are kept or dropped together.
        mask = self.rows.broadcast_from_first(drawn)
        return branch * mask.to(branch.dtype) / (1 - self.rate)
