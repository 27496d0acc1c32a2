from typing import Literal

import numpy as np
import pytest
import torch

from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform, legendre_functions
from tests.builders.harmonics import make_spectrum, make_transform


def test_legendre_functions_are_orthonormal() -> None:
    mu, weights = np.polynomial.legendre.leggauss(24)
    values, _ = legendre_functions(15, mu)
    for order, matrix in enumerate(values):
        product = matrix.T @ (weights[:, None] / 2 * matrix)
        expected = np.diag((np.arange(16) >= order).astype(float))
        np.testing.assert_allclose(product, expected, atol=1e-12)


@pytest.mark.parametrize("rows", ["gaussian", "equiangular"])
def test_round_trip_and_parseval(rows: Literal["gaussian", "equiangular"]) -> None:
    t = SphericalHarmonicTransform(24, 48, rows=rows)
    coefficients = make_spectrum(t)
    field = t.synthesize(coefficients)
    torch.testing.assert_close(t.analyze(field), coefficients, rtol=0, atol=1e-10)
    gaussian = make_transform(24)
    weights = torch.tensor(np.array(gaussian.quadrature_weights))
    square = gaussian.synthesize(coefficients).square()
    mean_square = torch.einsum("xyb,y->b", square, weights) / 48
    squares = coefficients.square().sum(dim=(1, 2))
    torch.testing.assert_close(squares[0] + 2 * squares[1:].sum(dim=0), mean_square)
