"""Coarser grids keep integrals, constants and, where cells nest, plain means."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.grids.coarsening import Coarsening, GridConfig
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preparation.prepare import prepare
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset

SOURCES = [
    LatLonGrid.equiangular(36, 72),
    LatLonGrid.equiangular(37, 72, poles=True),
    LatLonGrid(
        latitude=(88.0, 70.0, 40.0, 5.0, -20.0, -66.0, -89.0),
        longitude=tuple(np.arange(-180, 180, 20.0).tolist()),
    ),
]
GAUSSIAN = np.rad2deg(np.arcsin(np.polynomial.legendre.leggauss(32)[0][::-1]))
SOURCES.append(
    LatLonGrid(latitude=tuple(GAUSSIAN.tolist()), longitude=tuple(np.arange(0, 360, 5.625)))
)
TARGETS = [GridConfig(num_latitudes=12, num_longitudes=24).build()]
TARGETS += [GridConfig(num_latitudes=7, num_longitudes=10, poles=True).build()]


def draw(grid: LatLonGrid) -> np.ndarray:
    return np.random.default_rng(0).random((2, 3, *grid.shape)).astype(np.float32)


def integral(fields: np.ndarray, grid: LatLonGrid) -> np.ndarray:
    return (fields.astype(float) * grid.area_weights()).mean(axis=(-2, -1))


@pytest.mark.parametrize("source", SOURCES, ids=str)
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_integrals_and_constants_are_kept(source: LatLonGrid, target: LatLonGrid) -> None:
    fields, coarsening = draw(source), Coarsening(source, target)
    coarse = coarsening.apply(fields)
    assert coarse.dtype == np.float32
    np.testing.assert_allclose(integral(coarse, target), integral(fields, source), rtol=1e-6)
    constant = coarsening.apply(np.full_like(fields, 7.25))
    np.testing.assert_allclose(constant, 7.25, rtol=1e-7)
    assert (coarse >= fields.min()).all()
    assert (coarse <= fields.max()).all()


def test_nested_cells_are_means_of_what_they_hold() -> None:
    source, target = LatLonGrid.equiangular(12, 24), LatLonGrid.equiangular(6, 24)
    fields, weights = draw(source), source.area_weights()
    pairs = (fields * weights).reshape(2, 3, 6, 2, 24).sum(axis=3)
    expected = pairs / weights.reshape(6, 2, 24).sum(axis=1)
    np.testing.assert_allclose(Coarsening(source, target).apply(fields), expected, rtol=1e-6)


def test_the_own_grid_changes_nothing() -> None:
    fields = draw(SOURCES[1])
    np.testing.assert_allclose(Coarsening(SOURCES[1], SOURCES[1]).apply(fields), fields, rtol=1e-6)


def test_a_store_on_a_coarser_grid(tmp_path: Path) -> None:
    dataset = make_dataset(grid=LatLonGrid.equiangular(12, 24))
    dataset.to_netcdf(tmp_path / "data.nc")
    grid = GridConfig(num_latitudes=6, num_longitudes=8)
    config = make_data_config(tmp_path / "data.nc", grid=grid)
    store = prepare(config, tmp_path / "data.zarr")
    assert store.grid == grid.build()
    coarsening = Coarsening(LatLonGrid.from_dataset(dataset), store.grid)
    expected = coarsening.apply(dataset["2m_temperature"].values)
    np.testing.assert_array_equal(store.dataset()["2m_temperature"], expected)
    height = coarsening.apply(dataset["height"].values)
    np.testing.assert_allclose(store._read("static")[0], height, rtol=1e-6)


def test_regions_are_rejected() -> None:
    region = LatLonGrid(latitude=(60.0, 50.0), longitude=(0.0, 10.0))
    with rejects("grid-mismatch", "data.grid", "2 x 2"):
        Coarsening(region, TARGETS[0])
    with pytest.raises(ValueError, match=r"data\.grid\.num_latitudes"):
        GridConfig(num_latitudes=1, num_longitudes=4)
