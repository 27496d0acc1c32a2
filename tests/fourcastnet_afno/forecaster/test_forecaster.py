from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.band_limit import BandLimit
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from tests.builders.errors import rejects

GLOBAL = LatLonGrid.equiangular(6, 12)
REGION = LatLonGrid(latitude=(60.0, 50.0, 40.0, 30.0), longitude=(0.0, 10.0, 20.0, 30.0))
MEAN, STD, DIFF_STD = (
    torch.tensor([1e5, 280.0]),
    torch.tensor([1e3, 10.0]),
    torch.tensor([300.0, 2]),
)


def make_forecaster(
    grid: LatLonGrid = GLOBAL, spec: FieldSpec | None = None, **options: object
) -> Forecaster:
    spec = spec or FieldSpec(
        channels=Channels((Channel(name="pressure"), Channel(name="temperature"))),
        static_channels=Channels(()),
        forcings=("day_of_year_sin",),
        grid=grid,
        step=Timestep.parse("6h"),
    )
    padding = options.pop("padding", Padding())
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=1, num_blocks=2, padding=padding)  # type: ignore[arg-type]
    config = ModelConfig(network=network, **options)  # type: ignore[arg-type]
    fields = {"static": torch.zeros(0, *grid.shape), "mean_state": make_mean_state(grid)}
    return Forecaster(config, spec, mean=MEAN, std=STD, diff_std=DIFF_STD, **fields)


def make_mean_state(grid: LatLonGrid = GLOBAL) -> torch.Tensor:
    """Warmer by 20 K at the equator."""
    cosine = torch.from_numpy(np.cos(np.deg2rad(np.array(grid.latitude)))).float()[:, None]
    fields = [1e5 + 0 * cosine, 270 + 20 * cosine]
    return torch.stack([field.expand(grid.shape) for field in fields])


def make_state() -> torch.Tensor:
    noise = torch.randn(3, 1, 2, 6, 12, generator=torch.Generator().manual_seed(0))
    return MEAN[:, None, None] + STD[:, None, None] * noise


@pytest.mark.parametrize("prediction", ["residual", "direct"])
def test_constant_network_output_by_hand(prediction: str) -> None:
    forecaster = make_forecaster(prediction=prediction)
    forecaster.network.forward = lambda inputs, noise: torch.ones_like(inputs[:, :2])  # type: ignore[method-assign]
    state, forcing = make_state(), torch.zeros(3, 1, 6, 12)
    expected = state[:, -1] + DIFF_STD[:, None, None]
    if prediction == "direct":
        expected = (MEAN + STD)[:, None, None].expand_as(expected)
    torch.testing.assert_close(forecaster(state, forcing), expected)


@pytest.mark.parametrize("prediction", ["residual", "direct"])
def test_a_channel_that_never_changes_is_kept(prediction: str) -> None:
    spec, state = make_forecaster().spec, make_state()
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=1, num_blocks=2)
    config = ModelConfig(network=network, prediction=prediction)  # type: ignore[arg-type]
    still = DIFF_STD * torch.tensor([0, 1])
    fields = {"mean": MEAN, "std": STD, "diff_std": still}
    forecaster = Forecaster(config, spec, static=torch.zeros(0, 6, 12), **fields)
    following = forecaster(state, torch.zeros(3, 1, 6, 12))
    assert torch.equal(following[:, 0], state[:, -1, 0])
    assert not torch.equal(following[:, 1], state[:, -1, 1])


@pytest.mark.parametrize("prediction", ["residual", "direct"])
def test_points_that_never_had_a_value_have_that_of_training(prediction: str) -> None:
    """Whatever is there, the network sees the fill, and gives it back, step after step."""
    without, filled = make_forecaster(prediction=prediction), torch.full((2, 6, 12), torch.nan)
    filled[1, 2:4, 3:8] = 271.5
    network = ModelConfig(prediction=prediction, network=without.config.network)  # type: ignore[arg-type]
    fields = {"mean": MEAN, "std": STD, "diff_std": DIFF_STD, "static": torch.zeros(0, 6, 12)}
    forecaster = Forecaster(network, without.spec, **fields, filled=filled)
    forecaster.network.load_state_dict(without.network.state_dict())
    state, forcing = make_state(), torch.zeros(3, 1, 6, 12)
    other = torch.where(filled.isnan(), state, torch.nan)
    assert torch.equal(forecaster(state, forcing), forecaster(other, forcing))
    at_fill = torch.where(filled.isnan(), state, filled)
    expected = without(at_fill, forcing)
    for following in rollout(forecaster, state, [forcing] * 3, 3):
        assert (following[:, 1, 2:4, 3:8] == 271.5).all()
        torch.testing.assert_close(following[:, 0], expected[:, 0])
        expected = without(torch.where(filled.isnan(), expected, filled)[:, None], forcing)
    finer = forecaster.on_grid(LatLonGrid.equiangular(12, 24))
    on_land = finer(torch.rand(1, 1, 2, 12, 24) + 280, forcing[:1])[0, 1] == 271.5
    assert on_land[5:7, 7:15].all()
    assert not on_land[:3].any()
    assert not on_land[:, :5].any()


def test_patches_count_points_of_the_states() -> None:
    forecaster, finer = make_forecaster(), LatLonGrid.equiangular(12, 24)
    native = forecaster.on_grid(finer, "native")
    assert forecaster.patch_size == native.patch_size == (2, 2)
    assert forecaster.on_grid(finer).patch_size is None


def test_forcings_and_coordinates_reach_the_network() -> None:
    forecaster = make_forecaster()
    seen = []
    forecaster.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    times = np.array(["2001-04-01"] * 3, "datetime64[ns]")
    forecaster(make_state(), forecaster.forcing_at(times))
    assert seen[0].shape == (3, 2 + 1 + 3, 6, 12)
    torch.testing.assert_close(
        seen[0][0, 3:], torch.from_numpy(GLOBAL.coordinate_channels()).float()
    )
    angle = 2 * np.pi * 90 / 365.2425
    torch.testing.assert_close(seen[0][:, 2], torch.full((3, 6, 12), float(np.sin(angle))))


def test_radiation_reaches_the_network_over_the_solar_constant() -> None:
    """Forcings are physical outside; the network sees J m-2 of an hour over 1361 W m-2 * 3600 s."""
    names = ("toa_incident_solar_radiation", "latitude_sin")
    plain = make_forecaster()
    forecaster = make_forecaster(spec=replace(plain.spec, forcings=names))
    seen = []
    forecaster.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    times = np.array(["2001-04-01T13"] * 3, "datetime64[ns]")
    forcing = forecaster.forcing_at(times)
    assert 4e6 < forcing[:, 0].max() < 1361 * 3600 * 1.035
    forecaster(make_state(), forcing)
    torch.testing.assert_close(seen[0][:, 2], forcing[:, 0] / (1361 * 3600))
    assert torch.equal(seen[0][:, 3], forcing[:, 1])


@pytest.mark.parametrize(
    ("grid", "axis"),
    [(GLOBAL, "latitude"), (REGION, "longitude")],
)
def test_padding_joins_neighbors_alone(grid: LatLonGrid, axis: str) -> None:
    padding = {axis: "wrap"}
    with rejects("boundary-mismatch", f"model.network.padding.{axis}=wrap"):
        make_forecaster(grid, padding=Padding(**padding))  # type: ignore[arg-type]


def test_spec_round_trip() -> None:
    spec = make_forecaster().spec
    assert FieldSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("band_limit", [None, 0.5])
def test_without_a_network_states_are_drawn_to_the_mean(band_limit: float | None) -> None:
    """By a factor e in two days, waves beyond the band by half each step of six hours."""
    forecaster = make_forecaster(band_limit=band_limit, damping_days=2.0, short_waves="decay")
    silence(forecaster)
    state, mean = make_state(), make_mean_state()
    limit = forecaster.band_limit if band_limit else torch.nn.Identity()
    anomaly = state[:, -1] - mean
    damped = limit(anomaly) * np.exp(-0.25 / 2) + 0.5 * (anomaly - limit(anomaly))
    following = forecaster(state, torch.zeros(3, 1, 6, 12))
    torch.testing.assert_close(following - mean, damped, rtol=0, atol=0.02)


def test_diffusion_damps_long_waves_in_addition() -> None:
    """A wave of two thirds of the largest wavenumber loses 4/9 of an e-folding in six hours."""
    forecaster = make_forecaster(
        band_limit=0.5, damping_days=2.0, short_waves="decay", diffusion_hours=6.0
    )
    silence(forecaster)
    mean, longitude = make_mean_state(), torch.arange(12) * 2 * torch.pi / 12
    waves = torch.stack([torch.ones(12), torch.cos(2 * longitude), torch.cos(5 * longitude)])
    state = mean + 1000 * waves[:, None, None, None]
    following = forecaster(state, torch.zeros(3, 1, 6, 12)) - mean
    factors = np.exp(-0.25 / 2), np.exp(-0.25 / 2 - 4 / 9), 0.5  # the last is beyond the band
    for wave, factor, result in zip(waves, factors, following, strict=True):
        torch.testing.assert_close(result[0], (1000 * factor * wave).expand(6, -1), rtol=0, atol=2)


@pytest.mark.parametrize("power", [1, 2])
def test_damping_grows_with_the_size_of_the_anomaly(power: int) -> None:
    """By hand: A = exp(-(6 h / 2 days) r^p), r the size by that of training, of both channels.

    Pressure varies by its std, as its mean state is constant. The mean state of temperature
    differs from 280 K by 20 cos(latitude) - 10, of mean square 100 - 100 pi + 800 / 3.
    """
    grid = LatLonGrid.equiangular(60, 12)
    forecaster = make_forecaster(grid, damping_days=2.0, damping_power=power)
    silence(forecaster)
    sizes = torch.tensor([[0.5, 1.0], [2.0, 3.0]])
    usual = torch.tensor([1e3, (100 * np.pi - 800 / 3) ** 0.5])
    pattern = torch.from_numpy(np.sin(2 * np.deg2rad(np.array(grid.longitude)))).float()
    anomaly = (sizes * usual * 2**0.5)[..., None, None] * pattern.expand(60, 12)
    state = make_mean_state(grid) + anomaly
    following = forecaster(state[:, None], torch.zeros(2, 1, 60, 12)) - make_mean_state(grid)
    together = torch.tensor([(0.25 + 1) / 2, (4 + 9) / 2]).sqrt()
    factors = torch.exp(-0.125 * together**power)[:, None, None, None]
    torch.testing.assert_close(following, factors * anomaly, rtol=2e-3, atol=0.02)


@pytest.mark.parametrize("growth", [0.06, 0.08, 0.1])
def test_forecasts_that_grow_keep_the_size_of_training(growth: float) -> None:
    """Growth and damping balance where r^2 = -T / dt ln(1 - growth): at 1 for 8 %."""
    forecaster = make_forecaster(damping_days=3.0, damping_power=2)
    mean, scale = make_mean_state(), DIFF_STD[:, None, None]
    state = make_state()[:1]
    for _ in range(400):
        change = growth * (state[:, -1] - mean) / scale
        forecaster.network.forward = lambda inputs, noise: change  # type: ignore[method-assign] # noqa: B023
        state = forecaster(state, torch.zeros(1, 1, 6, 12))[:, None]
    squares = torch.from_numpy(GLOBAL.area_weights()) * (state[0, 0] - mean).square()
    variance = torch.tensor([1e6, forecaster.scales.std[1].item() ** 2 - spatial_variance()])
    size = (squares.mean(dim=(1, 2)) / variance).mean()
    assert size == pytest.approx(-12 * np.log(1 - growth), rel=0.01)


def test_another_damping_power_is_that_of_a_model_that_has_it() -> None:
    options = {"band_limit": 0.5, "short_waves": "decay", "damping_days": 2.0}
    state, forcing = make_state(), torch.zeros(3, 1, 6, 12)
    torch.manual_seed(0)
    constant = make_forecaster(**options)
    torch.manual_seed(0)
    growing = make_forecaster(damping_power=1, **options)
    expected = growing(state, forcing)
    assert torch.equal(constant.with_damping_power(1)(state, forcing), expected)
    assert torch.equal(growing.with_damping_power(0)(state, forcing), constant(state, forcing))
    with rejects("bad-setting", "damping_power=1", "model.damping_days"):
        make_forecaster().with_damping_power(1)


def spatial_variance() -> float:
    """Mean square difference of the mean state of temperature from 280 K."""
    difference = make_mean_state()[1].double().numpy() - 280
    return float((GLOBAL.area_weights() * difference**2).mean())


def test_months_are_damped_by_their_mean_length() -> None:
    spec = replace(make_forecaster().spec, step=Timestep.parse("1MS"))
    forecaster = make_forecaster(spec=spec, damping_days=365.2425)
    silence(forecaster)
    state, mean = make_state(), make_mean_state()
    anomaly = forecaster(state, torch.zeros(3, 1, 6, 12)) - mean
    expected = np.exp(-1 / 12) * (state[:, -1] - mean)
    torch.testing.assert_close(anomaly, expected, rtol=0, atol=0.1)


def silence(forecaster: Forecaster) -> None:
    """Have the network predict no change."""
    for parameter in forecaster.network.patch_recovery.parameters():
        torch.nn.init.zeros_(parameter)


def test_without_a_network_short_waves_persist_or_halve() -> None:
    state, forcing = make_state(), torch.zeros(3, 1, 6, 12)
    for short_waves, kept in (("persist", 1.0), ("decay", 0.5)):
        forecaster = make_forecaster(band_limit=0.5, short_waves=short_waves)
        silence(forecaster)
        following, limit = forecaster(state, forcing), forecaster.band_limit
        short = state[:, -1] - limit(state[:, -1])
        torch.testing.assert_close(following, state[:, -1] - (1 - kept) * short, rtol=0, atol=0.02)


@pytest.mark.parametrize("prediction", ["residual", "direct"])
def test_predictions_have_no_waves_beyond_the_band(prediction: str) -> None:
    forecaster, state = make_forecaster(prediction=prediction, band_limit=0.5), make_state()
    forecaster.network.forward = lambda inputs, noise: torch.randn_like(inputs[:, :2])  # type: ignore[method-assign]
    predicted = forecaster(state, torch.zeros(3, 1, 6, 12))
    if prediction == "residual":
        predicted = predicted - state[:, -1]
    torch.testing.assert_close(forecaster.band_limit(predicted), predicted, rtol=0, atol=0.05)


def test_changes_fade_towards_a_smooth_edge_of_the_band() -> None:
    forecaster, state = make_forecaster(band_limit=0.5, band_edge="smooth"), make_state()
    output = torch.randn(3, 2, 6, 12, generator=torch.Generator().manual_seed(0))
    forecaster.network.forward = lambda inputs, noise: output  # type: ignore[method-assign]
    assert isinstance(forecaster.band_limit, BandLimit)
    expected = forecaster.band_limit.faded(DIFF_STD[:, None, None] * output)
    change = forecaster(state, torch.zeros(3, 1, 6, 12)) - state[:, -1]
    torch.testing.assert_close(change, expected, rtol=0, atol=0.05)


def test_damping_by_size_needs_its_days() -> None:
    with pytest.raises(ValueError, match="damping_power needs damping_days"):
        ModelConfig(damping_power=2)


def test_diffusion_needs_a_band_and_a_mean() -> None:
    with pytest.raises(ValueError, match="diffusion_hours needs a band_limit and damping_days"):
        ModelConfig(diffusion_hours=10.0, damping_days=5.0)


def test_a_smooth_edge_is_that_of_a_band() -> None:
    with pytest.raises(ValueError, match="band_edge=smooth needs a band_limit"):
        ModelConfig(band_edge="smooth")


def test_a_damped_forecast_is_bounded_by_construction() -> None:
    """The part within the band stays in the ball of radius C / (1 - A), whatever is predicted."""
    forecaster = make_forecaster(band_limit=0.5, damping_days=2.0, short_waves="decay")
    torch.manual_seed(0)
    push = torch.sign(torch.randn(3, 2, 6, 12))
    forecaster.network.forward = lambda inputs, noise: push  # type: ignore[method-assign]
    limit, scale = forecaster.band_limit, DIFF_STD[:, None, None]
    largest = limit(scale * push).div(scale).norm(dim=(-2, -1))
    state, mean = make_mean_state().expand(3, 1, -1, -1, -1), make_mean_state()
    sizes = []
    for following in rollout(forecaster, state, [torch.zeros(3, 1, 6, 12)] * 80, 80):
        sizes.append(limit(following - mean).div(scale).norm(dim=(-2, -1)))
    bound = largest / (1 - np.exp(-0.25 / 2))
    assert all((size <= 1.001 * bound).all() for size in sizes)
    torch.testing.assert_close(sizes[-1], bound.to(sizes[-1].dtype), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "setting", [{"damping_days": 5.0}, {"short_waves": "decay"}, {"band_edge": "smooth"}]
)
def test_a_direct_forecaster_has_no_state_to_damp(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"model.{next(iter(setting))} is for prediction=residual"):
        ModelConfig(prediction="direct", **setting)  # type: ignore[arg-type]
