from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.losses.loss import (
    FieldStatistics,
    Loss,
    area_weighted_mse,
    pressure_weights,
)

KINDS = ("mse", "l1", "huber", "relative_l2", "amse", "crps")
GRID = LatLonGrid.equiangular(6, 8)
LABELS = ("temperature_500", "temperature_850", "2m_temperature")
MEAN, STD = (torch.tensor(v, dtype=torch.float64) for v in ([250.0, 270, 280], [10.0, 8, 12]))


def make_loss(
    kind: str = "mse",
    *,
    grid: LatLonGrid = GRID,
    unit: float = 1.0,
    field_weights: Tensor | None = None,
    **options: object,
) -> Loss:
    config = LossConfig(kind=kind, **options)  # type: ignore[arg-type]
    statistics = FieldStatistics(
        area_weights=torch.from_numpy(grid.area_weights()),
        mean=unit * MEAN,
        std=unit * STD,
        diff_std=unit * STD / 4,
        labels=LABELS,
        levels=(500, 850, None),
        field_weights=field_weights,
        latitude=grid.latitude,
        is_periodic=grid.is_periodic,
    )
    return Loss(config, statistics)


def make_fields(*shape: int, seed: int = 0, grid: LatLonGrid = GRID) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*shape, 3, *grid.shape, generator=generator, dtype=torch.float64)
    return MEAN[:, None, None] + STD[:, None, None] * noise


def by_hand(loss: Callable[[float], float]) -> float:
    """Area-weighted mean on two rows of 1 and 3 times the area, where the errors are 1, 2, 0, 4."""
    return (1 * (loss(1) + loss(2)) + 3 * (loss(0) + loss(4))) / 8


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mse", by_hand(lambda e: e * e)),
        ("l1", by_hand(abs)),
        ("huber", by_hand(lambda e: e * e / 2 if e < 1.5 else 1.5 * (e - 0.75))),
        ("relative_l2", (by_hand(lambda e: e * e) / 4) ** 0.5),
        ("crps", by_hand(abs)),
    ],
)
def test_values_by_hand(kind: str, expected: float) -> None:
    one = torch.ones(1, dtype=torch.float64)
    statistics = FieldStatistics(
        area_weights=torch.tensor([[0.5, 0.5], [1.5, 1.5]], dtype=torch.float64),
        mean=7 * one,
        std=3 * one,
        diff_std=10 * one,
        labels=["t"],
        levels=[None],
    )
    loss = Loss(LossConfig(kind=kind, huber_delta=1.5), statistics)  # type: ignore[arg-type]
    targets = torch.full((1, 1, 2, 2), 7 + 2 * 10.0, dtype=torch.float64)
    errors = torch.tensor([[1.0, -2], [0, 4]], dtype=torch.float64)
    torch.testing.assert_close(loss(targets + 10 * errors, targets), expected * one)


def test_mse_is_that_of_the_evaluation() -> None:
    loss = make_loss()
    predictions, targets = make_fields(4), make_fields(4, seed=1)
    averager = Averager(GRID.area_weights()[None] / np.prod(GRID.shape))
    error = (predictions - targets).numpy().reshape(-1, *GRID.shape)
    squared = torch.from_numpy(averager.mean_product(error, error)).reshape(targets.shape[:2])
    expected = squared / (STD / 4) ** 2
    torch.testing.assert_close(loss.by_channel(predictions, targets), expected)
    torch.testing.assert_close(loss(predictions, targets), expected.mean(dim=1))
    mean = area_weighted_mse(predictions, targets, loss.weights[0], loss.scale)
    torch.testing.assert_close(loss(predictions, targets).mean(), mean)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_forecast_has_no_loss(kind: str) -> None:
    fields = make_fields(2).requires_grad_()
    loss = make_loss(kind)(fields, fields.detach())
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-12, rtol=0)
    loss.sum().backward()
    assert fields.grad is not None
    assert fields.grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_unit_does_not_matter(kind: str) -> None:
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    scaled = make_loss(kind, unit=100.0)(100 * predictions, 100 * targets)
    torch.testing.assert_close(scaled, make_loss(kind)(predictions, targets))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_mix(kind: str) -> None:
    predictions, targets = make_fields(3), make_fields(3, seed=1)
    loss = make_loss(kind)
    whole = loss(predictions, targets)
    assert whole.shape == (3,)
    parts = [loss(predictions[i : i + 1], targets[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(whole, torch.cat(parts))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    grid = LatLonGrid.equiangular(3, 4)
    shape = (1, 3) if kind == "crps" else (1,)
    predictions = make_fields(*shape, grid=grid).requires_grad_()
    targets = make_fields(1, seed=1, grid=grid)
    loss = make_loss(kind, grid=grid)
    assert torch.autograd.gradcheck(lambda x: loss(x, targets), predictions)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_leaves_the_loss_alone(kind: str) -> None:
    predictions, targets = make_fields(2).float(), make_fields(2, seed=1).float()
    loss = make_loss(kind).float()
    expected = loss(predictions, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(predictions, targets)
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


@pytest.mark.parametrize("kind", ["mse", "l1", "huber", "relative_l2", "amse", "crps"])
def test_a_channel_that_never_changes_has_no_weight(kind: str) -> None:
    config = LossConfig(kind=kind)  # type: ignore[arg-type]
    both, alone = (
        Loss(
            config,
            FieldStatistics(
                area_weights=torch.from_numpy(GRID.area_weights()),
                latitude=GRID.latitude,
                mean=MEAN[chosen],
                std=STD[chosen],
                diff_std=STD[chosen] * torch.tensor([0.0, 0.3], dtype=STD.dtype)[chosen],
                labels=["a", "b"][chosen],
                levels=(None, None)[chosen],
            ),
        )
        for chosen in (slice(0, 2), slice(1, 2))
    )
    predictions, targets = make_fields(4, seed=1)[:, :2], make_fields(4)[:, :2]
    expected = alone(predictions[:, 1:], targets[:, 1:])
    torch.testing.assert_close(both(predictions, targets), expected)
    assert torch.isfinite(both.by_channel(predictions, targets)).all()


def test_pressure_weights_by_hand() -> None:
    weights = pressure_weights([500, 850, None, 1000, 50])
    torch.testing.assert_close(weights, torch.tensor([500, 850, 600, 1000, 50]) / 600)
    assert pressure_weights([None, None]).tolist() == [1, 1]


def test_channel_weights_by_hand() -> None:
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    loss = make_loss(level_weights="pressure", channel_weights={"2m_temperature": 0.5})
    weights = torch.tensor([500 / 675, 850 / 675, 0.5], dtype=torch.float64)
    expected = (weights * loss.by_channel(predictions, targets)).sum(dim=1) / weights.sum()
    torch.testing.assert_close(loss(predictions, targets), expected)


def test_inverse_one_step_variance_gives_persistence_the_loss_one() -> None:
    targets = make_fields(400)
    changes = STD[:, None, None] / 4 * torch.randn(targets.shape, dtype=torch.float64)
    value = make_loss()(targets + changes, targets).mean()
    assert abs(value - 1) < 0.05
    state = make_loss(scale="state")(targets + changes, targets).mean()
    torch.testing.assert_close(state, value / 16)


def test_one_norm_for_all_channels_as_fourcastnet() -> None:
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    loss = make_loss("relative_l2", scale="state")
    weights = torch.from_numpy(GRID.area_weights())
    error, target = (
        (weights * ((x - MEAN[:, None, None] * shift) / STD[:, None, None]).square()).mean((2, 3))
        for x, shift in ((predictions - targets, 0), (targets, 1))
    )
    torch.testing.assert_close(
        loss(predictions, targets), (error.sum(dim=1) / target.sum(dim=1)).sqrt()
    )
    torch.testing.assert_close(loss.by_channel(predictions, targets), (error / target).sqrt())
    by_channel = make_loss("relative_l2", relative_to="channel")
    torch.testing.assert_close(
        by_channel(predictions, targets), (error / target).sqrt().mean(dim=1)
    )


def test_fourcastnet_has_no_area_weights() -> None:
    """||x - y|| / ||y|| over all channels and points of normalized fields, as its code has it."""
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    loss = make_loss("relative_l2", scale="state", area_weights=False)
    x, y = (
        ((fields - MEAN[:, None, None]) / STD[:, None, None]).flatten(1)
        for fields in (predictions, targets)
    )
    expected = (x - y).square().sum(dim=1).sqrt() / y.square().sum(dim=1).sqrt()
    torch.testing.assert_close(loss(predictions, targets), expected)
    assert (loss(predictions, targets) - make_loss("relative_l2")(predictions, targets)).all()


@pytest.mark.parametrize("kind", ["mse", "l1", "huber", "crps"])
def test_points_count_alike_without_area_weights(kind: str) -> None:
    """An error at a point costs the same near a pole and at the equator."""
    targets = make_fields(1)
    loss, costs = make_loss(kind, area_weights=False), []
    for row in (0, 2):
        predictions = targets.clone()
        predictions[0, 1, row, 3] += 1
        costs.append(loss(predictions, targets))
    torch.testing.assert_close(costs[0], costs[1])


@pytest.mark.parametrize("kind", KINDS)
def test_filled_values_do_not_count(kind: str) -> None:
    mask = torch.ones(3, *GRID.shape)
    mask[0, :3] = 0  # half of a channel, by area too
    mask[2] = 0  # a whole channel
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    loss = make_loss(kind, field_weights=mask)
    elsewhere = torch.where(mask > 0, predictions, predictions + 100)
    torch.testing.assert_close(loss(elsewhere, targets), loss(predictions, targets))


def test_mean_over_what_is_not_filled_by_hand() -> None:
    mask = torch.ones(3, *GRID.shape)
    mask[0, :3] = 0
    mask[2] = 0
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    loss = make_loss(field_weights=mask)
    weights = torch.from_numpy(GRID.area_weights())
    squares = weights * ((predictions - targets) / (STD / 4)[:, None, None]).square()
    first = squares[:, 0, 3:].sum(dim=(1, 2)) / weights[3:].sum()
    second = squares[:, 1].sum(dim=(1, 2)) / weights.sum()
    expected = torch.stack([first, second, torch.zeros(2)], dim=1)
    torch.testing.assert_close(loss.by_channel(predictions, targets), expected)
    torch.testing.assert_close(loss(predictions, targets), (first + second) / 2)


def test_terms_are_added_with_their_weights() -> None:
    """Also with points that have no weight; of one member, coefficients of the error count."""
    mask = torch.ones(3, *GRID.shape)
    mask[0, :3] = 0
    predictions, targets = make_fields(2, 4), make_fields(2, seed=1)

    def by_channel(**weights: float) -> Tensor:
        loss = make_loss("crps", field_weights=mask, **weights)  # type: ignore[arg-type]
        return loss.by_channel(predictions, targets)

    plain, spectral, energy, both = (
        by_channel(spectral_weight=first, energy_weight=second)
        for first, second in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.3, 0.2))
    )
    expected = plain + 0.3 * (spectral - plain) + 0.2 * (energy - plain)
    torch.testing.assert_close(both, expected)
    assert (spectral > plain).all()
    assert (energy > plain).all()
    root = make_loss("mse", field_weights=mask).by_channel(predictions[:, 0], targets).sqrt()
    predictions = predictions[:, 0]
    torch.testing.assert_close(by_channel(energy_weight=1.0) - by_channel(), root)


def test_members_that_are_all_equal_have_a_gradient() -> None:
    """As those of a network whose noise has no effect yet; at a perfect forecast too."""
    loss = make_loss("crps", spectral_weight=0.5, energy_weight=0.5)
    targets = make_fields(2)
    for error in (0.0, 1.0):
        members = (targets[:, None] + error).repeat(1, 3, 1, 1, 1).requires_grad_()
        loss(members, targets).sum().backward()
        assert members.grad is not None
        assert members.grad.isfinite().all()
        assert (members.grad.abs().sum() > 0) == (error > 0)


def test_crps_of_one_member_is_the_absolute_error() -> None:
    predictions, targets = make_fields(2), make_fields(2, seed=1)
    for given in (predictions, predictions[:, None]):
        torch.testing.assert_close(
            make_loss("crps")(given, targets), make_loss("l1")(predictions, targets)
        )


@pytest.mark.parametrize("basis", ["spherical_harmonics", "zonal"])
def test_amse_against_mse(basis: str) -> None:
    adjusted, plain = make_loss("amse", spectral_basis=basis), make_loss("mse")
    predictions, targets = make_fields(5), make_fields(5, seed=1)
    above = adjusted.by_channel(predictions, targets) - plain.by_channel(predictions, targets)
    assert (above > 0).all()
    mean = MEAN[:, None, None]
    halved = mean + (targets - mean) / 2  # Coherent: only amplitudes differ.
    turned = targets.roll(2, dims=-1)  # The same power: only phases differ.
    for forecast in (halved, turned):
        torch.testing.assert_close(adjusted(forecast, targets), plain(forecast, targets))


def test_amse_takes_away_the_reward_for_smoothing() -> None:
    """Against an unpredictable truth, the best factor for a wave is 0 by MSE and 1 by AMSE."""
    adjusted, plain = make_loss("amse", spectral_basis="zonal"), make_loss("mse")
    phase = torch.deg2rad(torch.tensor(GRID.longitude, dtype=torch.float64))
    mean, scale = MEAN[:, None, None], STD[:, None, None]
    truth, forecast = (wave.expand(1, 3, *GRID.shape) for wave in (phase.cos(), phase.sin()))
    truth = mean + scale * truth
    factors = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0, 1.25])
    by_factor = [
        [loss(mean + f * scale * forecast, truth).item() for f in factors]
        for loss in (plain, adjusted)
    ]
    assert [values.index(min(values)) for values in by_factor] == [0, 4]


def test_amse_in_float32() -> None:
    predictions, targets = make_fields(3), make_fields(3, seed=1)
    expected = make_loss("amse")(predictions, targets)
    found = make_loss("amse").float()(predictions.float(), targets.float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=0)


def test_what_a_loss_cannot_take_is_named() -> None:
    region = LatLonGrid(latitude=(50.0, 40.0), longitude=(0.0, 10.0))
    with pytest.raises(ValueError, match="longitudes that close a circle"):
        make_loss("amse", grid=region)
    for kind in ("mse", "relative_l2"):
        with pytest.raises(ValueError, match="takes one forecast, got an ensemble"):
            make_loss(kind)(make_fields(2, 2), make_fields(2))
    with pytest.raises(ValueError, match="points that are not filled"):
        make_loss(field_weights=torch.zeros(3, *GRID.shape))


@pytest.mark.parametrize("weights", [{"pressure": 1.0}, dict.fromkeys(LABELS, 0.0)])
def test_weights_without_a_channel_are_named(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"loss\.channel_weights"):
        make_loss(channel_weights=weights)
