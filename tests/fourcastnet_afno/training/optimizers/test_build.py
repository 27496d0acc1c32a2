import copy
import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.training.config import OptimizerConfig
from fourcastnet_afno.training.optimizers.build import (
    build_optimizer,
    freeze,
    load_optimizer,
    pack_steps,
    parameter_groups,
    set_learning_rate,
    unpack_steps,
)
from tests.builders.errors import rejects

HAS_APEX = torch.cuda.is_available() and find_spec("amp_C") is not None
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def make_network(**options: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2, **options)  # type: ignore[arg-type]
        return AFNONet(2, 1, config=config)


def take_steps(
    module: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int = 5, seed: int = 0
) -> dict[str, Tensor]:
    """The weights after steps with gradients that depend on the step alone."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(num_steps):
        for parameter in module.parameters():
            gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if parameter.requires_grad:
                parameter.grad = gradient.to(parameter)
        optimizer.step()
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], **tolerance: float) -> None:
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], **tolerance)


def test_adam_first_step_by_hand() -> None:
    """The first update is the sign of the gradient, in addition to the decay."""
    module = nn.Linear(2, 1)
    optimizer = build_optimizer(OptimizerConfig(weight_decay=0.1), module)
    set_learning_rate(optimizer, 0.5)
    weight, bias = module.weight.detach().clone(), module.bias.detach().clone()
    module.weight.grad, module.bias.grad = torch.tensor([[3.0, -0.2]]), torch.tensor([-7.0])
    optimizer.step()
    expected = weight * (1 - 0.5 * 0.1) - 0.5 * torch.tensor([[1.0, -1.0]])
    torch.testing.assert_close(module.weight.detach(), expected)
    torch.testing.assert_close(module.bias.detach(), bias + 0.5)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon"])
def test_resume_equals_uninterrupted(name: str) -> None:
    config = OptimizerConfig(name=name, layer_decay=0.9)  # type: ignore[arg-type]
    whole = make_network()
    optimizer = build_optimizer(config, whole)
    set_learning_rate(optimizer, 1e-2)
    take_steps(whole, optimizer, 3)
    again = copy.deepcopy(whole)
    resumed = build_optimizer(config, again)
    groups = resumed.state_dict()["param_groups"]
    state = copy.deepcopy(optimizer.state_dict()["state"])
    resumed.load_state_dict({"state": state, "param_groups": groups})
    set_learning_rate(resumed, 1e-2)
    expected = take_steps(whole, optimizer, 2, seed=1)
    assert_same(take_steps(again, resumed, 2, seed=1), expected, atol=0, rtol=0)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_state_is_that_of_all_weights_or_of_a_new_optimizer(name: str) -> None:
    config = OptimizerConfig(name=name)  # type: ignore[arg-type]
    network = make_network()
    optimizer = build_optimizer(config, network)
    take_steps(network, optimizer, 1)
    state = optimizer.state_dict()["state"]
    whole = {
        f"{index}.{key}": value for index, each in state.items() for key, value in each.items()
    }
    steps = pack_steps(optimizer)

    def load(tensors: dict[str, torch.Tensor], *, is_new: bool) -> torch.optim.Optimizer:
        loaded = build_optimizer(config, network)
        load_optimizer(loaded, tensors, steps, is_new=is_new)
        return loaded

    assert load(whole, is_new=False).state_dict()["state"].keys() == state.keys()
    assert not load({}, is_new=True).state_dict()["state"]
    last = len(state) - 1  # no matrix
    for lost in (f"{last}.", f"{last}.exp_avg_sq", f"{last}.step", ""):
        left = {name: value for name, value in whole.items() if not name.startswith(lost)}
        with rejects("bad-record", f"optimizer.{lost or '0.'}"):
            load(left, is_new=bool(left))
    for more in (f"{len(state)}.step", "x.exp_avg", "3.exp"):
        with rejects("bad-record", f"optimizer.{more}"):
            load(whole | {more: torch.tensor(1.0)}, is_new=False)


def test_groups_by_decay() -> None:
    network = make_network(position_grid=(3, 6))
    decays = decay_by_name(network, weight_decay=0.1)
    assert decays["blocks.0.mixer.weight1"] == decays["patch_embed.projection.weight"] == 0.1
    for free in ("mixer.bias1", "mixer.bias2", "norm1.weight", "norm2.bias", "mlp.0.bias"):
        assert decays[f"blocks.1.{free}"] == 0
    assert decays["position"] == decays["norm.weight"] == 0


def decay_by_name(module: nn.Module, **options: float) -> dict[str, float]:
    return by_name(module, "weight_decay", **options)


def by_name(module: nn.Module, key: str, **options: float) -> dict[str, float]:
    names = {id(p): name for name, p in module.named_parameters()}
    groups = parameter_groups(module, **({"weight_decay": 0.1} | options))  # type: ignore[arg-type]
    found = {names[id(p)]: group[key] for group in groups for p in group["params"]}
    assert found.keys() == dict(module.named_parameters()).keys()
    return found


def test_learning_rates_by_layer() -> None:
    network = nn.ModuleDict({"network": make_network(position_grid=(3, 6))})
    scales = by_name(network, "lr_scale", layer_decay=0.5)
    assert scales["network.patch_embed.projection.weight"] == scales["network.position"] == 0.125
    assert scales["network.blocks.0.norm1.weight"] == 0.25
    assert scales["network.blocks.1.mixer.weight1"] == 0.5
    assert scales["network.patch_recovery.projection.bias"] == scales["network.norm.bias"] == 1
    optimizer = build_optimizer(OptimizerConfig(layer_decay=0.5), network)
    set_learning_rate(optimizer, 8.0)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [1, 2, 4, 8]


def test_frozen_weights_stay() -> None:
    network = make_network()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = build_optimizer(OptimizerConfig(frozen=["patch_embed.*", "blocks.0.*"]), network)
    set_learning_rate(optimizer, 1e-2)
    after = take_steps(network, optimizer)
    for name, value in after.items():
        frozen = name.startswith(("patch_embed.", "blocks.0."))
        assert torch.equal(value, before[name]) == frozen, name


def test_wrong_patterns_are_named() -> None:
    network = make_network()
    with rejects("bad-setting", "training.optimizer.frozen", "'block.*'", "blocks.*.mixer"):
        freeze(network, ["blocks.0.*", "block.*"])
    assert all(p.requires_grad for p in network.parameters())
    with rejects("bad-setting", "training.optimizer.frozen"):
        build_optimizer(OptimizerConfig(frozen=["*"]), network)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.9, 1.0)}, "betas must be below 1"),
        ({"eps": 0.0}, "eps must be above 0"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0"),
        ({"name": "lamb", "weight_decay": 0.0}, "adapts the updates of weights with decay alone"),
    ],
)
def test_wrong_settings_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**options)


# Arguments of apex's optimizers with their defaults.
BOTH = {"lr": 1e-3, "bias_correction": True, "betas": (0.9, 0.999), "adam_w_mode": True}
BOTH |= {"amsgrad": False, "set_grad_none": True}
ADAM = BOTH | {"eps": 1e-8, "weight_decay": 0.0, "capturable": False, "use_master": False}
FURTHER = {"grad_averaging": True, "max_grad_norm": 1.0, "use_nvlamb": False}
OF_LAMB = BOTH | FURTHER | {"eps": 1e-6, "weight_decay": 0.01}


class StandInAdam(torch.optim.Optimizer):
    """The interface of apex's FusedAdam: groups count their steps, the state is two tensors."""

    arguments = ADAM

    def __init__(self, params: Any, **options: Any) -> None:  # noqa: ANN401
        assert options.keys() <= self.arguments.keys()
        super().__init__(params, self.arguments | options)

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            group["step"] = group.get("step", 0) + 1
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _update(self, parameter: Tensor, group: dict) -> Tensor:
        state, (first, second) = self.state[parameter], group["betas"]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["exp_avg"].mul_(first).add_((1 - first) * parameter.grad)
        state["exp_avg_sq"].mul_(second).add_((1 - second) * parameter.grad**2)
        corrections = [
            1 - beta ** group["step"] if group["bias_correction"] else 1.0
            for beta in group["betas"]
        ]
        root = (state["exp_avg_sq"] / corrections[1]).sqrt() + group["eps"]
        assert group["adam_w_mode"]
        return state["exp_avg"] / corrections[0] / root + group["weight_decay"] * parameter

    def _move(self, parameter: Tensor, group: dict) -> None:
        parameter -= group["lr"] * self._update(parameter, group)


class StandInLAMB(StandInAdam):
    """The interface of apex's FusedLAMB, whose gradients are clipped by their global norm."""

    arguments = OF_LAMB

    def _move(self, parameter: Tensor, group: dict) -> None:
        every = [p.grad for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(every)
        assert not norm > self.defaults["max_grad_norm"]
        update = self._update(parameter, group)
        rate = group["lr"]
        if self.defaults["use_nvlamb"] or group["weight_decay"] != 0:
            rate = rate * parameter.norm() / update.norm()
        parameter -= rate * update


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    package, optimizers = ModuleType("apex"), ModuleType("apex.optimizers")
    optimizers.FusedAdam, optimizers.FusedLAMB = StandInAdam, StandInLAMB  # type: ignore[attr-defined]
    package.optimizers = optimizers  # type: ignore[attr-defined]
    for module in (package, optimizers, ModuleType("amp_C")):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def compare_with_apex(apex: str, ours: str) -> None:
    networks = [make_network().to(DEVICE) for _ in range(2)]
    results = []
    for name, network in zip((apex, ours), networks, strict=True):
        config = OptimizerConfig(name=name, weight_decay=0.05, layer_decay=0.8)  # type: ignore[arg-type]
        optimizer = build_optimizer(config, network)
        set_learning_rate(optimizer, 1e-2)
        results.append(take_steps(network, optimizer, 10))
    assert_same(results[0], results[1], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("apex", "ours"), [("apex_adam", "adamw"), ("apex_lamb", "lamb")])
def test_apex_interface_equals_ours(apex: str, ours: str) -> None:
    compare_with_apex(apex, ours)


@pytest.mark.skipif(not HAS_APEX, reason="needs a GPU and NVIDIA apex")
@pytest.mark.parametrize(("apex", "ours"), [("apex_adam", "adamw"), ("apex_lamb", "lamb")])
def test_apex_equals_ours(apex: str, ours: str) -> None:
    compare_with_apex(apex, ours)


@pytest.mark.usefixtures("stand_in")
def test_steps_of_apex_groups_are_kept() -> None:
    config = OptimizerConfig(name="apex_adam")
    network = make_network().to(DEVICE)
    optimizer = build_optimizer(config, network)
    assert pack_steps(optimizer) == [None, None]
    take_steps(network, optimizer, 3)
    assert pack_steps(optimizer) == [3, 3]
    fresh = build_optimizer(config, network)
    unpack_steps(fresh, pack_steps(optimizer))
    assert [group["step"] for group in fresh.param_groups] == [3, 3]
    unpack_steps(fresh, [None, None])
    assert pack_steps(fresh) == [3, 3]


def pyramid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The unrelated package: imports, without optimizers or CUDA extensions."""
    monkeypatch.setitem(sys.modules, "apex", ModuleType("apex"))
    monkeypatch.setitem(sys.modules, "apex.optimizers", None)


def half(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's package without its extensions."""
    monkeypatch.setitem(sys.modules, "amp_C", None)


def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's package without a device to run on."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("apex.optimizers.FusedAdam requires cuda extensions")

    monkeypatch.setattr(sys.modules["apex.optimizers"], "FusedAdam", fail)


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (pyramid, "missing-package", "PyPI"),
        (half, "missing-package", "nvidia-apex"),
        (broken, "unusable-package", "requires cuda extensions"),
    ],
)
def test_missing_apex_is_explained(
    change: Callable[[pytest.MonkeyPatch], None],
    code: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(monkeypatch)
    with rejects(code, "training.optimizer.name=apex_adam", named):
        build_optimizer(OptimizerConfig(name="apex_adam"), make_network().to(DEVICE))
