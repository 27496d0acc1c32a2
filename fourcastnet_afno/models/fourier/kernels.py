r"""Kernels of a window as factors of Fourier modes by wavenumber and channel.

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

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fourcastnet_afno.models.fourier.modes import largest_wavenumber
from fourcastnet_afno.models.fourier.transforms import COSINE_BOUNDARIES, ModeAxis, ModeSelection

_Basis = tuple[Tensor, Tensor | None]


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


def kernel_bases(
    spectrum: ModeSelection, window: int, num_axes: int
) -> list[list[Float[np.ndarray, "_ _"]]]:
    """Kernels of factors at nodes, by axis; of the even and the odd part.

    Where some wavenumbers alone are mixed, weights at their factors are fewer than those at points
    of a kernel that tells them apart. The nodes are the wavenumbers of a circle of
    ``2 * window + 1`` points, but no longer than the period of the reference grid, up to the
    largest that is mixed; between them the factors are those of the kernel. Where kernels have no
    parity, two opposite nodes have the real and the imaginary part of their factor, as sum and
    difference. The odd part is left out without vectors.
    """
    axes, has_pole = [], spectrum.pole != "none"
    for axis, boundary in enumerate(spectrum.boundaries(num_axes)):
        is_pole = has_pole and axis == num_axes - 2
        is_wave = boundary not in COSINE_BOUNDARIES and not is_pole
        count, largest = 2 * window + 1, spectrum.fraction * (2 * window + 1) / 2
        if spectrum.reference_grid is not None:
            period = spectrum.reference_grid[axis] * (1 if boundary == "periodic" else 2)
            if is_pole:
                period = 2 * spectrum.reference_grid[axis]
            elif boundary == "mirrored":
                period = max(period - 2, 2)
            count = min(count, period)
            largest = largest_wavenumber(period, spectrum.fraction) * count / period
        axes.append((is_wave, count, min(count // 2, math.ceil(round(largest, 9)))))
    even = [_kernel_basis("wave" if is_wave else "even", *sizes) for is_wave, *sizes in axes]
    if not (has_pole and spectrum.vector_channels):
        return [even]
    odd = list(even)
    odd[num_axes - 2] = _kernel_basis("odd", *axes[num_axes - 2][1:])
    return [even, odd]


def _kernel_basis(part: str, count: int, largest: int) -> Float[np.ndarray, "_ _"]:
    """The inverse transform of factors at the wavenumbers up to ``largest`` of a circle."""
    if part == "wave":
        offsets = np.arange(-(count // 2), count // 2 + 1)
        nodes = np.arange(max(-largest, -((count - 1) // 2)), largest + 1)
        angle = 2 * np.pi * np.outer(offsets, nodes) / count
        shares = np.where(2 * abs(offsets) == count, 0.5, 1)  # of offsets that are the same point
        return shares[:, None] * (np.cos(angle) + np.sin(angle)) / count
    if part == "odd":
        last = (count - 1) // 2
        offsets, nodes = np.arange(1, last + 1), np.arange(1, min(largest, last) + 1)
        return 4 * np.sin(2 * np.pi * np.outer(offsets, nodes) / count) / count
    offsets, nodes = np.arange(count // 2 + 1), np.arange(largest + 1)
    # Waves of both signs, but for the mean and the one that changes sign from point to point.
    signs = [np.where(2 * k % count == 0, 1, 2) for k in (offsets, nodes)]
    return np.outer(*signs) * np.cos(2 * np.pi * np.outer(offsets, nodes) / count) / count


def factors(kernel: Tensor, axes: Sequence[ModeAxis], is_odd: bool) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the factors of modes, each of shape (*kept, embed)."""
    places = [axis.grid_axis for axis in axes]
    dtype = torch.promote_types(kernel.dtype, torch.float32)
    real, imaginary = kernel.permute(*places, kernel.ndim - 1).to(dtype), None
    for axis in axes:
        cosine, sine = _bases(axis, kernel, is_odd, real.device, dtype)
        if sine is None:
            real = _contract(cosine, real)
            imaginary = None if imaginary is None else _contract(cosine, imaginary)
        elif imaginary is None:
            even, odd = _fold(real)
            real, imaginary = _contract(cosine, even), -_contract(sine, odd)
        else:
            (even, odd), (of_even, of_odd) = _fold(real), _fold(imaginary)
            real = _contract(cosine, even).add_(_contract(sine, of_odd))
            imaginary = _contract(cosine, of_even).sub_(_contract(sine, odd))
        real = real.movedim(0, -2)
        imaginary = None if imaginary is None else imaginary.movedim(0, -2)
    return real, torch.zeros_like(real) if imaginary is None else imaginary


def kernel_gradient(
    by_factors: tuple[Tensor, Tensor], kernel: Tensor, axes: Sequence[ModeAxis], is_odd: bool
) -> Tensor:
    """The adjoint of ``factors``."""
    sizes = [len(axis.wavenumbers) for axis in axes]
    real, imaginary = (values.reshape(*sizes, -1) for values in by_factors)
    result = real
    waves = [place for place, axis in enumerate(axes) if axis.kind == "wave"]
    for place, axis in enumerate(axes):
        cosine, sine = _bases(axis, kernel, is_odd, real.device, real.dtype)
        result = _contract(cosine.mT, real)
        if sine is not None:
            result = _unfold(result, -_contract(sine.mT, imaginary))
        result = result.movedim(0, -2)
        if place < max(waves, default=0):  # the imaginary part of a kernel is zero
            of_imaginary = _contract(cosine.mT, imaginary)
            if sine is not None:
                of_imaginary = _unfold(of_imaginary, _contract(sine.mT, real))
            imaginary = of_imaginary.movedim(0, -2)
        real = result
    places = [axis.grid_axis for axis in axes]
    return result.permute(*np.argsort(places).tolist(), result.ndim - 1)


def _bases(
    axis: ModeAxis, kernel: Tensor, is_odd: bool, device: torch.device, dtype: torch.dtype
) -> _Basis:
    """Cosines and sines (mode, offset) of the wavenumbers at the offsets 0..R of a kernel."""
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
    offsets = np.arange(size // 2 + 1 if is_wave else size) + (part == "odd")
    angle = 2 * np.pi * (np.outer(wavenumbers, offsets) % period) / period
    cosine, sine = np.cos(angle), np.sin(angle)
    if is_wave:
        cosine[:, 0] /= 2  # ``_fold`` counts it twice
    if part == "odd":  # cosines to sines
        cosine = sine
    elif part == "alternating":  # of odd zonal wavenumbers, sines to cosines: the other sign
        sign = (-1.0) ** np.array(wavenumbers)[:, None]
        cosine, sine = sign * cosine, sign * sine
    waves = [torch.from_numpy(wave).to(device, dtype) for wave in (cosine, sine)]
    return waves[0], waves[1] if is_wave else None


def _fold(values: Tensor) -> tuple[Tensor, Tensor]:
    """w_a + w_-a and w_a - w_-a for a = 0..R, of values w_-R..w_R along the first axis."""
    reach = len(values) // 2
    after, before = values[reach:], values[: reach + 1].flip(0)
    return after + before, after - before


def _unfold(even: Tensor, odd: Tensor) -> Tensor:
    """The adjoint of ``_fold``."""
    before = (even - odd).flip(0)
    result = torch.cat([before, (even + odd)[1:]])
    result[len(before) - 1] += even[0]
    return result


def _contract(basis: Tensor, values: Tensor) -> Tensor:
    """Apply (new, old) to the first axis of (old, *rest, embed)."""
    product = basis @ values.reshape(len(values), -1)
    return product.view(len(basis), *values.shape[1:])
