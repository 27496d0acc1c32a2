"""Kernels of a window: their sizes, and their factors by the sum that defines them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from fourcastnet_afno.models.fourier.kernels import (
    factors,
    kernel_bases,
    kernel_gradient,
    kernel_sizes,
)
from fourcastnet_afno.models.fourier.transforms import ModeSelection, transform_for
from fourcastnet_afno.models.mixers import WavenumberAFNO

GLOBE = ModeSelection(pole="double_fourier_sphere", vector_channels=3)


def test_kernels_are_no_wider_than_the_grid_and_need_pairs_of_channels() -> None:
    grid = {"reference_grid": (4, 8), "vector_channels": 3}
    assert kernel_sizes(ModeSelection(pole="double_fourier_sphere", **grid), 100, 2) == [
        (4, 7),
        (3, 7),
    ]
    padded = ModeSelection(reference_grid=(40, 80), boundary="zero_padded")
    assert kernel_sizes(padded, 1, 2) == [(3, 3)]
    for blocks, vectors in ((2, 2), (3, 3)):
        with pytest.raises(ValueError, match=f"even num_blocks, got {vectors}, 6 and {blocks}"):
            WavenumberAFNO(6, blocks, pole="double_fourier_sphere", vector_channels=vectors)


def test_factors_on_circles_are_the_sum_over_the_window() -> None:
    spectrum, kernel = ModeSelection(), torch.randn(3, 5, 2, dtype=torch.float64)
    axes = transform_for(
        spectrum.to_json(), (6, 8), 2, torch.float64, torch.device("cpu")
    ).mode_axes
    found = torch.complex(*factors(kernel, axes, False))
    for row, k in enumerate(axes[0].wavenumbers):
        for column, m in enumerate(axes[1].wavenumbers):
            expected = sum(
                kernel[a, b] * complex(math.cos(angle), -math.sin(angle))
                for a in range(3)
                for b in range(5)
                for angle in [2 * math.pi * (k * (a - 1) / 6 + m * (b - 2) / 8)]
            )
            torch.testing.assert_close(found[row, column], expected)


@pytest.mark.parametrize("is_odd", [False, True])
@pytest.mark.parametrize(
    "spectrum", [ModeSelection(), ModeSelection(boundary=("periodic", "mirrored")), GLOBE], ids=str
)
def test_the_gradient_is_the_adjoint_of_the_factors(spectrum: ModeSelection, is_odd: bool) -> None:
    sizes = kernel_sizes(spectrum, 2, 2)
    kernel = torch.randn(*sizes[is_odd and len(sizes) > 1], 6, dtype=torch.float64)
    is_odd = is_odd and len(sizes) > 1
    text, cpu = spectrum.to_json(), torch.device("cpu")
    axes = transform_for(text, (6, 8), 6, torch.float64, cpu).mode_axes
    forward = factors(kernel, axes, is_odd)
    by_factors = (torch.randn_like(forward[0]), torch.randn_like(forward[1]))
    left = sum((x * y).sum() for x, y in zip(forward, by_factors, strict=True))
    adjoint = kernel_gradient(by_factors, kernel, axes, is_odd)
    torch.testing.assert_close(left, (kernel * adjoint).sum())


@pytest.mark.parametrize("window", [0, 1, 3, 4])
def test_factors_at_the_wavenumbers_of_a_circle_are_weights(window: int) -> None:
    """Of a circle of the window, or of the grid of 8 points, whose wavenumbers are all nodes."""
    count = min(2 * window + 1, 8)
    spectrum = ModeSelection(reference_grid=(8, 4), boundary=("periodic", "reflected"))
    ((wave, cosine),) = kernel_bases(spectrum, window, 2)
    offsets, nodes = np.arange(len(wave)) - len(wave) // 2, np.arange(count) - (count - 1) // 2
    factors = np.exp(-2j * np.pi * np.outer(nodes, offsets) / count) @ wave
    weights = np.random.default_rng(0).standard_normal(count)
    place = {k: i for i, k in enumerate(nodes)}
    opposite = weights[[place.get(-k, place[k]) for k in nodes]]
    expected = (weights + opposite) / 2 - 0.5j * (weights - opposite)
    np.testing.assert_allclose(factors @ weights, expected, atol=1e-12)
    nodes = np.arange(len(cosine))
    factors = np.cos(2 * np.pi * np.outer(nodes, nodes) / count) @ cosine
    np.testing.assert_allclose(factors, np.eye(len(nodes)), atol=1e-12)


def test_factors_of_sines_at_the_wavenumbers_of_a_circle_are_weights() -> None:
    spectrum = ModeSelection(reference_grid=(4, 8), pole="double_fourier_sphere", vector_channels=3)
    for window, count in ((2, 5), (9, 8)):
        nodes = np.arange(1, (count - 1) // 2 + 1)
        sines = np.sin(2 * np.pi * np.outer(nodes, nodes) / count)
        basis = kernel_bases(spectrum, window, 2)[1][0]
        np.testing.assert_allclose(sines @ basis, np.eye(len(nodes)), atol=1e-12)


def test_only_wavenumbers_that_are_mixed_have_weights() -> None:
    options = {"reference_grid": (16, 32), "hard_thresholding_fraction": 0.5}
    assert WavenumberAFNO(6, 2, **options).kernels[0].shape == (9, 17, 6)
    assert WavenumberAFNO(6, 2, window=4, **options).kernels[0].shape == (7, 7, 6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pole": "double_fourier_sphere", "vector_channels": 3},
        {"boundary": ("mirrored", "mirrored")},
    ],
    ids=str,
)
def test_gradients_of_weights_at_wavenumbers_are_right(options: dict) -> None:
    options = options | {"reference_grid": (5, 6), "hard_thresholding_fraction": 0.6}
    torch.manual_seed(0)
    mixer = WavenumberAFNO(6, 2, window=3, **options).double()
    tokens = torch.randn(2, 5, 6, 6, dtype=torch.float64)
    names, weights = zip(*mixer.named_parameters(), strict=True)

    def mix(*weights: Tensor) -> Tensor:
        values = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(mixer, values, (tokens,))

    assert torch.autograd.gradcheck(mix, weights, fast_mode=True)
