from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preprocessing.derived import with_derived
from fourcastnet_afno.forecaster.checkpoint import add_prefix, load_forecaster, save_checkpoint
from fourcastnet_afno.forecaster.config import DiagnosticConfig
from fourcastnet_afno.forecaster.diagnostic_head import (
    DiagnosticHead,
    DiagnosticStepper,
    describe_diagnostic,
    load_diagnostic,
)
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from fourcastnet_afno.training.build_loss import build_diagnostic_loss
from fourcastnet_afno.training.config import RolloutConfig
from fourcastnet_afno.training.objectives import DiagnosticLoss
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_forecaster, make_states

CHANNELS = Channels(
    (
        Channel(name="total_precipitation_6hr", units="m"),
        Channel(name="log_total_precipitation_6hr", units="1"),
        Channel(name="2m_dewpoint_temperature", units="K"),
    )
)
NETWORK = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=1, num_blocks=2)


def make_head(forecaster: Forecaster, network: AFNONetConfig = NETWORK) -> DiagnosticHead:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return DiagnosticHead(
            DiagnosticConfig(network=network),
            forecaster,
            CHANNELS,
            mean=torch.tensor([1e-3, 2.0, 275.0]),
            std=torch.tensor([2e-3, 4.0, 5.0]),
        )


def make_targets(batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(batch, 3, *GRID.shape, generator=generator)
    rain = torch.clamp_min(noise[:, 0], 0) * 1e-3
    return torch.stack([rain, torch.log1p(rain / 1e-5), 275 + 5 * noise[:, 2]], dim=1)


def predicting(head: DiagnosticHead, values: list[float]) -> DiagnosticHead:
    """The head with a network that gives the same values everywhere."""
    constant = torch.tensor(values)[None, :, None, None]
    head.network.forward = lambda state: constant.expand(  # type: ignore[method-assign]
        len(state), -1, *GRID.shape
    )
    return head


def test_channels_by_hand() -> None:
    head = predicting(make_head(make_forecaster()), [2.0, 0.5, -3.0])
    found = head(make_states(make_forecaster(), 4))
    expected = torch.tensor([1e-5 * (np.exp(2) - 1), 4 * 0.5, 275 - 5 * 3.0])
    torch.testing.assert_close(found, expected[None, :, None, None].expand_as(found).float())


def test_precipitation_is_never_negative() -> None:
    forecaster = make_forecaster()
    found = predicting(make_head(forecaster), [-2.0, -0.5, -3.0])(make_states(forecaster, 1))
    assert (found[:, :2] == 0).all()
    assert (found[:, 2] == 260).all()
    fresh = make_head(forecaster)(make_states(forecaster, 4))
    assert fresh[:, 0].min() == fresh[:, 1].min() == 0
    assert (fresh[:, :2] > 0).any()


def test_transforms_are_inverse() -> None:
    head, fields = make_head(make_forecaster()), make_targets(3)
    torch.testing.assert_close(head.to_physical(head.to_network(fields)), fields)


def test_the_logarithm_is_the_one_of_the_data() -> None:
    rain = xr.DataArray(
        np.random.default_rng(0).gamma(0.1, 1e-3, (6, *GRID.shape)).astype("f4"),
        dims=("time", *GRID.dims),
        coords={
            "time": np.datetime64("2001-01-01", "ns") + np.arange(6) * np.timedelta64(1, "h"),
            **GRID.coords,
        },
    )
    rain[:-1] = 0  # The last hour has all of the sum over six.
    names = ["total_precipitation_6hr", "log_total_precipitation_6hr"]
    dataset = xr.Dataset({"total_precipitation": rain, names[0]: rain})
    derived = with_derived(dataset, names).isel(time=[-1])
    amount, logarithm = (torch.from_numpy(derived[name].values) for name in names)
    fields = torch.stack([amount, logarithm, amount], dim=1)
    found = make_head(make_forecaster()).to_network(fields)
    torch.testing.assert_close(found[:, 0], logarithm)


def test_the_convolution_closes_the_circle() -> None:
    """On a global grid it commutes with a turn about the axis, on a region it does not."""
    forecaster = make_forecaster()
    head = make_head(forecaster).eval()
    nn.init.normal_(head.smoothing.weight, generator=torch.Generator().manual_seed(0))
    head.network.forward = lambda state: state[:, [0, 1, 0]]  # type: ignore[method-assign]
    state = make_states(forecaster, 1)
    turned = head.predict(state.roll(4, dims=-1))
    torch.testing.assert_close(turned, head.predict(state).roll(4, dims=-1))
    head.padding_modes = ("replicate", "replicate")
    assert not torch.allclose(head.predict(state.roll(4, dims=-1)), turned)


def make_loss(head: DiagnosticHead, forecaster: Forecaster, **settings: object) -> DiagnosticLoss:
    loss = build_diagnostic_loss(LossConfig(kind="relative_l2"), head)
    return DiagnosticLoss(head, forecaster, loss, RolloutConfig(**settings))  # type: ignore[arg-type]


def test_the_forecaster_stays_frozen() -> None:
    forecaster = make_forecaster()
    head = make_head(forecaster).train()
    before = {name: t.clone() for name, t in forecaster.state_dict().items()}
    loss = make_loss(head, forecaster)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    state, forcing = make_states(forecaster, 2, 1), torch.zeros(2, 1, 1, *GRID.shape)
    values = []
    for _ in range(20):
        optimizer.zero_grad()
        by_sample = loss(state, forcing, make_targets(2)[:, None])
        assert by_sample.shape == (2,)
        by_sample.mean().backward()
        optimizer.step()
        values.append(by_sample.mean().item())
    assert values[-1] < 0.8 * values[0]
    assert not forecaster.training
    assert all(p.grad is None for p in forecaster.parameters())
    assert all(torch.equal(t, before[name]) for name, t in forecaster.state_dict().items())


def test_relative_l2_of_logarithms_by_hand() -> None:
    forecaster = make_forecaster()
    head = predicting(make_head(forecaster), [0.0, 0.0, 0.0])
    state, forcing = make_states(forecaster, 2, 1), torch.zeros(2, 1, 1, *GRID.shape)
    found = make_loss(head, forecaster)(state, forcing, make_targets(2)[:, None])
    torch.testing.assert_close(found, torch.ones(2))  # Predicting 0 misses all of the norm.


def test_the_loss_of_two_steps_is_that_of_both_states() -> None:
    forecaster = make_forecaster(num_history=2).eval()
    head, targets = make_head(forecaster).eval(), make_targets(4).unflatten(0, (2, 2))
    state, forcing = make_states(forecaster, 2, 2), torch.rand(2, 2, 1, *GRID.shape)
    loss = make_loss(head, forecaster, discount=0.5)
    first, second = rollout(forecaster, state, forcing.unbind(1), 2)
    of_state = [
        loss.loss(head.predict(s), head.to_network(targets[:, i]))
        for i, s in enumerate((first, second))
    ]
    expected = of_state[0] * 2 / 3 + of_state[1] / 3
    torch.testing.assert_close(loss(state, forcing, targets), expected)
    by_channel = loss.by_channel(state, forcing, targets)
    assert by_channel.shape == (2, 2, 3)
    alone = loss.loss.by_channel(head.predict(second), head.to_network(targets[:, 1]))
    torch.testing.assert_close(by_channel[:, 1], alone)


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    forecaster = make_forecaster().eval()
    head, path = make_head(forecaster).eval(), tmp_path / "head.safetensors"
    head.filled = torch.full((3, *GRID.shape), torch.nan)
    head.filled[2, 1, 1] = 270.0
    weights = add_prefix("diagnostic", head.state_dict())
    weights |= add_prefix("forecaster", forecaster.state_dict())
    record = {"diagnostic": describe_diagnostic(head, forecaster)}
    save_checkpoint(path, forecaster, weights, record)
    loaded, behind = load_diagnostic(path)
    state, forcing = make_states(forecaster, 2, 1), torch.zeros(2, 1, *GRID.shape)
    assert loaded.channels == CHANNELS
    assert loaded.config == head.config
    assert torch.equal(behind(state, forcing), forecaster(state, forcing))
    predicted = head(state[:, 0])
    assert torch.equal(loaded(state[:, 0]).nan_to_num(), predicted.nan_to_num())
    assert torch.argwhere(predicted.isnan()).tolist() == [[0, 2, 1, 1], [1, 2, 1, 1]]
    written = DiagnosticStepper(loaded, behind)(state, forcing)
    assert torch.equal(written.isnan(), predicted.isnan())
    assert torch.equal(load_forecaster(path)(state, forcing), forecaster(state, forcing))


def test_what_is_no_head_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", make_forecaster(), {}, {})
    with rejects("no-diagnostic-head", "a.safetensors"):
        load_diagnostic(tmp_path / "a.safetensors")


def test_a_region_does_not_wrap() -> None:
    region = LatLonGrid(latitude=(60.0, 50.0, 40.0, 30.0), longitude=(0.0, 10.0, 20.0, 30.0))
    plain = AFNONetConfig(
        patch_size=(2, 2), embed_dim=8, depth=1, num_blocks=2, padding=Padding(longitude="reflect")
    )
    forecaster = make_forecaster(region, network=plain)
    assert make_head(forecaster, plain).padding_modes == ("replicate", "replicate")
    with rejects("boundary-mismatch", "diagnostic.network.padding.longitude=wrap"):
        make_head(forecaster)
