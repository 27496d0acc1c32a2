r"""Factors of Fourier modes by wavenumber and channel, from tokens to tokens, as one operator.

A convolution with a kernel w that reaches R points of the reference grid to each side multiplies
the mode of wavenumber k, along an axis of n points, by

    F(k) = sum_{|a| <= R} w_a exp(-2 pi i k a / n),

a smooth function of the wavenumber, the smoother the narrower the window. A window as wide as the
axis has a factor of its own for each wavenumber; the number of weights does not grow with the grid
beyond the window. On grids of other resolution the same kernel has the same factors.

Along axes that are mirrored at their ends, modes are cosines and kernels are even,
F(k) = w_0 + sum_a w_a cos(pi k a / n). From pole to pole a kernel has two parts: the even one keeps
the parity of a mode, cosine or sine of colatitude; the odd one, like a derivative towards the
north, turns cosines into sines and back, which are scalars and components of vectors, see
``transforms``. It takes channel i of the scalars to channel i of the vectors, and back.

References:
    Rao et al., 2021, Global Filter Networks for Image Classification,
    https://arxiv.org/abs/2107.00645, equation 5 (factors in a table).
    Romero et al., 2022, CKConv: Continuous Kernel Convolution For Sequential Data,
    https://arxiv.org/abs/2102.02611 (kernels of any resolution).
"""

import itertools
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from fourcastnet_afno.models.fourier.sharded import ShardedTransform
from fourcastnet_afno.models.fourier.transforms import (
    COSINE_BOUNDARIES,
    LocalTransform,
    MatrixTransform,
    ModeAxis,
    ModeSelection,
    Transform,
    matrix_operations,
    plan_for,
    transform_for,
)
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows, ShardedRows

_CACHE_BYTES = 8 * 2**20
_Basis = tuple[Tensor, Tensor | None]


def filter_modes(
    tokens: Tensor, kernels: Sequence[Tensor], spectrum: str, rows: Rows = ALL_ROWS
) -> Tensor:
    """The inverse transform of the factors times the modes of tokens, in float32 or wider inside.

    Args:
        tokens: Shape (batch, *grid, embed).
        kernels: Weights (*window, embed) of the even and, if there is one, of the odd part. A
            window has 2 R + 1 offsets along an axis of exponentials; 0..R along others, 1..R along
            that from pole to pole in the odd part.
        spectrum: ``ModeSelection.to_json``: which modes.
        rows: The rows of the grid that the tokens are.
    """
    if isinstance(rows, ShardedRows):
        shape = (sum(rows.partition.token_rows), *tokens.shape[2:])
        transform = ShardedTransform(_transform(shape, kernels[0], spectrum), rows)
        return _ShardedFilter.apply(tokens.contiguous(), transform, *kernels)
    if torch.compiler.is_exporting():  # matrix products, for users who lack this operator
        return _filter(tokens.contiguous(), list(kernels), spectrum, False)[0]
    keep = torch.is_grad_enabled() and any(x.requires_grad for x in (tokens, *kernels))
    return _forward(tokens.contiguous(), list(kernels), spectrum, keep)[0]


def kernel_sizes(spectrum: ModeSelection, window: int, num_axes: int) -> list[tuple[int, ...]]:
    """Offsets by axis of the kernels that reach ``window`` points, the even and the odd part's.

    A kernel is no wider than the reference grid. The odd part is left out without vectors.
    """
    has_pole, sizes, meridional = spectrum.pole != "none", [], num_axes - 2
    for axis, boundary in enumerate(spectrum.boundaries(num_axes)):
        is_wave = boundary not in COSINE_BOUNDARIES and not (has_pole and axis == meridional)
        reach = window
        if spectrum.reference_grid is not None:
            points = spectrum.reference_grid[axis]
            is_circle = is_wave and boundary == "periodic"
            reach = min(window, (points - 1) // 2 if is_circle else points - 1)
        sizes.append(2 * reach + 1 if is_wave else reach + 1)
    kernels = [tuple(sizes)]
    if has_pole and spectrum.vector_channels:
        sizes[meridional] -= 1
        kernels.append(tuple(sizes))
    return kernels


def _filter(tokens: Tensor, kernels: list[Tensor], spectrum: str, keep: bool) -> list[Tensor]:
    """The result and, if ``keep``, the modes of the tokens."""
    return _apply(_transform(tokens.shape[1:], kernels[0], spectrum), tokens, kernels, keep)


def _apply(
    transform: Transform,
    tokens: Tensor,
    kernels: Sequence[Tensor],
    keep: bool,
    is_whole: bool = False,
) -> list[Tensor]:
    output, saved = torch.zeros_like(tokens), []
    for chunk in _chunks(tokens, len(kernels), is_whole):
        modes = [transform.to_modes(tokens, channels) for channels in chunk]
        for part, channels in enumerate(chunk):
            change = torch.zeros_like(modes[part])
            # The odd part takes the other one of two: scalars to vectors, vectors to scalars.
            for kernel, is_odd in zip(kernels, (False, True), strict=False):
                factor = factors(kernel[..., channels], transform.mode_axes, is_odd)
                _add_product(factor, modes[part - is_odd], change)
            transform.add_to_grid(change, output, output, channels)
        saved += modes if keep else []
    return [output, *saved]


def _differentiate(
    transform: Transform,
    gradient: Tensor,
    kernels: Sequence[Tensor],
    saved: Sequence[Tensor],
    is_whole: bool = False,
) -> list[Tensor]:
    """Gradients by tokens and by each kernel."""
    by_tokens, by_kernels = torch.zeros_like(gradient), [torch.empty_like(k) for k in kernels]
    axes, waiting = transform.mode_axes, list(saved)
    for chunk in _chunks(gradient, len(kernels), is_whole):
        modes, waiting = waiting[: len(chunk)], waiting[len(chunk) :]
        changes = [transform.to_modes(gradient, channels, adjoint=True) for channels in chunk]
        by_modes = [torch.zeros_like(change) for change in changes]
        for part, channels in enumerate(chunk):
            for by_kernel, kernel, is_odd in zip(by_kernels, kernels, (False, True), strict=False):
                by_factors = _products(modes[part - is_odd], changes[part])
                of_chunk = _kernel_gradient(by_factors, kernel, axes, is_odd)
                by_kernel[..., channels] = of_chunk.to(kernel.dtype)
                real, imaginary = factors(kernel[..., channels], axes, is_odd)
                _add_product((real, -imaginary), changes[part], by_modes[part - is_odd])
        for channels, values in zip(chunk, by_modes, strict=True):
            transform.add_to_grid(values, by_tokens, by_tokens, channels, adjoint=True)
    return [by_tokens, *by_kernels]


_forward = torch.library.custom_op("fourcastnet_afno::filter_modes", mutates_args=())(_filter)


@torch.library.custom_op("fourcastnet_afno::filter_modes_backward", mutates_args=())
def _backward(
    gradient: Tensor, kernels: list[Tensor], saved: list[Tensor], spectrum: str
) -> list[Tensor]:
    """Gradients by tokens and by each kernel."""
    transform = _transform(gradient.shape[1:], kernels[0], spectrum)
    return _differentiate(transform, gradient, kernels, saved)


@_forward.register_fake
def _(tokens, kernels, spectrum, keep):  # noqa: ANN001, ANN202
    outputs = [torch.empty_like(tokens)]
    if keep:
        *shape, channels = (int(size) for size in tokens.shape[1:])
        plan = plan_for(spectrum, tuple(shape), channels, tokens.device.type)
        for part in itertools.chain(*_chunks(tokens, len(kernels))):
            size = len(tokens), *plan.kept, 2, part.stop - part.start
            outputs.append(tokens.new_empty(size, dtype=_wide(kernels[0].dtype)))
    return outputs


@_backward.register_fake
def _(gradient, kernels, saved, spectrum):  # noqa: ANN001, ANN202
    return [torch.empty_like(gradient), *(torch.empty_like(kernel) for kernel in kernels)]


@register_flop_formula(torch.ops.fourcastnet_afno.filter_modes, get_raw=True)
def _count_forward(tokens, kernels, spectrum, keep, out_val=None, **_) -> int:  # noqa: ANN001, ANN003
    return _operations(tokens, spectrum)


@register_flop_formula(torch.ops.fourcastnet_afno.filter_modes_backward, get_raw=True)
def _count_backward(gradient, kernels, saved, spectrum, out_val=None, **_) -> int:  # noqa: ANN001, ANN003
    return _operations(gradient, spectrum)


def _operations(tokens: Tensor, spectrum: str) -> int:
    """Floating-point operations of the transforms; products of factors and FFTs do not count."""
    shape, channels = tuple(tokens.shape[1:-1]), tokens.shape[-1]
    plan = plan_for(spectrum, shape, channels, tokens.device.type)
    if not isinstance(plan, MatrixTransform):
        return 0
    return round(2 * matrix_operations(plan.kept, shape) * tokens.numel())


def _setup_context(ctx, inputs, output) -> None:  # noqa: ANN001
    _, kernels, spectrum, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*kernels, *output[1:])
    ctx.spectrum, ctx.num_kernels = spectrum, len(kernels)


def _differentiate_operator(ctx, gradients):  # noqa: ANN001, ANN202
    count = ctx.num_kernels
    if gradients[0] is None:
        return None, [None] * count, None, None
    tensors = list(ctx.saved_tensors)  # once: with checkpointing they are computed when unpacked
    gradient = gradients[0].contiguous()
    result = _backward(gradient, tensors[:count], tensors[count:], ctx.spectrum)
    return result[0], result[1:], None, None


_forward.register_autograd(_differentiate_operator, setup_context=_setup_context)


class _ShardedFilter(torch.autograd.Function):
    """The same for some rows, by a transform that an operator of torch could not take."""

    @staticmethod
    def forward(ctx, tokens, transform, *kernels):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        output, *saved = _apply(transform, tokens, kernels, keep=True, is_whole=True)
        ctx.transform, ctx.num_kernels = transform, len(kernels)
        ctx.save_for_backward(*kernels, *saved)
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        tensors, count, gradient = ctx.saved_tensors, ctx.num_kernels, gradients[0].contiguous()
        kernels, saved = tensors[:count], tensors[count:]
        by_tokens, *by_kernels = _differentiate(ctx.transform, gradient, kernels, saved, True)
        return by_tokens, None, *by_kernels


def factors(kernel: Tensor, axes: Sequence[ModeAxis], is_odd: bool) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the factors of modes, each of shape (*kept, embed)."""
    places = [axis.grid_axis for axis in axes]
    values = kernel.permute(*places, kernel.ndim - 1).to(_wide(kernel.dtype))
    bases = [_bases(axis, kernel, is_odd, values.device, values.dtype) for axis in axes]
    return _transformed(values, None, bases, sign=-1)


def _kernel_gradient(
    by_factors: tuple[Tensor, Tensor], kernel: Tensor, axes: Sequence[ModeAxis], is_odd: bool
) -> Tensor:
    """The adjoint of ``factors``."""
    device, dtype = by_factors[0].device, by_factors[0].dtype
    bases = [_bases(axis, kernel, is_odd, device, dtype) for axis in axes]
    transposed = [(cosine.mT, None if sine is None else sine.mT) for cosine, sine in bases]
    real, _ = _transformed(*by_factors, transposed, sign=1)
    places = [axis.grid_axis for axis in axes]
    return real.permute(*np.argsort(places).tolist(), real.ndim - 1)


def _transformed(
    real: Tensor, imaginary: Tensor | None, bases: Sequence[_Basis], sign: int
) -> tuple[Tensor, Tensor]:
    """Apply cos + sign i sin along each axis before the last one to a complex array."""
    for cosine, sine in bases:
        parts = [_contract(cosine, part) for part in (real, imaginary) if part is not None]
        if sine is not None:
            turned = _contract(sine, real).mul_(sign)
            if imaginary is None:
                parts.append(turned)
            else:
                parts[0] -= _contract(sine, imaginary).mul_(sign)
                parts[1] += turned
        real, imaginary = parts[0], parts[1] if len(parts) > 1 else None
    return real, torch.zeros_like(real) if imaginary is None else imaginary


def _bases(
    axis: ModeAxis, kernel: Tensor, is_odd: bool, device: torch.device, dtype: torch.dtype
) -> _Basis:
    """Cosines and sines (mode, offset) of the wavenumbers at the offsets of a kernel."""
    part = "even"
    if is_odd and axis.kind == "pole":
        part = "odd"
    elif is_odd and axis.grid_axis == kernel.ndim - 2:
        part = "alternating"
    wavenumbers, size = tuple(axis.wavenumbers.tolist()), kernel.shape[axis.grid_axis]
    return _waves(axis.kind == "wave", part, wavenumbers, axis.period, size, device, dtype)


@lru_cache(maxsize=256)
def _waves(
    is_wave: bool, part: str, wavenumbers: tuple[int, ...], period: int, size: int,
    device: torch.device, dtype: torch.dtype,
) -> _Basis:  # fmt: skip
    offsets = np.arange(size) + (-(size // 2) if is_wave else part == "odd")
    angle = 2 * np.pi * (np.outer(wavenumbers, offsets) % period) / period
    cosine, sine = np.cos(angle), np.sin(angle)
    if part == "odd":  # cosines to sines
        cosine = sine
    elif part == "alternating":  # of odd zonal wavenumbers, sines to cosines: the other sign
        sign = (-1.0) ** np.array(wavenumbers)[:, None]
        cosine, sine = sign * cosine, sign * sine
    waves = [torch.from_numpy(wave).to(device, dtype) for wave in (cosine, sine)]
    return waves[0], waves[1] if is_wave else None


def _contract(basis: Tensor, values: Tensor) -> Tensor:
    """Apply (new, old) to the first axis of (old, *rest, embed), and put it before the last."""
    product = basis @ values.reshape(len(values), -1)
    return product.view(len(basis), *values.shape[1:]).movedim(0, -2)


def _add_product(factor: tuple[Tensor, Tensor], modes: Tensor, out: Tensor) -> None:
    """Add the complex product with modes (batch, *kept, 2, embed) to ``out``."""
    (real, imaginary), (x, y) = factor, modes.unbind(-2)
    out.addcmul_(modes, real.unsqueeze(-2))
    out[..., 0, :].addcmul_(imaginary, y, value=-1)
    out[..., 1, :].addcmul_(imaginary, x)


def _products(modes: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient by factors: of change times the conjugate of the modes, over the batch."""
    (x, y), (u, v) = modes.unbind(-2), change.unbind(-2)
    return (modes * change).sum((0, -2)), (x * v).sub_(y * u).sum(0)


def _chunks(tokens: Tensor, num_kernels: int, is_whole: bool = False) -> list[list[slice]]:
    """Channels that are worked on together; those of scalars with those of vectors, in pairs.

    A chunk fits the cache of a processor; where processes exchange modes, all go at once, as few
    large messages are faster than many small ones.
    """
    channels = tokens.shape[-1] // num_kernels
    count = 1
    if tokens.device.type == "cpu" and not is_whole:
        count = min(channels, -(-4 * tokens.numel() // _CACHE_BYTES))
    edges = [channels * n // count for n in range(count + 1)]
    starts = [part * channels for part in range(num_kernels)]
    return [[slice(start + a, start + b) for start in starts] for a, b in itertools.pairwise(edges)]


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _transform(shape: Sequence[int], kernel: Tensor, spectrum: str) -> LocalTransform:
    """The transform of a grid whose ``shape`` includes the channels."""
    *grid, channels = shape
    return transform_for(spectrum, tuple(grid), channels, _wide(kernel.dtype), kernel.device)
