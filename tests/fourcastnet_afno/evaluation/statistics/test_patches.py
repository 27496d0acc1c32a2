"""Energy at the scales of patches: waves and checkerboards by hand, and what has no patches."""

import numpy as np
import pytest

from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.evaluation.statistics.patches import patch_energy_of

GLOBE = LatLonGrid.equiangular(32, 64)
POLES = LatLonGrid.equiangular(33, 64, poles=True)
TORUS = PlaneGrid.regular(16, 48, extent=(1.0, 3.0))
BASIN = PlaneGrid.regular(24, 20, periodic=())
Y, X = np.arange(32)[:, None], np.arange(64)
ONES = np.ones((32, 64))


def energy(fields: np.ndarray, patch: str = "4 x 4", grid: Grid = GLOBE) -> np.ndarray:
    compute = patch_energy_of(grid, {"patch_size": patch})
    assert compute is not None
    return compute(fields.reshape(-1, *grid.shape)).sum(axis=-1)  # along both axes


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (2 * np.cos(np.pi / 2 * X) * ONES, 2.0),  # one wave in a patch of 4: 2^2 / 2
        (3 * (-1.0) ** X * ONES, 9.0),  # two, its harmonic
        (2 * np.cos(np.pi / 2 * Y) * ONES, 2.0),
        (3 * (-1.0) ** Y * ONES, 9.0),
        (3 * (-1.0) ** (X + Y), 18.0),  # a checkerboard, along both axes
        (np.where(X % 4 == 0, 4.0, 0.0) * ONES, 3.0),  # mean 1; 1 + 2 at wavenumbers 16 and 32
        (5 * np.cos(2 * np.pi * 12 / 64 * X) * ONES, 12.5),  # at the edge of 12 to 20
        (5 * np.cos(2 * np.pi * 11 / 64 * X) * ONES, 0.0),
        (5 * np.cos(2 * np.pi * 24 / 64 * X) * ONES, 0.0),  # between the harmonics
        (280 + 9 * np.cos(np.pi * (Y + 0.5) / 16) * np.cos(2 * np.pi * 3 / 64 * X), 0.0),
    ],
)
def test_waves_have_their_mean_square(field: np.ndarray, expected: float) -> None:
    assert energy(field) == pytest.approx(expected, abs=1e-9)
    assert energy(field.astype(np.float32)) == pytest.approx(expected, abs=1e-5)


def test_edges_of_patches_show_whatever_larger_waves_they_are_of() -> None:
    smooth = np.cos(2 * np.pi * 2 / 64 * X) * np.cos(np.pi / 16 * (Y + 0.5))
    blocky = smooth.reshape(8, 4, 16, 4).mean((1, 3)).repeat(4, 0).repeat(4, 1)
    assert energy(smooth) < 1e-9
    assert energy(blocky) > 1e-3
    assert energy(blocky) == pytest.approx(energy(np.roll(blocky, 2, axis=1)))  # wherever they are


def test_each_axis_has_its_own() -> None:
    compute = patch_energy_of(GLOBE, {"patch_size": "2 x 4"})
    assert compute is not None
    field = 2 * np.cos(np.pi / 2 * X) + 3 * (-1.0) ** Y
    np.testing.assert_allclose(compute(field[None]), [[2, 9]])


def test_rows_count_by_their_area() -> None:
    north = np.where(Y < 16, 1.0, 0.0) * (-1.0) ** X
    row = np.where(Y == 0, 1.0, 0.0) * (-1.0) ** X
    share = (1 - np.cos(np.pi / 32)) / 2  # of the northernmost row, of the sphere
    assert energy(north, "1 x 2") == pytest.approx(0.5)
    assert energy(row, "1 x 2") == pytest.approx(share)


@pytest.mark.parametrize("patch", [2, 3, 4])
@pytest.mark.parametrize("grid", [GLOBE, POLES, TORUS, BASIN], ids=str)
def test_of_noise_the_share_of_the_waves(grid: Grid, patch: int) -> None:
    noise = np.random.default_rng(0).standard_normal((400, *grid.shape)).astype(np.float32)
    shares = [
        sum(any(4 * abs(patch * k - j * n) <= n for j in range(1, patch)) for k in range(n)) / n
        for n in grid.shape
    ]
    assert energy(noise, f"{patch} x {patch}", grid).mean() == pytest.approx(sum(shares), rel=0.02)


def test_jumps_from_end_to_end_are_no_edges() -> None:
    rise = 100 * np.linspace(0, 1, 32)[:, None] * ONES
    assert energy(rise) < 1e-5 * np.square(rise).mean()


def test_axes_without_edges_have_none() -> None:
    assert energy((-1.0) ** Y * ONES, "1 x 4") == pytest.approx(0, abs=1e-12)
    assert energy((-1.0) ** Y * ONES, "4 x 64") == pytest.approx(1)


@pytest.mark.parametrize(
    "attrs",
    [{}, {"patch_size": "1 x 1"}, {"patch_size": "32 x 64"}, {"patch_size": "0 x 4"},
     {"patch_size": [4, 4]}, {"patch_size": "4"}, {"patch_size": "4 x 4\n"}],
)  # fmt: skip
def test_no_patches(attrs: dict) -> None:
    assert patch_energy_of(GLOBE, attrs) is None
