"""Boxes of regions, and land and sea in them."""

import math

import numpy as np
import pytest

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.regions import REGIONS, region_weights
from tests.builders.errors import rejects
from tests.builders.evaluation_fixtures import GRID


def test_boxes_of_regions_are_those_of_weatherbench2() -> None:
    grid = LatLonGrid.equiangular(181, 360, poles=True)
    latitude, longitude = grid.coords["latitude"][:, None], grid.coords["longitude"][None, :]
    east = longitude <= 42.5
    expected = {
        "tropics": (abs(latitude) <= 20) & (longitude >= 0),
        "extratropics": (abs(latitude) >= 20) & (longitude >= 0),
        "europe": (latitude >= 35) & (latitude <= 75) & (east | (longitude >= 347.5)),
        "north_pacific": (latitude >= 25)
        & (latitude <= 60)
        & (longitude >= 145)
        & (longitude <= 230),
    }
    for name, mask in expected.items():
        np.testing.assert_array_equal(REGIONS[name].mask(grid), mask)
    weights = region_weights(list(REGIONS), grid, grid.area_weights())
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1, rtol=1e-12)
    # Half the sphere lies within 30 degrees of the equator; sin(20 degrees) of it within 20.
    inside = (grid.area_weights() * REGIONS["tropics"].mask(grid)).mean()
    assert inside == pytest.approx(math.sin(math.radians(20.5)), rel=1e-12)


def test_regions_without_longitudes_centered_on_greenwich() -> None:
    east = LatLonGrid.equiangular(36, 72)
    centered = LatLonGrid(latitude=east.latitude, longitude=tuple(x - 180 for x in east.longitude))
    mask = REGIONS["europe"].mask(east)
    np.testing.assert_array_equal(REGIONS["europe"].mask(centered), np.roll(mask, 36, axis=1))


def test_land_and_sea_share_the_globe() -> None:
    land = np.random.default_rng(0).random(GRID.shape)
    areas = GRID.area_weights()
    weights = region_weights(["global_land", "global_sea", "tropics_land"], GRID, areas, land)
    fields = np.random.default_rng(1).random(GRID.shape)
    means = (weights * fields).sum(axis=(1, 2))
    share = (areas * land).mean()
    assert share * means[0] + (1 - share) * means[1] == pytest.approx((areas * fields).mean())
    tropics = REGIONS["tropics"].mask(GRID)
    expected = (areas * land * tropics * fields).sum() / (areas * land * tropics).sum()
    assert means[2] == pytest.approx(expected)


def test_regions_have_the_area_of_their_boxes() -> None:
    grid = LatLonGrid.equiangular(180, 360)
    for name, region in REGIONS.items():
        bands = [np.sin(np.deg2rad(n)) - np.sin(np.deg2rad(s)) for s, n in region.latitudes]
        share = sum(bands) / 2 * (region.east - region.west) / 360
        found = (region.mask(grid) * grid.area_weights()).mean()
        assert found == pytest.approx(share, abs=0.004), name


def test_land_and_sea_share_a_region() -> None:
    land = np.random.default_rng(0).random(GRID.shape)
    names = ["tropics_land", "tropics_sea"]
    weights = region_weights(names, GRID, GRID.area_weights(), land)
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1)
    ratio = weights[0] * (1 - land) / np.maximum(weights[1] * land, 1e-300)
    inside = REGIONS["tropics"].mask(GRID)
    np.testing.assert_allclose(ratio[inside], ratio[inside][0])
    with rejects("missing-variable", "tropics_land", "land_sea_mask"):
        region_weights(names, GRID, GRID.area_weights())


def test_an_empty_region_is_named() -> None:
    grid = LatLonGrid.equiangular(2, 4)  # rows at 45 degrees north and south
    with rejects("empty-region", "tropics"):
        region_weights(["tropics"], grid, np.ones(grid.shape))
