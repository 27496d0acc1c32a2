"""The two-layer perceptron on Fourier modes, from tokens to tokens, as one operator of torch.

It works on a few diagonal blocks of channels at a time, from transform to inverse transform, so
that what lies between stays in the processor's cache, and keeps for the backward pass the modes,
the hidden layer and a mask of the outputs: about 2.25 times the tokens. ``torch.compile`` sees one
node.

Where several processes share the rows of a grid, the transforms exchange with the others; all
channels go at once, as few large messages are faster than many small ones.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula

from fourcastnet_afno.models.fourier.sharded import ShardedTransform
from fourcastnet_afno.models.fourier.transforms import (
    LocalTransform,
    MatrixTransform,
    Transform,
    called_directly,
    matrix_operations,
    plan_for,
    transform_for,
)
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows, ShardedRows

_CACHE_BYTES = 8 * 2**20


class Perceptron(NamedTuple):
    """Two layers on Fourier modes, block-diagonal, as real matrices on real and imaginary parts.

        S(W2 relu(W1 z + b1) + b2) - offset

    Args:
        weight1: Shape (block, 2 in_dim, 2 hidden).
        bias1: Shape (block, 1, 2 hidden).
        weight2: Shape (block, 2 hidden, 2 in_dim).
        bias2: Shape (block, 1, 2 in_dim).
        offset: Shape (block, 1, 2 in_dim), in float32 or wider.
        threshold: Of the soft shrinkage S.
    """

    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    offset: Tensor
    threshold: float

    def select(self, blocks: slice) -> "Perceptron":
        """Some of the diagonal blocks."""
        weight1, bias1, weight2, bias2, offset = (value[blocks] for value in self[:5])
        return Perceptron(weight1, bias1, weight2, bias2, offset, self.threshold)


def mix_modes(
    tokens: Tensor, perceptron: Perceptron, spectrum: str, rows: Rows = ALL_ROWS
) -> Tensor:
    """Tokens plus the inverse transform of the perceptron of their modes.

    It has first derivatives. The perceptron is in the dtype of its weights, the transforms are in
    float32 or wider: in bfloat16 their roundings would be most of the error.

    Args:
        tokens: Shape (batch, *grid, embed), embed = block * in_dim.
        perceptron: Treats each mode by itself.
        spectrum: ``ModeSelection.to_json``: which modes, and their scale.
        rows: The rows of the grid that the tokens are.
    """
    if isinstance(rows, ShardedRows):
        shape = (sum(rows.partition.token_rows), *tokens.shape[2:])
        full = _transform(shape, perceptron.weight1, spectrum)
        transform = ShardedTransform(full, rows)
        keep = torch.is_grad_enabled()
        return _ShardedMixing.apply(tokens.contiguous(), transform, keep, *perceptron)
    tensors = (tokens, *perceptron[:5])
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if called_directly(keep):
        return _mix(tokens.contiguous(), *perceptron, spectrum, False)[0]
    return _forward(tokens.contiguous(), *perceptron, spectrum, keep)[0]


def _mix(
    tokens: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    offset: Tensor,
    threshold: float,
    spectrum: str,
    keep: bool,
) -> list[Tensor]:
    """The mixed tokens and, if ``keep``, modes, hidden layer and mask of each chunk."""
    perceptron = Perceptron(weight1, bias1, weight2, bias2, offset, threshold)
    transform = _transform(tokens.shape[1:], weight1, spectrum)
    return _mix_chunks(transform, _chunks(tokens, len(weight1)), tokens, perceptron, keep)


def _mix_chunks(
    transform: Transform,
    chunks: list[tuple[slice, slice]],
    tokens: Tensor,
    perceptron: Perceptron,
    keep: bool,
) -> list[Tensor]:
    output, saved = torch.empty_like(tokens), []
    for blocks, channels in chunks:
        weight1, bias1, weight2, bias2, offset, threshold = perceptron.select(blocks)
        modes = _by_block(transform.to_modes(tokens, channels), weight1)
        hidden = torch.baddbmm(bias1, modes, weight1).relu_()
        result = torch.baddbmm(bias2, hidden, weight2)
        result = F.softshrink(result.to(offset.dtype), threshold)
        if keep:
            saved += [modes, hidden, result != 0]
        change = _by_axis(result.sub_(offset), tokens, transform)
        transform.add_to_grid(change, tokens, output, channels)
    return [output, *saved]


_forward = torch.library.custom_op("fourcastnet_afno::mix_modes", mutates_args=())(_mix)


@torch.library.custom_op("fourcastnet_afno::mix_modes_backward", mutates_args=())
def _backward(
    gradient: Tensor, weight1: Tensor, weight2: Tensor, saved: list[Tensor], spectrum: str
) -> list[Tensor]:
    """Gradients by tokens, weight1, bias1, weight2, bias2 and offset."""
    transform = _transform(gradient.shape[1:], weight1, spectrum)
    chunks = _chunks(gradient, len(weight1))
    return _differentiate_chunks(transform, chunks, gradient, weight1, weight2, saved)


def _differentiate_chunks(
    transform: Transform,
    chunks: list[tuple[slice, slice]],
    gradient: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    saved: Sequence[Tensor],
) -> list[Tensor]:
    by_tokens = torch.empty_like(gradient)
    by_parameters = _new_gradients(weight1, weight2)
    for i, (blocks, channels) in enumerate(chunks):
        modes, hidden, mask = saved[3 * i : 3 * i + 3]
        by_weight1, by_bias1, by_weight2, by_bias2, by_offset = (x[blocks] for x in by_parameters)
        change = transform.to_modes(gradient, channels, adjoint=True)
        change = _by_block(change, weight1[blocks])
        torch.sum(change, 1, keepdim=True, dtype=by_offset.dtype, out=by_offset).neg_()
        change = change.mul_(mask)
        torch.sum(change, 1, keepdim=True, out=by_bias2)
        torch.bmm(hidden.mT, change, out=by_weight2)
        change = torch.bmm(change, weight2[blocks].mT)
        change = torch.ops.aten.threshold_backward(change, hidden, 0)
        torch.sum(change, 1, keepdim=True, out=by_bias1)
        torch.bmm(modes.mT, change, out=by_weight1)
        change = _by_axis(torch.bmm(change, weight1[blocks].mT), gradient, transform)
        transform.add_to_grid(change, gradient, by_tokens, channels, adjoint=True)
    return [by_tokens, *by_parameters]


@_forward.register_fake
def _(tokens, weight1, bias1, weight2, bias2, offset, threshold, spectrum, keep):  # noqa: ANN001, ANN202
    outputs = [torch.empty_like(tokens)]
    *shape, channels = (int(size) for size in tokens.shape[1:])  # a compiler's symbols have no hash
    plan = plan_for(spectrum, tuple(shape), channels, tokens.device.type)
    count = len(tokens) * plan.num_modes
    for blocks, _ in _chunks(tokens, len(weight1)) if keep else []:
        together, inner, hidden = weight1[blocks].shape
        outputs += [weight1.new_empty(together, count, width) for width in (inner, hidden)]
        outputs.append(weight1.new_empty(together, count, inner, dtype=torch.bool))
    return outputs


@_backward.register_fake
def _(gradient, weight1, weight2, saved, spectrum):  # noqa: ANN001, ANN202
    return [torch.empty_like(gradient), *_new_gradients(weight1, weight2)]


@register_flop_formula(torch.ops.fourcastnet_afno.mix_modes, get_raw=True)
def _count_forward(tokens, weight1, *parameters, out_val=None, **_) -> int:  # noqa: ANN001, ANN002, ANN003
    return _operations(tokens, weight1, parameters[-2], perceptrons=1)


@register_flop_formula(torch.ops.fourcastnet_afno.mix_modes_backward, get_raw=True)
def _count_backward(gradient, weight1, *parameters, out_val=None, **_) -> int:  # noqa: ANN001, ANN002, ANN003
    return _operations(gradient, weight1, parameters[-1], perceptrons=2)


def _operations(tokens: Tensor, weight1: Tensor, spectrum: str, perceptrons: int) -> int:
    """Floating-point operations of all matrix products; those of an FFT do not count."""
    shape, channels = tuple(tokens.shape[1:-1]), tokens.shape[-1]
    plan = plan_for(spectrum, shape, channels, tokens.device.type)
    operations = perceptrons * 2 * 2 * len(tokens) * plan.num_modes * weight1.numel()
    if isinstance(plan, MatrixTransform):
        operations += round(2 * matrix_operations(plan.kept, shape) * tokens.numel())
    return operations


def _setup_context(ctx, inputs, output) -> None:  # noqa: ANN001
    _, weight1, _, weight2, _, _, _, spectrum, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(weight1, weight2, *output[1:])
    ctx.spectrum = spectrum


def _differentiate(ctx, gradients):  # noqa: ANN001, ANN202
    if gradients[0] is None:
        return (None,) * 9
    weight1, weight2, *saved = ctx.saved_tensors
    result = _backward(gradients[0].contiguous(), weight1, weight2, saved, ctx.spectrum)
    return *result, None, None, None


_forward.register_autograd(_differentiate, setup_context=_setup_context)


class _ShardedMixing(torch.autograd.Function):
    """The same for some rows, by a transform that an operator of torch could not take."""

    @staticmethod
    def forward(ctx, tokens, transform, keep, *perceptron):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        values = Perceptron(*perceptron)
        everything = slice(0, len(values.weight1)), slice(0, tokens.shape[-1])
        ctx.transform, ctx.chunks = transform, [everything]
        output, *saved = _mix_chunks(transform, ctx.chunks, tokens, values, keep)
        ctx.save_for_backward(values.weight1, values.weight2, *saved)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        weight1, weight2, *saved = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        by_tokens, *by_parameters = _differentiate_chunks(
            ctx.transform, ctx.chunks, gradient, weight1, weight2, saved
        )
        return by_tokens, None, None, *by_parameters, None


def _new_gradients(
    weight1: Tensor, weight2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    bias1, bias2 = (w.new_empty(len(w), 1, w.shape[2]) for w in (weight1, weight2))
    offset = torch.empty_like(bias2, dtype=_wide(bias2.dtype))
    return torch.empty_like(weight1), bias1, torch.empty_like(weight2), bias2, offset


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _transform(shape: Sequence[int], weight: Tensor, spectrum: str) -> LocalTransform:
    """The transform of a grid whose ``shape`` includes the channels."""
    *grid, channels = shape
    return transform_for(spectrum, tuple(grid), channels, _wide(weight.dtype), weight.device)


def _chunks(tokens: Tensor, num_blocks: int) -> list[tuple[slice, slice]]:
    """Blocks and channels that are worked on together."""
    together = num_blocks
    if tokens.device.type == "cpu":
        limit = max(1, _CACHE_BYTES * num_blocks // (4 * tokens.numel()))
        divisors = [n for n in range(1, num_blocks + 1) if num_blocks % n == 0]
        together = max(n for n in divisors if n <= limit)
    width = tokens.shape[-1] // num_blocks
    starts = range(0, num_blocks, together)
    return [(slice(s, s + together), slice(s * width, (s + together) * width)) for s in starts]


def _by_block(modes: Tensor, weight: Tensor) -> Tensor:
    """Modes (batch, *kept, 2, channel) as (block, batch * mode, 2 in_dim)."""
    blocks, inner, _ = weight.shape
    count = math.prod(modes.shape[:-2])
    split = modes.reshape(count, 2, blocks, inner // 2).movedim(2, 0)
    return split.reshape(blocks, count, inner).to(weight.dtype)


def _by_axis(modes: Tensor, tokens: Tensor, transform: Transform) -> Tensor:
    """Inverse of ``_by_block``."""
    blocks, count, inner = modes.shape
    split = modes.view(blocks, count, 2, inner // 2).movedim(0, 2)
    by_axis = split.reshape(len(tokens), *transform.kept, 2, blocks * inner // 2)
    return by_axis.to(_wide(by_axis.dtype))
