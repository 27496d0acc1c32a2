"""Each axis of a matrix transform by itself."""

import numpy as np
import pytest
import torch
from torch import Tensor

from fourcastnet_afno.models.fourier.axes import (
    Axis,
    CosineAxis,
    HalfAxis,
    PoleAxis,
    WaveAxis,
    multiplicity,
)

EVERYTHING = slice(0, 4)
AXES = {
    "wave": lambda: WaveAxis(np.array([0, 1, 2, -2, -1]), 7, 7, 2.0),
    "padded wave": lambda: WaveAxis(np.array([0, 1, 2, -2, -1]), 7, 14, 2.0),
    "reflected": lambda: CosineAxis(5, 7, 2.0),
    "mirrored": lambda: CosineAxis(5, 7, 2.0, end_points=True),
    "pole": lambda: PoleAxis(5, 7, 2.0, num_even=2, first_vector=3),
}


def load(axis: Axis | HalfAxis) -> None:
    for pair in axis.pairs:
        pair.load(torch.device("cpu"), torch.float64)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", AXES)
def test_adjoints_have_the_same_inner_products(name: str) -> None:
    axis = AXES[name]()
    load(axis)
    fields, modes = random(2, 7, 3, 2, 4), random(2, 5, 3, 2, 4) + 1
    for forward, back in ((axis.to_modes, axis.to_grid), (axis.to_grid, axis.to_modes)):
        x, y = (fields, modes) if forward == axis.to_modes else (modes, fields)
        left = (forward(x, EVERYTHING, False) * y).sum()
        torch.testing.assert_close(left, (x * back(y, EVERYTHING, True)).sum())


@pytest.mark.parametrize("name", AXES)
def test_modes_survive_a_round_trip(name: str) -> None:
    axis = AXES[name]()
    load(axis)
    modes = random(2, 5, 3, 2, 4)
    if name == "pole":  # sines have no wavenumber 0
        modes[:, 0] = 0
    if name == "padded wave":
        return  # half of the padded field is cut off
    again = axis.to_modes(axis.to_grid(modes, EVERYTHING, False), EVERYTHING, False)
    torch.testing.assert_close(again, modes)


def test_exponential_axes_are_fourier_transforms() -> None:
    fields = random(2, 7, 4)
    half = HalfAxis(np.arange(3), 7, 7, 2.0)
    load(half)
    expected = 2 * torch.fft.rfft(fields, dim=1, norm="forward")[:, :3]
    torch.testing.assert_close(
        half.to_modes(fields, False), torch.view_as_real(expected).movedim(-1, -2)
    )
    even_first = [*range(0, 49, 2), *range(1, 49, 2)]
    half, fields = HalfAxis(np.array(even_first), 96, 96, 2.0), random(2, 96, 4)  # in two halves
    load(half)
    expected = 2 * torch.fft.rfft(fields, dim=1, norm="forward")[:, even_first]
    torch.testing.assert_close(
        half.to_modes(fields, False), torch.view_as_real(expected).movedim(-1, -2)
    )
    wave = AXES["wave"]()
    load(wave)
    values = random(2, 7, 3, 2, 4)
    expected = 2 * torch.fft.fft(torch.complex(*values.unbind(-2)), dim=1, norm="forward")
    modes = torch.complex(*wave.to_modes(values, EVERYTHING, False).unbind(-2))
    torch.testing.assert_close(modes, expected[:, [0, 1, 2, 6, 5]])


@pytest.mark.parametrize("points", [7, 96])
def test_half_spectra_come_back_and_have_adjoints(points: int) -> None:
    wavenumbers = np.array([0, 2, 1, 3])
    half, modes = HalfAxis(wavenumbers, points, points, 2.0), random(2, 3, 4, 2, 5)
    load(half)
    modes[..., 0, 1, :] = 0  # the mean is real
    fields, skip = torch.empty(2, 3, points, 5, dtype=torch.float64), random(2, 3, points, 5)
    half.add_to_grid(modes, None, fields, adjoint=False)
    torch.testing.assert_close(half.to_modes(fields, adjoint=False), modes)
    product = (half.to_modes(skip, adjoint=True) * modes).sum()
    torch.testing.assert_close(product, (skip * fields).sum())
    both = torch.empty_like(fields)
    half.add_to_grid(modes, skip, both, adjoint=True)
    product = ((both - skip) * skip).sum()
    torch.testing.assert_close(product, (half.to_modes(skip, adjoint=False) * modes).sum())


def test_multiplicity_by_hand() -> None:
    assert multiplicity(np.arange(4), 6).tolist() == [1, 2, 2, 1]
    assert multiplicity(np.arange(4), 7).tolist() == [1, 2, 2, 2]
