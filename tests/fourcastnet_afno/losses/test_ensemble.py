"""Scores of ensembles: definitions, fairness, and that the truth's own law scores best."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.losses.ensemble import (
    FieldCoefficients,
    almost_fair_crps,
    almost_fair_energy_score,
)

GRIDS = {
    "globe": LatLonGrid.equiangular(6, 8),
    "region": LatLonGrid(latitude=(60.0, 50.0, 40.0), longitude=(0.0, 10.0, 20.0, 30.0)),
    "torus": PlaneGrid.regular(5, 6, extent=(1.0, 2.0)),
    "channel": PlaneGrid.regular(4, 5, extent=(1.0, 2.0), periodic=("x",)),
    "line": PlaneGrid.regular(1, 7, extent=(1.0, 1.0)),
}


def make_errors(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def make_coefficients(grid: Grid, weights: Tensor | None = None) -> FieldCoefficients:
    area = torch.from_numpy(grid.area_weights())
    rows, columns = grid.dims
    return FieldCoefficients(
        area[None] if weights is None else weights,
        area,
        grid.coords[rows].tolist() if grid.on_sphere else (),
        (rows in grid.periodic_axes, columns in grid.periodic_axes),
    )


def norm(fields: Tensor) -> Tensor:
    return torch.linalg.vector_norm(fields, dim=(-2, -1))


@pytest.mark.parametrize("members", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.95, 1.0])
def test_crps_equals_its_double_sum(members: int, alpha: float) -> None:
    predictions, targets = make_errors(2, members, 3, 4), make_errors(2, 3, 4, seed=1)
    found = almost_fair_crps(predictions - targets[:, None], alpha)
    skill = (predictions - targets[:, None]).abs().mean(dim=1)
    pairs = (predictions[:, :, None] - predictions[:, None]).abs().sum(dim=(1, 2))
    plain = skill - pairs / (2 * members**2)
    fair = skill - pairs / (2 * members * max(1, members - 1))
    torch.testing.assert_close(found, alpha * fair + (1 - alpha) * plain)


@pytest.mark.parametrize("members", [1, 2, 3, 4])
def test_the_energy_score_equals_its_double_sum(members: int) -> None:
    predictions, targets = make_errors(2, members, 3, 4, 5), make_errors(2, 3, 4, 5, seed=1)
    found = almost_fair_energy_score(predictions - targets[:, None], 0.7, norm)
    skill = norm(predictions - targets[:, None]).mean(dim=1)
    pairs = norm(predictions[:, :, None] - predictions[:, None]).sum(dim=(1, 2))
    plain = skill - pairs / (2 * members**2)
    fair = skill - pairs / (2 * members * max(1, members - 1))
    torch.testing.assert_close(found, 0.7 * fair + 0.3 * plain)


def test_two_members_by_hand() -> None:
    """Norms 5 and 13 of the errors (3, 4) and (5, 12), and sqrt(68) of their difference."""
    errors = torch.tensor([[3.0, 4.0], [5.0, 12.0]], dtype=torch.float64).view(1, 2, 1, 1, 2)
    fair = almost_fair_energy_score(errors, 1.0, norm).item()
    assert fair == pytest.approx((5 + 13) / 2 - 68**0.5 / 2)
    almost = almost_fair_energy_score(errors, 0.0, norm).item()
    assert almost == pytest.approx((5 + 13) / 2 - 68**0.5 / 4)
    points = almost_fair_crps(errors, 1.0).flatten().tolist()
    assert points == pytest.approx([(3 + 5) / 2 - 2 / 2, (4 + 12) / 2 - 8 / 2])


def test_the_fair_crps_is_unbiased_and_the_plain_one_is_not() -> None:
    """By enumeration of all ensembles that can be drawn from a distribution of three values."""
    values, truth = torch.tensor([0.0, 1.0, 4.0], dtype=torch.float64), 2.0
    distance = (values[:, None] - values).abs().mean()
    expected = (values - truth).abs().mean() - distance / 2

    def average(members: int, alpha: float) -> Tensor:
        draws = torch.stack(
            [torch.stack(draw) for draw in itertools.product(values, repeat=members)]
        )
        return almost_fair_crps((draws - truth)[..., None, None, None], alpha).mean()

    for members in (2, 3, 4):
        torch.testing.assert_close(average(members, 1.0), expected)
        torch.testing.assert_close(average(members, 0.0), expected + distance / (2 * members))


def test_the_fair_energy_score_is_unbiased() -> None:
    """By enumeration of all ensembles of three vectors."""
    values = make_errors(3, 1, 1, 4)
    truth = make_errors(1, 1, 4, seed=1)
    expected = norm(values - truth).mean() - norm(values[:, None] - values).mean() / 2
    for members in (2, 3, 4):
        draws = torch.stack([torch.stack(d) for d in itertools.product(values, repeat=members)])
        found = almost_fair_energy_score(draws - truth, 1.0, norm).mean()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", GRIDS)
def test_coefficients_have_the_mean_square_of_the_field(name: str) -> None:
    grid = GRIDS[name]
    fields = make_errors(2, 3, 2, *grid.shape)
    weights = torch.rand(2, *grid.shape, dtype=torch.float64)
    weights /= weights.mean(dim=(1, 2), keepdim=True)
    found = make_coefficients(grid, weights)(fields).square().sum(dim=-1) / np.prod(grid.shape)
    torch.testing.assert_close(found, (weights * fields.square()).mean(dim=(3, 4)))


@pytest.mark.parametrize("name", GRIDS)
def test_coefficients_are_orthogonal(name: str) -> None:
    """Each unit vector of the points has the same inner product with another one as its image."""
    grid = GRIDS[name]
    count = int(np.prod(grid.shape))
    points = torch.eye(count, dtype=torch.float64).view(1, count, 1, *grid.shape)
    images = make_coefficients(grid)(points)[0, :, 0]
    expected = torch.diag(torch.from_numpy(grid.area_weights()).flatten())
    torch.testing.assert_close(images @ images.T, expected)


@pytest.mark.parametrize("name", ["globe", "torus"])
def test_a_smooth_field_has_few_coefficients(name: str) -> None:
    grid = GRIDS[name]
    rows, columns = (grid.coords[axis] for axis in grid.dims)
    wave = {
        "globe": np.sin(np.deg2rad(rows))[:, None] + 0 * columns,
        "torus": np.cos(2 * np.pi * rows)[:, None] * np.sin(np.pi * columns),
    }[name]
    found = make_coefficients(grid)(torch.from_numpy(wave)[None, None, None]).flatten()
    assert (found.abs() > 1e-9).sum() <= 4


@pytest.mark.parametrize("term", ["spectral", "energy"])
def test_the_law_of_the_truth_scores_best(term: str) -> None:
    """Members with the same distribution at each point, whose correlation is another, are worse.

    So are those of another spread. Truth and members are sums of waves of few wavenumbers.
    """
    grid = PlaneGrid.regular(1, 16, extent=(1.0, 1.0))
    coefficients = make_coefficients(grid)
    sizes = torch.ones(16, dtype=torch.float64)
    sizes[5:] = 0.2

    def draw(law: Tensor, *shape: int, seed: int) -> Tensor:
        numbers = make_errors(*shape, 16, seed=seed) * law
        return (numbers @ coefficients.columns)[..., None, None, :]

    def score(law: Tensor) -> Tensor:
        errors = draw(law, 4000, 2, seed=0) - draw(sizes, 4000, 1, seed=1)
        if term == "energy":
            return almost_fair_energy_score(errors, 1.0, norm)
        return almost_fair_crps(coefficients(errors), 1.0).mean(dim=(1, 2))

    white = (sizes.square().mean()).sqrt().expand(16)
    best = score(sizes)
    for other in (white, 0.6 * sizes, 1.6 * sizes):
        gain = (score(other) - best).flatten()
        assert gain.mean() > 4 * gain.std() / len(gain) ** 0.5
