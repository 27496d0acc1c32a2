"""Optimizers and their parameter groups.

Biases, gains of normalizations and tables of positions have no weight decay. With ``layer_decay`` d
the learning rate of layer l of L is the peak times d^(L - l): the embedding is layer 0, block i is
layer i + 1, and what comes after the blocks is layer L.

References:
    Loshchilov and Hutter, 2019, Decoupled Weight Decay Regularization,
    https://arxiv.org/abs/1711.05101 (AdamW).
    Clark et al., 2020, ELECTRA, https://arxiv.org/abs/2003.10555 (layer-wise decay).
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from data_pipeline.errors import InputError
from fourcastnet_afno.fine_tuning.adapters import LowRank
from fourcastnet_afno.forecaster.weight_checks import require_fit
from fourcastnet_afno.models.mixers import AFNO, FNO2D, WavenumberAFNO
from fourcastnet_afno.parallel.wrap import shard_like
from fourcastnet_afno.training.config import OptimizerConfig
from fourcastnet_afno.training.optimizers.lamb import LAMB
from fourcastnet_afno.training.optimizers.muon import Muon

_BLOCK = re.compile(r"(?:^|\.)blocks\.(\d+)\.")
_MATRICES = {
    nn.Linear: ("weight",),
    AFNO: ("weight1", "weight2"),
    WavenumberAFNO: ("weight1", "weight2"),
    FNO2D: ("weight",),
    LowRank: ("left", "right"),
}
_EMBEDDING = re.compile(r"(?:^|\.)(patch_embed\.|position$)")


def build_optimizer(config: OptimizerConfig, module: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of the weights that are not frozen, with learning rate 0.

    Weights that match ``frozen`` stop requiring gradients, so build before wrapping the module
    for several processes.

    Raises:
        InputError: If a pattern matches nothing, all weights are frozen, or apex is missing.
    """
    freeze(module, config.frozen)
    decays = {"weight_decay": config.weight_decay, "layer_decay": config.layer_decay}
    groups = parameter_groups(module, **decays)
    if config.name.startswith("apex"):
        return _build_apex(config, groups)
    if config.name == "muon":
        options = {"betas": config.betas, "eps": config.eps}
        return Muon(split_matrices(groups, module), lr=0.0, **options)
    if config.name == "lamb":
        return LAMB(groups, lr=0.0, betas=config.betas, eps=config.eps)
    return torch.optim.AdamW(groups, lr=0.0, betas=config.betas, eps=config.eps, fused=True)


def freeze(module: nn.Module, patterns: Sequence[str]) -> None:
    """Stop training the weights whose names match a pattern, such as ``network.blocks.*``.

    Raises:
        InputError: If a pattern matches no weight.
    """
    parameters = dict(module.named_parameters())
    frozen = {p: [name for name in parameters if fnmatchcase(name, p)] for p in patterns}
    for pattern, names in frozen.items():
        if not names:
            heads = sorted({re.sub(r"\d+", "*", name) for name in parameters})
            raise InputError(
                f"training.optimizer.frozen has the pattern {pattern!r}, which matches no weight; "
                f"the weights are {', '.join(heads)}",
                code="bad-setting",
            )
    for name in chain.from_iterable(frozen.values()):
        parameters[name].requires_grad_(False)


def parameter_groups(
    module: nn.Module, *, weight_decay: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """Groups of the weights that are trained, by weight decay and layer, with ``lr_scale``.

    Raises:
        InputError: If no weight is trained.
    """
    trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
    if not trained:
        raise InputError(
            "training.optimizer.frozen leaves no weight to train; freeze fewer of them",
            code="bad-setting",
        )
    blocks = [int(match[1]) for name, _ in trained if (match := _BLOCK.search(name))]
    last = max(blocks, default=-1) + 2
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in trained:
        leaf, block = name.rpartition(".")[2], _BLOCK.search(name)
        # AFNO's biases are matrices.
        is_decayed = parameter.ndim > 1 and not leaf.startswith("bias") and leaf != "position"
        layer = 0 if _EMBEDDING.search(name) else int(block[1]) + 1 if block else last
        scale = layer_decay ** (last - layer)
        key = weight_decay if is_decayed else 0.0, scale
        groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), parameters in groups.items()
    ]


def split_matrices(groups: list[dict[str, Any]], module: nn.Module) -> list[dict[str, Any]]:
    """The groups, with the matrices within blocks apart from other weights: ``is_matrix``.

    Embedding and recovery of patches are no hidden layers, and kernels in space no matrices.
    """
    matrices = set()
    for name, layer in module.named_modules():
        if _BLOCK.search(f"{name}."):
            leaves = _MATRICES.get(type(layer), ())
            matrices |= {id(getattr(layer, leaf)) for leaf in leaves}
    split = []
    for group in groups:
        for is_matrix in (True, False):
            weights = [p for p in group["params"] if (id(p) in matrices) == is_matrix]
            if weights:
                split.append(group | {"params": weights, "is_matrix": is_matrix})
    return split


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the learning rate of every group: the peak's times that of its layer."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)


def pack_steps(optimizer: torch.optim.Optimizer) -> list[int | None]:
    """Steps that groups count themselves, such as those of apex, for JSON; None where not."""
    return [group.get("step") for group in optimizer.param_groups]


def unpack_steps(optimizer: torch.optim.Optimizer, steps: Sequence[int | None]) -> None:
    """Inverse of ``pack_steps``."""
    for group, step in zip(optimizer.param_groups, steps, strict=True):
        if step is not None:
            group["step"] = step


def load_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    steps: Sequence[int | None],
    *,
    is_new: bool,
) -> None:
    """Set the state of an optimizer, whose weights may be sharded.

    Args:
        optimizer: New, of the same weights as the one that was saved.
        tensors: Full moments and steps, such as ``3.exp_avg`` of the weight with index 3.
        steps: See ``pack_steps``.
        is_new: Whether it may have taken no step yet, and have no state.

    Raises:
        InputError: If they are not those of all its weights.
    """
    groups = optimizer.param_groups
    if len(steps) != len(groups):
        raise InputError(
            f"optimizer_steps has {len(steps)} numbers, expected one for each of the "
            f"{len(groups)} groups of weights",
            code="bad-record",
        )
    parameters = [p.detach() for group in groups for p in group["params"]]
    expected, index = {}, 0
    for group, step in zip(groups, steps, strict=True):
        for parameter in group["params"]:
            moment = torch.empty(parameter.shape, device="meta")
            expected[f"{index}.exp_avg"] = moment
            if not group.get("is_matrix", False):
                expected[f"{index}.exp_avg_sq"] = moment
            if step is None:
                expected[f"{index}.step"] = torch.empty((), device="meta")
            index += 1
    if tensors or not is_new:
        require_fit(expected, tensors, "optimizer")
    state: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        if key != "exp_avg" and (value < 0).any():
            message = f"the tensor optimizer.{name} must not be negative, got {value.min():g}"
            raise InputError(message, code="bad-record")
        parameter = parameters[int(index)]
        state[int(index)][key] = value if key == "step" else shard_like(parameter, value)
    stored = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": dict(state), "param_groups": stored})
    unpack_steps(optimizer, steps)


def _build_apex(config: OptimizerConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    name = config.name
    try:
        import_module("amp_C")
        module = import_module("apex.optimizers")
        adam, lamb = module.FusedAdam, module.FusedLAMB
    except (ImportError, OSError, AttributeError) as error:
        raise InputError(
            f"training.optimizer.name={name} needs NVIDIA apex with its CUDA extensions ({error}); "
            "install `nvidia-apex` from conda-forge (`apex` on PyPI is unrelated) or build it from "
            "https://github.com/NVIDIA/apex, or use adamw or lamb",
            code="missing-package",
        ) from error
    device = groups[0]["params"][0].device
    if torch.cuda.is_available() and device.type != "cuda":
        raise InputError(
            f"training.optimizer.name={name} runs on GPUs, the weights are on {device}; set "
            "training.device=cuda or training.optimizer.name=adamw",
            code="bad-setting",
        )
    options = {"lr": 0.0, "bias_correction": True, "betas": config.betas, "eps": config.eps}
    try:
        if name == "apex_adam":
            return adam(groups, adam_w_mode=True, **options)
        # Gradients are clipped by the trainer; a bound of 0 would divide by it.
        return lamb(groups, adam_w_mode=True, max_grad_norm=math.inf, **options)
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"training.optimizer.name={name} cannot be used here ({error}); use adamw or lamb",
            code="unusable-package",
        ) from error
