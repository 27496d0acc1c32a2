r"""Two layers with factors of wavenumbers between them, on Fourier modes, as one operator of torch.

    IDFT(W2 . F . (W1 . DFT(x)))

with block-diagonal real weights W1 and W2, which all wavenumbers share, and a complex factor F for
each wavenumber and channel, see ``kernels``. Like ``mixing_op`` it works on a few diagonal blocks
of channels at a time, from transform to inverse transform, so that what lies between stays in the
processor's cache. It keeps for the backward pass the modes of the tokens alone, and computes the
layer before the factors again. ``torch.compile`` sees one node.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from fourcastnet_afno.models.fourier.kernels import factors, kernel_gradient
from fourcastnet_afno.models.fourier.sharded import ShardedTransform
from fourcastnet_afno.models.fourier.transforms import (
    LocalTransform,
    MatrixTransform,
    ModeAxis,
    Transform,
    called_directly,
    matrix_operations,
    plan_for,
    transform_for,
)
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows, ShardedRows

_CACHE_BYTES = 8 * 2**20
_LEAST_WIDTH = 64  # of blocks with products in bfloat16: measured
_Factor = tuple[Tensor, Tensor]


class Filter(NamedTuple):
    """Weights between the transform and its inverse.

    Args:
        weight1: Layer before the factors, shape (block, in_dim, hidden), in_dim = hidden.
        weight2: Layer after them, likewise.
        kernels: Weights (*window, embed) of the even and, if there is one, of the odd part. A
            window has 2 R + 1 offsets along an axis of exponentials; 0..R along others, 1..R along
            that from pole to pole in the odd part.
    """

    weight1: Tensor
    weight2: Tensor
    kernels: list[Tensor]

    def factors(self, chunk: Sequence["_Part"], axes: Sequence[ModeAxis]) -> list[list[_Factor]]:
        """Factors by part of a chunk, of the even and the odd kernel."""
        count, by_kernel = len(chunk), []
        for kernel, is_odd in zip(self.kernels, (False, True), strict=False):
            real, imaginary = factors(_channels_of(kernel, chunk), axes, is_odd)
            by_kernel.append(zip(real.chunk(count, -1), imaginary.chunk(count, -1), strict=True))
        return [list(of_part) for of_part in zip(*by_kernel, strict=True)]


class _Part(NamedTuple):
    """Blocks and their channels that are worked on together, of scalars or of vectors."""

    blocks: slice
    channels: slice


def filter_modes(tokens: Tensor, weights: Filter, spectrum: str, rows: Rows = ALL_ROWS) -> Tensor:
    """Tokens of shape (batch, *grid, embed) to two layers with factors between them.

    It has first derivatives. Products with the layers are in the type of their weights (those of
    narrow blocks in float32 on CPUs), transforms and factors in float32 or wider.

    Args:
        tokens: Shape (batch, *grid, embed).
        weights: Of the layers and the factors.
        spectrum: ``ModeSelection.to_json``: which modes.
        rows: The rows of the grid that the tokens are.
    """
    layers = weights.weight1, weights.weight2
    if isinstance(rows, ShardedRows):
        shape = (sum(rows.partition.token_rows), *tokens.shape[2:])
        transform = ShardedTransform(_transform(shape, weights.kernels[0], spectrum), rows)
        return _ShardedFilter.apply(tokens.contiguous(), transform, *layers, *weights.kernels)
    tensors = (tokens, *layers, *weights.kernels)
    keep = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if called_directly(keep):
        return _filter(tokens.contiguous(), *weights, spectrum, False)[0]
    return _forward(tokens.contiguous(), *weights, spectrum, keep)[0]


def _filter(
    tokens: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    kernels: list[Tensor],
    spectrum: str,
    keep: bool,
) -> list[Tensor]:
    """The result and, if ``keep``, the modes of the tokens."""
    transform = _transform(tokens.shape[1:], kernels[0], spectrum)
    return _apply(transform, tokens, Filter(weight1, weight2, kernels), keep)


def _apply(
    transform: Transform, tokens: Tensor, weights: Filter, keep: bool, is_whole: bool = False
) -> list[Tensor]:
    output, saved = torch.empty_like(tokens), []
    for chunk in _chunks(tokens, weights, is_whole):
        modes = [transform.to_modes(tokens, part.channels) for part in chunk]
        hidden = [
            _by_blocks(x, weights.weight1[part.blocks])
            for x, part in zip(modes, chunk, strict=True)
        ]
        by_part = weights.factors(chunk, transform.mode_axes)
        for index, part in enumerate(chunk):
            filtered = _filtered(by_part[index], hidden, index)
            change = _by_blocks(filtered, weights.weight2[part.blocks])
            transform.add_to_grid(change, None, output, part.channels)
        saved += modes if keep else []
    return [output, *saved]


def _differentiate(
    transform: Transform,
    gradient: Tensor,
    weights: Filter,
    saved: Sequence[Tensor],
    is_whole: bool = False,
) -> list[Tensor]:
    """Gradients by tokens, by both layers and by each kernel."""
    by_tokens, by_kernels = torch.empty_like(gradient), [torch.empty_like(k) for k in weights[2]]
    by_weight1, by_weight2 = torch.empty_like(weights.weight1), torch.empty_like(weights.weight2)
    axes, waiting = transform.mode_axes, list(saved)
    for chunk in _chunks(gradient, weights, is_whole):
        modes, waiting = waiting[: len(chunk)], waiting[len(chunk) :]
        hidden = [
            _by_blocks(x, weights.weight1[part.blocks])
            for x, part in zip(modes, chunk, strict=True)
        ]
        by_hidden: list[Tensor | None] = [None] * len(chunk)
        by_part, by_factors = weights.factors(chunk, axes), []
        for index, (blocks, channels) in enumerate(chunk):
            change = transform.to_modes(gradient, channels, adjoint=True)
            filtered = _filtered(by_part[index], hidden, index)
            by_weight2[blocks] = _products(filtered, change, by_weight2)
            change = _by_blocks(change, weights.weight2[blocks].mT)
            for is_odd, (real, imaginary) in enumerate(by_part[index]):
                other = index - is_odd  # the odd part takes the other one of two
                by_factors.append(_by_factors(hidden[other], change))
                by_hidden[other] = _add_product((real, -imaginary), change, by_hidden[other])
        for is_odd, (kernel, by_kernel) in enumerate(zip(weights.kernels, by_kernels, strict=True)):
            of_parts = zip(*by_factors[is_odd :: len(by_kernels)], strict=True)
            real, imaginary = (torch.cat(parts, -1) for parts in of_parts)
            of_chunk = kernel_gradient((real, imaginary), kernel, axes, bool(is_odd))
            for part, values in zip(chunk, of_chunk.chunk(len(chunk), -1), strict=True):
                by_kernel[..., part.channels] = values.to(by_kernel.dtype)
        for x, change, (blocks, channels) in zip(modes, by_hidden, chunk, strict=True):
            assert change is not None
            by_weight1[blocks] = _products(x, change, by_weight1)
            change = _by_blocks(change, weights.weight1[blocks].mT)
            transform.add_to_grid(change, None, by_tokens, channels, adjoint=True)
    return [by_tokens, by_weight1, by_weight2, *by_kernels]


_forward = torch.library.custom_op("fourcastnet_afno::filter_modes", mutates_args=())(_filter)


@torch.library.custom_op("fourcastnet_afno::filter_modes_backward", mutates_args=())
def _backward(
    gradient: Tensor,
    weight1: Tensor,
    weight2: Tensor,
    kernels: list[Tensor],
    saved: list[Tensor],
    spectrum: str,
) -> list[Tensor]:
    """Gradients by tokens, by both layers and by each kernel."""
    transform = _transform(gradient.shape[1:], kernels[0], spectrum)
    return _differentiate(transform, gradient, Filter(weight1, weight2, kernels), saved)


@_forward.register_fake
def _(tokens, weight1, weight2, kernels, spectrum, keep):  # noqa: ANN001, ANN202
    outputs = [torch.empty_like(tokens)]
    if keep:
        *shape, channels = (int(size) for size in tokens.shape[1:])
        plan = plan_for(spectrum, tuple(shape), channels, tokens.device.type)
        for part in itertools.chain(*_chunks(tokens, Filter(weight1, weight2, kernels))):
            size = len(tokens), *plan.kept, 2, part.channels.stop - part.channels.start
            outputs.append(tokens.new_empty(size, dtype=_wide(kernels[0].dtype)))
    return outputs


@_backward.register_fake
def _(gradient, weight1, weight2, kernels, saved, spectrum):  # noqa: ANN001, ANN202
    return [torch.empty_like(value) for value in (gradient, weight1, weight2, *kernels)]


@register_flop_formula(torch.ops.fourcastnet_afno.filter_modes, get_raw=True)
def _count_forward(tokens, weight1, weight2, kernels, spectrum, keep, out_val=None, **_) -> int:  # noqa: ANN001, ANN003
    return _operations(tokens, weight1, spectrum, layers=2)


@register_flop_formula(torch.ops.fourcastnet_afno.filter_modes_backward, get_raw=True)
def _count_backward(gradient, weight1, *parameters, out_val=None, **_) -> int:  # noqa: ANN001, ANN002, ANN003
    return _operations(gradient, weight1, parameters[-1], layers=5)


def _operations(tokens: Tensor, weight1: Tensor, spectrum: str, layers: int) -> int:
    """Floating-point operations of layers and transforms; factors and FFTs do not count."""
    shape, channels = tuple(tokens.shape[1:-1]), tokens.shape[-1]
    plan = plan_for(spectrum, shape, channels, tokens.device.type)
    operations = layers * 2 * 2 * len(tokens) * plan.num_modes * weight1.numel()
    if isinstance(plan, MatrixTransform):
        operations += round(2 * matrix_operations(plan.kept, shape) * tokens.numel())
    return operations


def _setup_context(ctx, inputs, output) -> None:  # noqa: ANN001
    _, weight1, weight2, kernels, spectrum, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(weight1, weight2, *kernels, *output[1:])
    ctx.spectrum, ctx.num_kernels = spectrum, len(kernels)


def _differentiate_operator(ctx, gradients):  # noqa: ANN001, ANN202
    if gradients[0] is None:
        return None, None, None, [None] * ctx.num_kernels, None, None
    # Once: with checkpointing they are computed when unpacked.
    weight1, weight2, *others = ctx.saved_tensors
    kernels, saved = others[: ctx.num_kernels], others[ctx.num_kernels :]
    gradient = gradients[0].contiguous()
    result = _backward(gradient, weight1, weight2, kernels, saved, ctx.spectrum)
    return *result[:3], result[3:], None, None


_forward.register_autograd(_differentiate_operator, setup_context=_setup_context)


class _ShardedFilter(torch.autograd.Function):
    """The same for some rows, by a transform that an operator of torch could not take."""

    @staticmethod
    def forward(ctx, tokens, transform, weight1, weight2, *kernels):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        weights = Filter(weight1, weight2, list(kernels))
        output, *saved = _apply(transform, tokens, weights, keep=True, is_whole=True)
        ctx.transform, ctx.num_kernels = transform, len(kernels)
        ctx.save_for_backward(weight1, weight2, *kernels, *saved)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        weight1, weight2, *others = ctx.saved_tensors
        weights = Filter(weight1, weight2, others[: ctx.num_kernels])
        saved, gradient = others[ctx.num_kernels :], gradients[0].contiguous()
        by_tokens, *others = _differentiate(ctx.transform, gradient, weights, saved, True)
        return by_tokens, None, *others


def _channels_of(kernel: Tensor, chunk: Sequence[_Part]) -> Tensor:
    """The weights of a chunk, one part after the other."""
    return torch.cat([kernel[..., part.channels] for part in chunk], -1)


def _filtered(of_part: Sequence[_Factor], hidden: Sequence[Tensor], index: int) -> Tensor:
    """Factors times the modes of the part ``index``, and odd ones times those of the other part."""
    result = None
    for is_odd, factor in enumerate(of_part):
        result = _add_product(factor, hidden[index - is_odd], result)
    assert result is not None
    return result


def _add_product(factor: _Factor, modes: Tensor, out: Tensor | None) -> Tensor:
    """Add the complex product with modes (batch, *kept, 2, embed) to ``out``, if there is one."""
    # Where no axis is exponential, modes have an axis of one entry more.
    real, imaginary = (values.view(*modes.shape[1:-2], -1) for values in factor)
    x, y = modes.unbind(-2)
    out = modes * real.unsqueeze(-2) if out is None else out.addcmul_(modes, real.unsqueeze(-2))
    out[..., 0, :].addcmul_(imaginary, y, value=-1)
    out[..., 1, :].addcmul_(imaginary, x)
    return out


def _by_factors(modes: Tensor, change: Tensor) -> _Factor:
    """The gradient by factors: of change times the conjugate of the modes, over the batch."""
    (x, y), (u, v) = modes.unbind(-2), change.unbind(-2)
    # One axis after the other: torch adds up several at once one number at a time.
    return (modes * change).sum(0).sum(-2), (x * v).sub_(y * u).sum(0)


def _by_blocks(modes: Tensor, weight: Tensor) -> Tensor:
    """Apply a block-diagonal matrix to modes (batch, *kept, 2, embed), in the type of it.

    Processors take narrow blocks in the type of the modes: conversions take longer than they save.
    """
    blocks, inner, outer = weight.shape
    if modes.device.type == "cpu" and inner < _LEAST_WIDTH:
        weight = weight.to(modes.dtype)
    flat = modes.reshape(-1, modes.shape[-1]).to(weight.dtype)
    result = flat.new_empty(len(flat), blocks * outer)
    columns, targets = _columns(flat, inner), _columns(result, outer)
    if modes.device.type == "cpu":
        for column, matrix, target in zip(columns, weight, targets, strict=True):
            torch.mm(column, matrix, out=target)
    else:
        torch.bmm(columns, weight, out=targets)
    return result.view(*modes.shape[:-1], blocks * outer).to(modes.dtype)


def _products(modes: Tensor, change: Tensor, weight: Tensor) -> Tensor:
    """Gradient by the weights (block, in_dim, out_dim) of ``_by_blocks``."""
    inner, outer = weight.shape[1:]
    flat, by_output = (x.reshape(-1, x.shape[-1]).to(weight.dtype) for x in (modes, change))
    return torch.bmm(_columns(flat, inner).mT, _columns(by_output, outer))


def _columns(flat: Tensor, width: int) -> Tensor:
    """(row, block * width) as (block, row, width)."""
    return flat.view(len(flat), -1, width).transpose(0, 1)


def _chunks(tokens: Tensor, weights: Filter, is_whole: bool = False) -> list[list[_Part]]:
    """Blocks and channels worked on together; those of scalars with those of vectors, in pairs.

    A chunk fits the cache of a processor; where processes exchange modes, all go at once, as few
    large messages are faster than many small ones.
    """
    num_parts = len(weights.kernels)
    blocks, width = len(weights.weight1) // num_parts, weights.weight1.shape[1]
    together = blocks
    if tokens.device.type == "cpu" and not is_whole:
        limit = max(1, _CACHE_BYTES * blocks // (4 * tokens.numel()))
        together = max(n for n in range(1, blocks + 1) if blocks % n == 0 and n <= limit)
    starts = [[part * blocks + start for part in range(num_parts)]
              for start in range(0, blocks, together)]  # fmt: skip
    return [
        [_Part(slice(s, s + together), slice(s * width, (s + together) * width)) for s in chunk]
        for chunk in starts
    ]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _transform(shape: Sequence[int], kernel: Tensor, spectrum: str) -> LocalTransform:
    """The transform of a grid whose ``shape`` includes the channels."""
    *grid, channels = shape
    return transform_for(spectrum, tuple(grid), channels, _wide(kernel.dtype), kernel.device)
