from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from fourcastnet_afno.fine_tuning.adapters import (
    LowRank,
    adapt,
    adapter_state,
    is_original,
    merged_state,
    own_state,
)
from fourcastnet_afno.fine_tuning.config import AdapterConfig
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.config import OptimizerConfig, TrainingConfig
from fourcastnet_afno.training.optimizers.build import build_optimizer
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states

KERNELS: dict[str, Any] = {"wavenumber_weights": "kernel", "kernel_window": 4}
_SMALL: dict[str, Any] = {"patch_size": (2, 2), "embed_dim": 16, "depth": 2, "num_blocks": 2}
MIXERS: list[dict[str, Any]] = [
    {},
    KERNELS,
    *({"mixer": m, "reference_grid": (3, 6)} for m in ("fno", "global_filter")),
]


def make_adapted(network: Mapping[str, Any] = MIXERS[0]) -> Forecaster:
    """An adapted forecaster, whose factors are both random."""
    forecaster = make_forecaster(network=AFNONetConfig(**_SMALL, **network))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        adapt(forecaster, AdapterConfig(rank=1))
    return forecaster


def perturb_factors(module: nn.Module) -> None:
    """Give the factors of a module that are zero other values."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in module.modules():
            if type(layer) is LowRank:
                layer.left.add_(0.1 * torch.randn(layer.left.shape, generator=generator))


def fields_of(forecaster: Forecaster) -> tuple[torch.Tensor, torch.Tensor]:
    return make_states(forecaster, 2, 1), torch.ones(2, 1, *forecaster.spec.grid.shape)


def test_a_change_by_hand() -> None:
    change = LowRank(torch.zeros(2, 2), rank=1, alpha=3.0)
    with torch.no_grad():
        change.left.copy_(torch.tensor([[1.0], [2.0]]))
        change.right.copy_(torch.tensor([[5.0, 7.0]]))
    assert change(torch.ones(2, 2)).tolist() == [[16, 22], [31, 43]]


@pytest.mark.parametrize("network", MIXERS)
def test_it_starts_as_the_network_without(network: dict[str, Any]) -> None:
    plain = make_forecaster(network=AFNONetConfig(**_SMALL, **network))
    adapted = make_adapted(network)
    assert torch.equal(adapted(*fields_of(plain)), plain(*fields_of(plain)))
    before, merged = plain.state_dict(), merged_state(adapted)
    assert before.keys() == merged.keys()
    assert all(torch.equal(merged[name], tensor) for name, tensor in before.items())
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert 0 < trained < 0.5 * sum(p.numel() for p in plain.parameters())
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(name.endswith((".left", ".right")) for name in names)


@pytest.mark.parametrize("network", MIXERS)
def test_sums_in_a_plain_network_forecast_the_same(network: dict[str, Any]) -> None:
    adapted = make_adapted(network)
    before = adapted(*fields_of(adapted))
    perturb_factors(adapted)
    plain = make_forecaster(network=AFNONetConfig(**_SMALL, **network))
    plain.load_state_dict(merged_state(adapted))
    assert torch.equal(plain(*fields_of(plain)), adapted(*fields_of(plain)))
    assert not torch.equal(plain(*fields_of(plain)), before)


def test_the_state_is_that_of_sums_and_factors() -> None:
    adapted, other = make_adapted(), make_adapted()
    perturb_factors(adapted)
    factors = {name: t for name, t in adapter_state(adapted).items() if not is_original(name)}
    other.load_state_dict(own_state(other, merged_state(adapted), factors))
    assert torch.equal(adapted(*fields_of(adapted)), other(*fields_of(adapted)))


def test_every_factor_gets_a_gradient_and_muon_takes_it() -> None:
    adapted = make_adapted(KERNELS)
    perturb_factors(adapted)
    optimizer = build_optimizer(OptimizerConfig(name="muon"), adapted)
    assert sum(len(g["params"]) for g in optimizer.param_groups if g["is_matrix"]) == 2 * 2 * 5
    adapted(*fields_of(adapted)).square().sum().backward()
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in trained)


def test_what_is_trained_besides() -> None:
    forecaster = make_forecaster()
    patterns = ["network.patch_embed.*", "*.norm1.*"]
    adapt(forecaster, AdapterConfig(rank=2, layers=["*.mixer.*", "*.mlp.*"], trained=patterns))
    plain = {n for n, p in forecaster.named_parameters() if p.requires_grad and "param" not in n}
    # Matrices of 4 x 4 have as many numbers as two factors of rank 2.
    mixers = {f"network.blocks.{i}.mixer.weight{k}" for i in (0, 1) for k in (1, 2)}
    norms = {f"network.blocks.{i}.norm1.{kind}" for i in (0, 1) for kind in ("weight", "bias")}
    ends = {f"network.patch_embed.projection.{kind}" for kind in ("weight", "bias")}
    assert plain == mixers | norms | ends


@pytest.mark.parametrize("setting", ["layers", "trained"])
def test_patterns_that_match_nothing_are_rejected(setting: str) -> None:
    config = replace(AdapterConfig(rank=1), **{setting: ["network.attention.*"]})
    with rejects("bad-setting", f"training.adapters.{setting}", "network.attention.*"):
        adapt(make_forecaster(), config)


def test_sharded_weights_have_no_adapters() -> None:
    with pytest.raises(ValueError, match=r"training.adapters needs whole weights"):
        TrainingConfig(parallel="fsdp", adapters=AdapterConfig(rank=1))
