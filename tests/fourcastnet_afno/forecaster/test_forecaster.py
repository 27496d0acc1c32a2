from dataclasses import replace

import numpy as np
import pytest
import torch

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep
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
    static = torch.zeros(0, *grid.shape)
    return Forecaster(config, spec, mean=MEAN, std=STD, diff_std=DIFF_STD, static=static)


def make_state() -> torch.Tensor:
    noise = torch.randn(3, 1, 2, 6, 12, generator=torch.Generator().manual_seed(0))
    return MEAN[:, None, None] + STD[:, None, None] * noise


@pytest.mark.parametrize("prediction", ["residual", "direct"])
def test_constant_network_output_by_hand(prediction: str) -> None:
    forecaster = make_forecaster(prediction=prediction)
    forecaster.network.forward = lambda inputs: torch.ones_like(inputs[:, :2])  # type: ignore[method-assign]
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
