"""Spectra of planes: Parseval, plane waves, rotation, white noise, and which one a grid has."""

import numpy as np
import pytest

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.evaluation.statistics.spectra import (
    effective_wavenumber,
    isotropic_energy_spectrum,
    spectrum_of,
    wavelength_km,
    zonal_energy_spectrum,
)

SQUARE = (1.0, 1.0)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def wave(rows: int, columns: int, p: int, q: int, amplitude: float = 3.0) -> np.ndarray:
    """A plane wave with p periods along y and q along x."""
    y, x = np.meshgrid(np.arange(rows) / rows, np.arange(columns) / columns, indexing="ij")
    return amplitude * np.cos(2 * np.pi * (p * y + q * x) + 0.7)


@pytest.mark.parametrize("shape", [(8, 8), (7, 9), (6, 13), (1, 12)])
@pytest.mark.parametrize("extent", [(1.0, 1.0), (0.3, 2.5), (3.0, 1.0)])
def test_shells_sum_to_the_mean_square(shape: tuple[int, int], extent: tuple[float, float]) -> None:
    fields = noise(2, 3, *shape)
    spectrum = isotropic_energy_spectrum(fields, extent)
    np.testing.assert_allclose(spectrum.sum(-1), (fields**2).mean((-2, -1)))
    np.testing.assert_allclose(spectrum[..., 0], fields.mean((-2, -1)) ** 2)


@pytest.mark.parametrize(
    ("extent", "vector", "shell"),
    [
        (SQUARE, (3, 4), 5),
        (SQUARE, (0, 7), 7),
        (SQUARE, (-7, 7), 10),  # in the corner
        (SQUARE, (1, 1), 1),
        (SQUARE, (2, -3), 4),
        ((2.0, 1.0), (4, 1), 4),  # |(4, 2)|
        ((0.1, 0.3), (1, 4), 5),  # |(3, 4)|
        ((1.0, 2.5), (1, 0), 3),  # 2.5, on the edge
    ],
)
def test_a_plane_wave_is_in_its_shell(
    extent: tuple[float, float], vector: tuple[int, int], shell: int
) -> None:
    grid = PlaneGrid.regular(16, 18, extent=extent)
    spectrum = spectrum_of(grid)
    assert spectrum is not None
    energies = spectrum.energies(wave(16, 18, *vector))
    expected = np.where(spectrum.wavenumbers == shell, 9 / 2, 0)
    np.testing.assert_allclose(energies, expected, atol=1e-12)
    assert expected.sum() == 9 / 2


def test_rotation_leaves_the_spectrum() -> None:
    fields = noise(2, 12, 10)
    for extent in (SQUARE, (1.0, 2.5)):
        turned = isotropic_energy_spectrum(np.rot90(fields, axes=(1, 2)), extent[::-1])
        np.testing.assert_allclose(turned, isotropic_energy_spectrum(fields, extent))


def test_white_noise_has_the_same_energy_in_each_wave() -> None:
    size, count = 16, 400
    spectrum = isotropic_energy_spectrum(noise(count, size, size), SQUARE).mean(axis=0)
    waves = np.fft.fftfreq(size, 1 / size)
    shells = np.floor(np.hypot(waves[:, None], waves) + 0.5).astype(int)
    number = np.bincount(shells.ravel())
    np.testing.assert_allclose(size**2 * spectrum / number, 1, atol=6 * np.sqrt(2 / count))


def test_a_field_does_not_depend_on_its_company() -> None:
    fields = noise(5, 2, 12, 16)
    for dtype, tolerance in (("f8", 1e-12), ("f4", 1e-5)):
        own = fields.astype(dtype)
        together = isotropic_energy_spectrum(own, SQUARE)
        alone = [[isotropic_energy_spectrum(f, SQUARE) for f in pair] for pair in own]
        assert together.dtype == np.float64
        np.testing.assert_allclose(together, alone, rtol=tolerance)
    fields[1, 1, 3, 4] = np.nan
    known = np.isfinite(isotropic_energy_spectrum(fields, SQUARE)).all(axis=-1)
    assert known.sum() == 9
    assert not known[1, 1]


def test_the_grid_decides() -> None:
    torus = spectrum_of(PlaneGrid.regular(8, 8, extent=(2.0, 4.0)))
    line = spectrum_of(PlaneGrid.regular(1, 8, extent=(9.0, 4.0), periodic=("x",)))
    strip = spectrum_of(PlaneGrid.regular(8, 8, periodic=("x",)))
    globe = spectrum_of(LatLonGrid.equiangular(6, 8))
    assert torus is not None
    assert line is not None
    assert strip is not None
    assert globe is not None
    assert [s.dim for s in (torus, line)] == ["wavenumber"] * 2
    assert [s.dim for s in (strip, globe)] == ["zonal_wavenumber"] * 2
    assert (torus.attrs["longest_wave"], line.attrs["longest_wave"]) == (4.0, 4.0)
    field = noise(3, 1, 8)
    np.testing.assert_array_equal(line.wavenumbers, np.arange(5))
    np.testing.assert_allclose(line.energies(field), zonal_energy_spectrum(field, np.ones((1, 8))))
    assert spectrum_of(PlaneGrid.regular(8, 8, periodic=("y",))) is None


def test_a_narrow_torus_has_no_more_shells_than_waves() -> None:
    spectrum = spectrum_of(PlaneGrid.regular(8, 8, extent=(1.0, 1e6)))
    assert spectrum is not None
    assert len(spectrum.wavenumbers) < 8 * 5
    np.testing.assert_array_equal(spectrum.wavenumbers[:5], np.arange(5))
    field = wave(8, 8, 1, 0)
    energies = spectrum.energies(field)
    assert energies[spectrum.wavenumbers.tolist().index(10**6)] == pytest.approx(9 / 2)
    truth = np.ones(len(spectrum.wavenumbers))
    found = effective_wavenumber(
        np.where(truth.cumsum() > 6, 0, truth), truth, spectrum.wavenumbers
    )
    assert found == spectrum.wavenumbers[5] == 10**6


@pytest.mark.parametrize("columns", [11, 12, 81, 82])
def test_spectrum_sums_to_the_mean_square(columns: int) -> None:
    grid = LatLonGrid.equiangular(5, columns)
    fields = np.random.default_rng(0).standard_normal((2, 5, columns))
    spectrum = zonal_energy_spectrum(fields, grid.area_weights())
    expected = (grid.area_weights() * fields**2).mean(axis=(1, 2))
    np.testing.assert_allclose(spectrum.sum(axis=-1), expected)


def test_effective_wavenumber_is_the_last_resolved() -> None:
    truth = np.ones(6)
    forecast = np.array([1, 1, 0.9, 0.5, 0.4, 1.0])
    wavenumbers = np.arange(6)
    assert effective_wavenumber(forecast, truth, wavenumbers) == 3
    assert effective_wavenumber(truth, truth, wavenumbers) == 5
    assert effective_wavenumber(0 * truth, truth, wavenumbers) == 0
    assert wavelength_km(np.array([4.0])) == pytest.approx(10007.5)


def test_what_is_missing_has_no_effective_wavenumber() -> None:
    truth, missing = np.ones((2, 6)), np.full(6, np.nan)
    forecast = np.stack([missing, np.ones(6)])
    wavenumbers = np.arange(6)
    np.testing.assert_array_equal(effective_wavenumber(forecast, truth, wavenumbers), [np.nan, 5])
    np.testing.assert_array_equal(effective_wavenumber(truth, forecast, wavenumbers), [np.nan, 5])
    partly = np.array([1, 1, 0.2, np.nan, 1, 1])  # whether it is the last is not known
    assert np.isnan(effective_wavenumber(partly, truth[0], wavenumbers))


@pytest.mark.parametrize("columns", [12, 96])
@pytest.mark.parametrize("stored", ["f2", "i2"])
def test_values_in_half_precision_and_integers_have_finite_spectra(
    columns: int, stored: str
) -> None:
    fields = (280 + 5 * noise(2, 6, columns)).astype(stored)
    globe, torus = LatLonGrid.equiangular(6, columns), PlaneGrid.regular(6, columns)
    for grid in (globe, torus):
        spectrum = spectrum_of(grid)
        assert spectrum is not None
        found, expected = spectrum.energies(fields), spectrum.energies(fields.astype(float))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
        assert found.sum() > 2 * 270**2
