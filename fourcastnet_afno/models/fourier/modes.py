"""Which Fourier modes of a token grid are mixed, and the transforms restricted to them."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor


def largest_wavenumber(size: int, fraction: float) -> int:
    """The largest k with ``k <= fraction * size / 2``."""
    # Rounding keeps 0.1 * 20 / 2 = 1.0000000000000002 from depending on the platform.
    return math.floor(round(fraction * size / 2, 9))


def kept_modes(
    shape: Sequence[int], fraction: float, reference: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Wavenumbers that hard thresholding keeps, as indices into an unshifted ``rfftn``.

    On every axis the wavenumbers ``|k| <= fraction * n / 2`` stay, where n is the reference's
    number of points. A fraction of 1 keeps every mode of the reference; the mean is always kept.

    Args:
        shape: Points of the token grid by axis; the last axis has half a spectrum.
        fraction: Share of the wavenumbers to keep, in 0..1.
        reference: Points by axis of the grid that the fraction is of; by default the same grid.
    """
    last = len(shape) - 1
    return [
        axis_modes(size, fraction, points, half=axis == last)
        for axis, (size, points) in enumerate(zip(shape, reference or shape, strict=True))
    ]


def axis_modes(
    size: int, fraction: float, reference: int, *, half: bool
) -> Int[np.ndarray, " kept"]:
    """``kept_modes`` of one axis, with half a spectrum or a full one."""
    wavenumbers = np.arange(size // 2 + 1 if half else size)
    folded = np.minimum(wavenumbers, size - wavenumbers)
    return np.flatnonzero(folded <= largest_wavenumber(reference, fraction))


def fourcastnet_modes(shape: Sequence[int], fraction: float) -> list[np.ndarray]:
    """The modes that FourCastNet v1 mixes, for its published weights alone, see ``kept_modes``.

    With ``total = H // 2 + 1`` and ``kept = int(fraction * total)``, these are the rows
    ``total - kept : total + kept`` and the columns ``: kept`` of the unshifted spectrum. At a
    fraction of 1 they leave out the zonal wavenumbers above H / 2, and below 1 the lowest
    meridional ones.
    """
    height, width = shape
    total = height // 2 + 1
    kept = int(total * fraction)
    rows = np.arange(total - kept, min(total + kept, height))
    return [rows, np.arange(min(kept, width // 2 + 1))]


def signed_wavenumbers(indices: Int[np.ndarray, " kept"], size: int) -> Int[np.ndarray, " kept"]:
    """Wavenumbers of indices into an unshifted spectrum of ``size`` points, from -size/2 up."""
    return np.where(indices <= size // 2, indices, indices - size)


def analyze(
    tokens: Float[Tensor, "batch *grid embed"], kept: Sequence[Tensor]
) -> Complex[Tensor, "batch *kept embed"]:
    """The kept Fourier coefficients: the mean of tokens times wave."""
    axes = tuple(range(1, tokens.ndim - 1))
    return select_modes(torch.fft.rfftn(tokens, dim=axes, norm="forward"), kept)


def synthesize(
    modes: Complex[Tensor, "batch *kept embed"], kept: Sequence[Tensor], shape: Sequence[int]
) -> Float[Tensor, "batch *grid embed"]:
    """Inverse of ``analyze`` for a grid of ``shape``, with zeros in the modes that are not kept."""
    axes = tuple(range(1, modes.ndim - 1))
    spectrum = (modes.shape[0], *shape[:-1], shape[-1] // 2 + 1, modes.shape[-1])
    full = expand_modes(modes, kept, spectrum)
    return torch.fft.irfftn(full, s=tuple(shape), dim=axes, norm="forward")


def select_modes(spectrum: Tensor, kept: Sequence[Tensor]) -> Tensor:
    """The kept modes of a spectrum (batch, *modes, embed), axis by axis."""
    for axis, indices in enumerate(kept, start=1):
        if len(indices) < spectrum.shape[axis]:
            spectrum = spectrum.index_select(axis, indices)
    return spectrum


def expand_modes(modes: Tensor, kept: Sequence[Tensor], shape: Sequence[int]) -> Tensor:
    """Inverse of ``select_modes``, with zeros in the other modes."""
    for axis, indices in enumerate(kept, start=1):
        if len(indices) < shape[axis]:
            full = (*modes.shape[:axis], shape[axis], *modes.shape[axis + 1 :])
            modes = modes.new_zeros(full).index_copy_(axis, indices, modes)
    return modes
