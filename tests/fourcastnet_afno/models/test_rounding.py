"""Weights held in bfloat16 give the bits of autocast, and take half of the memory."""

import copy

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.models.rounding import round_weights

NETWORKS: dict[str, dict] = {
    "plain": {},
    "fourcastnet's": {"mode_selection": "fourcastnet"},
    "kernels": {"wavenumber_weights": "kernel"},
    "gated": {"gated_mlp": True},
    "positions": {"position_grid": (4, 8)},
    "fno": {"mixer": "fno", "reference_grid": (4, 8)},
    "global filter": {"mixer": "global_filter", "reference_grid": (4, 8)},
    "attention": {"mixer": "attention"},
}


def make_network(noise_channels: int = 0, **changes: object) -> AFNONet:
    settings: dict = {"patch_size": (2, 2), "embed_dim": 16, "depth": 2, "num_blocks": 2} | changes
    torch.manual_seed(0)
    config = AFNONetConfig(**settings)
    network = AFNONet(3, 2, config=config, noise_channels=noise_channels, noise_width=8).eval()
    with torch.no_grad():  # biases and modulations too
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return network


def under_autocast(network: nn.Module, *fields: Tensor) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return network(*fields)


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS.keys())
def test_rounded_weights_have_the_bits_of_autocast(settings: dict) -> None:
    network, fields = make_network(**settings), torch.randn(3, 3, 8, 16)
    rounded = copy.deepcopy(network)
    round_weights(rounded)
    assert torch.equal(under_autocast(rounded, fields), under_autocast(network, fields))


@pytest.mark.parametrize("kind", ["plain", "kernels"])
def test_rounded_weights_of_a_network_with_noise_have_the_bits_of_autocast(kind: str) -> None:
    network = make_network(noise_channels=2, **NETWORKS[kind])
    fields, noise = torch.randn(3, 3, 8, 16), torch.randn(3, 2, 8, 16)
    expected = under_autocast(network, fields, noise)
    round_weights(network)
    assert torch.equal(under_autocast(network, fields, noise), expected)


def test_weights_of_products_take_half_of_the_memory_and_others_stay() -> None:
    network = make_network(noise_channels=2, wavenumber_weights="kernel")
    before = {name: parameter.nbytes for name, parameter in network.named_parameters()}
    keys = list(network.state_dict())
    round_weights(network)
    after = {name: parameter.nbytes for name, parameter in network.named_parameters()}
    wide = {name for name in before if "norm" in name or "kernels" in name}
    assert after == {name: size if name in wide else size / 2 for name, size in before.items()}
    assert list(network.state_dict()) == keys


def test_weights_that_are_rounded_stay_as_they_are() -> None:
    network = make_network()
    round_weights(network)
    once = dict(network.named_parameters())
    round_weights(network)
    assert all(parameter is once[name] for name, parameter in network.named_parameters())
