"""Spherical-harmonic transforms and random spectra."""

import torch
from torch import Tensor

from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform


def make_transform(rows: int, truncation: int | None = None) -> SphericalHarmonicTransform:
    """On ``rows`` Gaussian latitudes and twice as many longitudes."""
    return SphericalHarmonicTransform(rows, 2 * rows, truncation=truncation)


def make_spectrum(transform: SphericalHarmonicTransform, seed: int = 0) -> Tensor:
    """Random coefficients of one field."""
    generator = torch.Generator().manual_seed(seed)
    size = transform.truncation + 1
    values = torch.randn(size, 2, size, 1, generator=generator, dtype=torch.float64)
    values[0, 1] = 0
    order, degree = torch.arange(size)[:, None, None, None], torch.arange(size)[:, None]
    return values * (degree >= order)
