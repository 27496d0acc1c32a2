from collections.abc import Callable

import pytest
import torch

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from fourcastnet_afno.losses.spectral import PowerSpectrum


@pytest.mark.parametrize("basis", ["spherical_harmonics", "zonal"])
@pytest.mark.parametrize("shape", [(6, 8), (5, 9), (7, 12)])
@pytest.mark.parametrize("poles", [False, True])
def test_power_adds_up_to_the_mean_square(basis: str, shape: tuple[int, int], poles: bool) -> None:
    grid = LatLonGrid.equiangular(*shape, poles=poles)
    weights = torch.from_numpy(grid.area_weights())
    spectrum = PowerSpectrum(grid.latitude, shape[1], weights[:, 0], basis)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    fields = torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)
    coefficients = spectrum.coefficients(fields)
    power = spectrum.power(coefficients, coefficients)
    torch.testing.assert_close(power.sum(dim=-1), (weights * fields.square()).mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("degree", "order", "field"),
    [
        (0, 0, lambda x, y, z: 1 + 0 * x),
        (1, 0, lambda x, y, z: z),
        (1, 1, lambda x, y, z: x),
        (2, 1, lambda x, y, z: y * z),
        (2, 2, lambda x, y, z: x * x - y * y),
        (3, 2, lambda x, y, z: x * y * z),
    ],
)
def test_harmonics_have_their_own_degree(degree: int, order: int, field: Callable) -> None:
    grid = LatLonGrid.equiangular(16, 32)
    weights = torch.from_numpy(grid.area_weights()[:, 0])
    harmonic = torch.from_numpy(field(*grid.coordinate_channels()))[None, None]
    for basis, wavenumber in (("spherical_harmonics", degree), ("zonal", order)):
        spectrum = PowerSpectrum(grid.latitude, 32, weights, basis)  # type: ignore[arg-type]
        coefficients = spectrum.coefficients(harmonic)
        power = spectrum.power(coefficients, coefficients)[0, 0]
        assert power[wavenumber] > (1 - 1e-9) * power.sum()


def test_power_by_degree_is_that_of_the_spectral_transform() -> None:
    """On Gaussian rows, whose weights integrate products of resolved harmonics exactly."""
    transform = SphericalHarmonicTransform(16, 32, truncation=12)
    assert transform.quadrature_weights is not None
    coefficients = torch.zeros(13, 2, 13, 1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    for order in range(13):
        for degree in range(order, 13):
            coefficients[order, :, degree, 0] = torch.randn(2, generator=generator).double()
    coefficients[0, 1] = 0
    field = transform.synthesize(coefficients)[..., 0].T
    weights = torch.from_numpy(16 * transform.quadrature_weights)
    spectrum = PowerSpectrum(transform.latitude.tolist(), 32, weights, "spherical_harmonics")
    found = spectrum.coefficients(field[None, None])
    by_order = coefficients[..., 0].square().sum(dim=1)
    expected = by_order[0] + 2 * by_order[1:].sum(dim=0)
    power = spectrum.power(found, found)[0, 0]
    torch.testing.assert_close(power[:13], expected)
    torch.testing.assert_close(power[13:], torch.zeros_like(power[13:]), atol=1e-12, rtol=0)
