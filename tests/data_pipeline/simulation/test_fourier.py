"""Fourier grids: derivatives, transforms, and products without aliasing."""

import numpy as np
import torch

from data_pipeline.simulation.fourier import FourierGrid, change_resolution
from data_pipeline.simulation.random_fields import random_field


def test_products_of_the_configured_degree_are_free_of_aliasing() -> None:
    """The product on the grid is the one on a grid so fine that nothing can alias."""
    rng = np.random.default_rng(0)
    for degree in (2, 3):
        grid = FourierGrid((24, 24), (1.0, 1.0), degree=degree)
        fine = FourierGrid((96, 96), (1.0, 1.0), degree=1)
        state = random_field(grid, rng, scale=1.0, power=0.0, shift=1.0)
        exact = change_resolution(
            fine.spectrum(change_resolution(state, grid, fine.shape) ** degree), fine, (24, 24)
        )
        product = grid.spectrum(grid.fields(state) ** degree)
        torch.testing.assert_close(product, grid.spectrum(exact), rtol=0, atol=1e-10)


def test_derivatives_of_a_wave() -> None:
    grid = FourierGrid((18, 24), (2.0, 3.0), degree=1)
    y, x = (torch.from_numpy(a) for a in np.meshgrid(grid.y, grid.x, indexing="ij"))
    ky, kx = 2 * np.pi * 2 / 2.0, 2 * np.pi * 3 / 3.0
    spectrum = grid.spectrum(torch.sin(ky * y + kx * x))
    slope = torch.cos(ky * y + kx * x)
    torch.testing.assert_close(grid.fields(grid.dy(spectrum)), ky * slope)
    torch.testing.assert_close(grid.fields(grid.dx(spectrum)), kx * slope)
    back = grid.inverse_laplacian * grid.laplacian * spectrum
    torch.testing.assert_close(back, spectrum)
    assert grid.inverse_laplacian[0, 0] == 0


def test_more_points_change_nothing_and_lead_back() -> None:
    grid, fine = FourierGrid((12, 16), (1.0, 1.0), degree=1), (31, 40)
    state = random_field(grid, np.random.default_rng(0), scale=1.0, power=0.0, shift=1.0)
    values = change_resolution(state, grid, fine)
    larger = FourierGrid(fine, (1.0, 1.0), degree=1)
    back = change_resolution(larger.spectrum(values), larger, grid.shape)
    torch.testing.assert_close(grid.spectrum(back), state, rtol=0, atol=1e-12)
