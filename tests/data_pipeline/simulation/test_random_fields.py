"""Random fields have their covariance, and are the same function at every resolution."""

import numpy as np
import torch

from data_pipeline.simulation.fourier import FourierGrid, change_resolution
from data_pipeline.simulation.random_fields import gaussian_bumps, neumann_field, random_field


def test_covariance_of_random_fields() -> None:
    """Variance of the mode k: scale (|k|^2 + shift)^(-power); values are real."""
    grid = FourierGrid((12, 18), (1.0, 2.0), degree=1)
    rng = np.random.default_rng(0)
    draws = torch.stack(
        [random_field(grid, rng, scale=3.0, power=1.0, shift=50.0) for _ in range(1500)]
    )
    expected = 3.0 / (50.0 - grid.laplacian)
    expected[0, 0] = 0
    variance = draws.abs().square().mean(dim=0)
    torch.testing.assert_close(variance[grid.kept], expected[grid.kept], rtol=0.2, atol=0)
    torch.testing.assert_close(grid.spectrum(grid.fields(draws)), draws, rtol=0, atol=1e-12)


def test_bumps_are_gaussian() -> None:
    grid = FourierGrid((64, 64), (2.0, 1.0), degree=1)
    field = grid.fields(gaussian_bumps(grid, np.random.default_rng(3), count=1, width=0.05))
    y, x = np.random.default_rng(3).random(2) * [2.0, 1.0]
    dy, dx = (grid.y - y + 1) % 2 - 1, (grid.x - x + 0.5) % 1 - 0.5
    squares = dy[:, None] ** 2 + dx**2
    expected = torch.tensor(np.exp(-squares / (2 * 0.05**2)))
    torch.testing.assert_close(field, expected, rtol=0, atol=1e-4)


def test_a_coarser_grid_holds_the_same_field() -> None:
    coarse, fine = (FourierGrid(shape, (1.0, 2.0), degree=1) for shape in ((10, 14), (25, 40)))
    low, high = (
        random_field(grid, np.random.default_rng(1), scale=2.0, power=1.5, shift=9.0)
        for grid in (coarse, fine)
    )
    same = coarse.spectrum(change_resolution(high, fine, coarse.shape))
    torch.testing.assert_close(low, same, rtol=0, atol=1e-12)


def test_fields_under_neumann_conditions_are_flat_at_the_boundary() -> None:
    y, x = np.linspace(0, 1, 401), np.linspace(0, 1, 301)
    settings = {"power": 2.0, "shift": 9.0, "num_modes": 16}
    field = neumann_field(y, x, np.random.default_rng(0), **settings)
    slopes = np.gradient(field, y, axis=0, edge_order=2)
    assert np.abs(slopes[[0, -1]]).max() < 0.02 * np.abs(slopes).max()
    some = neumann_field(y[::8], x[::5], np.random.default_rng(0), **settings)
    np.testing.assert_allclose(some, field[::8, ::5], rtol=0, atol=1e-14)
