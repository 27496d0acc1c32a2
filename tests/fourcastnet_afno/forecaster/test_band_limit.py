"""The projection on long waves: what it keeps, what it takes away, on any rows."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from fourcastnet_afno.forecaster.band_limit import BandLimit, largest_wavenumbers
from fourcastnet_afno.parallel.row_sharding import RowPartition, RowRange, ShardedRows
from tests.builders.planes import SQUARE, TORUS

WIND = Channels(
    (
        Channel(name="geopotential"),
        Channel(name="u_component_of_wind"),
        Channel(name="v_component_of_wind"),
    )
)
GAUSSIAN = tuple(SphericalHarmonicTransform(12, 24).latitude.tolist())
CENTERS = LatLonGrid.equiangular(12, 24)
GLOBES = [
    CENTERS,
    LatLonGrid.equiangular(13, 24, poles=True),
    LatLonGrid(latitude=GAUSSIAN, longitude=CENTERS.longitude),
]
REGION = LatLonGrid(
    latitude=tuple(np.arange(60.0, 40, -2).tolist()),
    longitude=tuple(np.arange(0.0, 24, 2).tolist()),
)
GRIDS: list[Grid] = [*GLOBES, REGION, TORUS, SQUARE]


def make_limit(grid: Grid, share: float = 2 / 3) -> BandLimit:
    return BandLimit(grid, largest_wavenumbers(grid, share), WIND).double()


def make_fields(grid: Grid) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, *grid.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_it_is_a_projection_that_takes_something_away(grid: Grid) -> None:
    limit, fields = make_limit(grid), make_fields(grid)
    limited = limit(fields)
    torch.testing.assert_close(limit(limited), limited, rtol=0, atol=2e-5)
    assert 0.2 < (limited.square().mean() / fields.square().mean()) < 0.7


def test_all_wavenumbers_are_all_fields_on_an_interval() -> None:
    fields = make_fields(SQUARE)
    torch.testing.assert_close(make_limit(SQUARE, 1.0)(fields), fields, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", GLOBES, ids=["centers", "poles", "gaussian"])
def test_smooth_fields_and_their_gradients_stay(grid: LatLonGrid) -> None:
    """A polynomial in the coordinates of space, and its gradient as a wind, poles included."""
    latitude, longitude = np.meshgrid(*map(np.deg2rad, grid.coords.values()), indexing="ij")
    (sin, cos), zero = (np.sin(latitude), np.cos(latitude)), 0 * latitude
    x, y, z = cos * np.cos(longitude), cos * np.sin(longitude), sin
    gradient = np.stack([2 * x * z, 1 + zero, x**2])  # of x^2 z + y
    east = np.stack([-np.sin(longitude), np.cos(longitude), zero])
    north = np.stack([-sin * np.cos(longitude), -sin * np.sin(longitude), cos])
    winds = [(gradient * direction).sum(0) for direction in (east, north)]
    fields = torch.from_numpy(np.stack([x**2 * z + y, *winds]))
    torch.testing.assert_close(make_limit(grid)(fields), fields, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [CENTERS, TORUS], ids=str)
def test_shorter_waves_go(grid: Grid) -> None:
    longitude = torch.arange(grid.shape[1], dtype=torch.float64)
    for wavenumber in range(1, grid.shape[1] // 2):
        wave = torch.cos(2 * torch.pi * wavenumber * longitude / grid.shape[1])
        # Constant along a meridian, the wave is smooth at the poles where they are not reached.
        rows = torch.zeros(3, *grid.shape, dtype=torch.float64) + wave
        kept = make_limit(grid)(rows).abs().max() > 1e-4
        assert kept == (wavenumber <= grid.shape[1] // 3)


@pytest.mark.parametrize("grid", [TORUS, SQUARE], ids=str)
def test_waves_fade_towards_the_edge_of_the_band(grid: Grid) -> None:
    """Each axis by exp(-3 k^2 / K^2), and the whole so that noise in the band keeps its size."""
    limit = make_limit(grid)
    if grid is TORUS:
        largest = largest_wavenumbers(grid, 2 / 3)
        rows, columns = (
            np.exp(-6 * (np.arange(-k, k + 1) / k) ** 2).mean() ** -0.5 for k in largest
        )
        x = 2 * torch.pi * torch.arange(grid.shape[1], dtype=torch.float64) / grid.shape[1]
        for wavenumber in range(largest[1] + 1):
            wave = torch.cos(wavenumber * x).expand(3, *grid.shape)
            factor = rows * columns * np.exp(-3 * (wavenumber / largest[1]) ** 2)
            torch.testing.assert_close(limit.faded(wave), factor * wave, rtol=0, atol=1e-5)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100, 3, *grid.shape, generator=generator, dtype=torch.float64)
    faded = limit.faded(noise)
    torch.testing.assert_close(limit(faded), faded, rtol=0, atol=2e-5)
    assert 0.9 < faded.square().mean() / limit(noise).square().mean() < 1.1


def test_diffusion_damps_a_wave_by_the_square_of_its_wavenumber() -> None:
    """Rates along both axes add up: those of the heat equation, where the band ends alike."""
    rows, columns = largest = largest_wavenumbers(TORUS, 2 / 3)
    limit = BandLimit(TORUS, largest, WIND, diffusion=0.7).double()
    y, x = (2 * torch.pi * torch.arange(n, dtype=torch.float64) / n for n in TORUS.shape)
    for row, column in product(range(rows + 1), range(columns + 1)):
        wave = (torch.cos(row * y)[:, None] * torch.sin(column * x + 0.3)).expand(3, -1, -1)
        decay = np.exp(-0.7 * ((row / rows) ** 2 + (column / columns) ** 2))
        torch.testing.assert_close(limit.diffused(wave), decay * wave, rtol=0, atol=1e-5)


@pytest.mark.parametrize("grid", [CENTERS, TORUS, SQUARE], ids=str)
def test_it_is_its_own_adjoint_where_cells_are_alike(grid: Grid) -> None:
    limit, fields = make_limit(grid), make_fields(grid)
    products = (limit(fields[0]) * fields[1]).sum(), (fields[0] * limit(fields[1])).sum()
    torch.testing.assert_close(*products, rtol=1e-4, atol=1e-4)


def test_a_finer_grid_has_the_same_band() -> None:
    fine, largest = LatLonGrid.equiangular(36, 72), largest_wavenumbers(CENTERS, 2 / 3)
    on_fine = BandLimit(fine, largest, WIND).double()
    fields = on_fine(make_fields(fine))
    middle = fields[..., 1::3, ::3]
    limit = make_limit(CENTERS)
    torch.testing.assert_close(limit(middle), middle, rtol=0, atol=1e-5)
    faded = on_fine.faded(fields)[..., 1::3, ::3]
    torch.testing.assert_close(limit.faded(middle), faded, rtol=0, atol=1e-5)


def test_rows_of_several_processes_are_those_of_one() -> None:
    limit, fields = make_limit(CENTERS), make_fields(CENTERS)
    partition, parts = RowPartition(12, (0, 0), 2, 3), []
    shards = [ShardedRows(partition, Sums(rank, parts)) for rank in range(3)]
    results = []
    for shard in [*shards, *shards]:  # first they collect what the second time they add up
        limit.rows = shard
        results.append(limit(fields[..., shard.field_slice, :]))
    limited, results = make_limit(CENTERS)(fields), results[3:]
    torch.testing.assert_close(torch.cat(results, dim=-2), limited)


class Sums:
    """An exchange whose sums are complete once all three ranks have given their part."""

    size = 3

    def __init__(self, rank: int, parts: list[Tensor]) -> None:
        self.rank, self._parts = rank, parts

    def sum(self, tensor: Tensor) -> Tensor:
        if len(self._parts) < self.size:
            self._parts.append(tensor)
            return tensor
        return sum(self._parts, torch.zeros(()))

    def transpose(self, tensor: Tensor, split: RowRange, join: RowRange) -> Tensor:
        raise AssertionError

    def broadcast_from_first(self, tensor: Tensor) -> Tensor:
        raise AssertionError
