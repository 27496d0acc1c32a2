"""Random fields, and random numbers that depend on the forecast alone."""

import math

import numpy as np
import pytest
import torch

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.noise import NoiseFields
from fourcastnet_afno.inference.perturbations import (
    MemberNoise,
    SphericalRandomField,
    generator_for,
    spectral_variances,
    step_seed,
)
from fourcastnet_afno.models.config import NoiseConfig
from tests.builders.errors import rejects

RADIUS = 6371.22


def test_random_fields_have_variance_one_everywhere_and_the_correlation_of_their_scale() -> None:
    scale = 1500.0
    grid = LatLonGrid(latitude=(89.0, 40.0, 0.0, -30.0), longitude=(0.0, 10.0, 25.0, 60.0))
    fields = SphericalRandomField(grid, scale).draw(np.random.default_rng(0), 4000)
    assert fields.dtype == np.float32
    np.testing.assert_allclose(fields.mean(axis=0), 0, atol=4 / math.sqrt(4000))
    np.testing.assert_allclose(fields.var(axis=0), 1, atol=6 * math.sqrt(2 / 4000))
    for row, latitude in ((1, 40.0), (2, 0.0)):
        for column, degrees in ((1, 10.0), (2, 25.0)):
            found = (fields[:, row, 0] * fields[:, row, column]).mean()
            chord = math.cos(math.radians(latitude)) * math.sin(math.radians(degrees) / 2)
            distance = 2 * RADIUS * math.asin(chord)
            expected = math.exp(-(distance**2) / (2 * scale**2))
            assert found == pytest.approx(expected, abs=0.06)


def test_the_exact_correlation_is_the_legendre_sum() -> None:
    variances = spectral_variances(800.0)
    assert variances.sum() == pytest.approx(1)
    angle = np.array([0.0, 400.0, 800.0, 1600.0]) / RADIUS
    found = np.polynomial.legendre.legval(np.cos(angle), variances)
    np.testing.assert_allclose(found, np.exp(-((angle * RADIUS / 800) ** 2) / 2), atol=0.01)


def test_a_length_scale_below_the_resolution_is_refused() -> None:
    with rejects("bad-setting", "length_scale_km", "108", "10"):
        spectral_variances(10.0)


def test_random_numbers_depend_on_seed_time_member_and_step_alone() -> None:
    time = np.datetime64("1959-01-01", "ns")  # before the epoch
    seeds = {step_seed(s, time + np.timedelta64(h, "h"), m, k)
             for s in (0, 1) for h in (0, 6) for m in (0, 1) for k in (0, 1)}  # fmt: skip
    assert len(seeds) == 16
    first, second = (generator_for(0, time, 1).standard_normal(3) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("memory_hours", [0.0, 12.0])
def test_noise_is_a_function_of_seed_member_time_and_step(memory_hours: float) -> None:
    grid = LatLonGrid.equiangular(6, 12)
    config = NoiseConfig(length_scales=[4000.0], channels=2, memory_hours=memory_hours)
    fields, device = NoiseFields(config, grid, Timestep.parse("6h")), torch.device("cpu")
    times = np.array(["2020-01-01", "2020-01-01", "2020-01-02"], "datetime64[ns]")
    members = np.array([0, 5, 5])
    together = MemberNoise(fields, 0, times, members)
    steps = [together(step, device) for step in range(4)]
    for index in range(3):
        alone = MemberNoise(fields, 0, times[index : index + 1], members[index : index + 1])
        assert torch.equal(alone(3, device)[0], steps[3][index])
    assert len(torch.cat(steps).flatten(1).unique(dim=0)) == 12
    other_seed = MemberNoise(fields, 1, times, members)
    assert not torch.equal(other_seed(0, device), steps[0])
    larger = MemberNoise(fields, 0, times, members, amplitude=2.0)
    assert torch.equal(larger(3, device), 2 * steps[3])
