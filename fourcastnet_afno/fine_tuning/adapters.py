"""Adapters: changes of low rank that are trained in place of weights.

The last two axes of a weight are a matrix W, of which there may be a stack: one for each diagonal
block of a mixer, for real and imaginary parts, or for each row of a kernel. An adapted network
computes with

    W + (alpha / rank) B A,

where W stays as it is, and the factors B (rows, rank) and A (rank, columns) are trained. B is zero
at first, so that the network starts as the one without adapters. Checkpoints hold the sums, under
the names of the weights, and the factors beside them.

References:
    Hu et al., 2021, LoRA: Low-Rank Adaptation of Large Language Models,
    https://arxiv.org/abs/2106.09685, section 4.1.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from data_pipeline.errors import InputError
from fourcastnet_afno.fine_tuning.config import AdapterConfig

_ADAPTED, _ORIGINAL = ".parametrizations.", ".original"


class LowRank(nn.Module):
    """The sum of a weight and of its change, see the head of this module.

    Args:
        weight: The weight, of which shape, type and device are taken.
        rank: Rank of the change.
        alpha: Its factor times ``rank``.
    """

    def __init__(self, weight: Float[Tensor, "*stack row column"], rank: int, alpha: float) -> None:
        super().__init__()
        *stack, rows, columns = weight.shape
        self.left = nn.Parameter(weight.new_zeros(*stack, rows, rank))
        random = torch.randn(*stack, rank, columns) * columns**-0.5
        self.right = nn.Parameter(random.to(weight))
        self.scale = alpha / rank

    def forward(
        self, weight: Float[Tensor, "*stack row column"]
    ) -> Float[Tensor, "*stack row column"]:
        """The sum, in the precision of the weight."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.scale * (self.left @ self.right)


def adapt(module: nn.Module, config: AdapterConfig) -> None:
    """Give weights of a module adapters, and stop training all others that are not ``trained``.

    Random factors are drawn from torch's global generator. Without a rank nothing changes.

    Raises:
        InputError: If a pattern matches no weight that could have one.
    """
    if not config.rank:
        return
    parameters = dict(module.named_parameters())
    matrices = {name: p for name, p in parameters.items() if _is_matrix(name, p)}
    adapted = _matching(config.layers, matrices, "layers")
    trained = _matching(config.trained, parameters, "trained") if config.trained else []
    for name, parameter in parameters.items():
        small = name in adapted and not _is_larger(parameter, config.rank)
        parameter.requires_grad_(small or name in trained)
    for name in adapted:
        weight = parameters[name]
        if name in trained or not _is_larger(weight, config.rank):
            continue
        path, _, leaf = name.rpartition(".")
        change = LowRank(weight.detach(), config.rank, config.alpha)
        parametrize.register_parametrization(module.get_submodule(path), leaf, change)


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of a module with the weights that it computes with, under their plain names."""
    state = {name: t for name, t in module.state_dict().items() if _ADAPTED not in f".{name}"}
    with torch.no_grad():
        for path, layer in module.named_modules():
            if parametrize.is_parametrized(layer):
                for leaf in _adapted_leaves(layer):
                    state[f"{path}.{leaf}"] = getattr(layer, leaf)
    return state


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """Factors and weights without their changes, by name; empty where there are no adapters."""
    return {name: t for name, t in module.state_dict().items() if _ADAPTED in f".{name}"}


def is_original(name: str) -> bool:
    """Whether a tensor of ``adapter_state`` is a weight without its change, not a factor."""
    return _ADAPTED in f".{name}" and name.endswith(_ORIGINAL)


def own_state(
    module: nn.Module, merged: Mapping[str, Tensor], adapters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The state of an adapted module of ``merged_state`` and ``adapter_state``.

    Weights that ``adapters`` lacks stay as they are in the module.
    """
    originals = {name: t for name, t in adapter_state(module).items() if is_original(name)}
    summed = {name.replace(_ADAPTED, ".").removesuffix(_ORIGINAL) for name in originals}
    plain = {name: tensor for name, tensor in merged.items() if name not in summed}
    return plain | originals | dict(adapters)


def _adapted_leaves(layer: nn.Module) -> list[str]:
    lists = layer.parametrizations
    assert isinstance(lists, nn.ModuleDict)
    return list(lists)


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a weight has matrices; AFNO's biases have two axes."""
    leaf = name.rpartition(".")[2]
    return parameter.ndim > 1 and not leaf.startswith("bias") and leaf != "position"


def _is_larger(parameter: nn.Parameter, rank: int) -> bool:
    """Whether a weight has more numbers than its factors."""
    rows, columns = parameter.shape[-2:]
    return rows * columns > rank * (rows + columns)


def _matching(
    patterns: Sequence[str], parameters: Mapping[str, nn.Parameter], setting: str
) -> list[str]:
    """Names that match one of the patterns.

    Raises:
        InputError: If a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise InputError(
                f"training.adapters.{setting} has the pattern {pattern!r}, which matches no weight "
                f"with that; there are {', '.join(sorted(parameters)[:20])}",
                code="bad-setting",
            )
    return [name for name in parameters if any(fnmatchcase(name, p) for p in patterns)]
