"""Networks of ``benchmark_pde``, with the same inputs, outputs and budget of weights."""

from dataclasses import replace
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks.pde.problems import Data, Problem, Shape
from benchmarks.unet import PaddingMode, UNet
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig, scaled_padding

_DEPTH, _MLP_RATIO = 4, 2.0
_LARGEST_WIDTH = 64


class _GridFields(NamedTuple):
    """Fields of a problem that depend on the grid alone, see ``Problem``."""

    extra: Tensor
    envelope: Tensor
    weights: Tensor


class Surrogate(nn.Module):
    """A step from a state to the next: normalization, channels of the position, a network.

    The network predicts the change of a state, or the solution itself where the problem is steady.
    It works at all resolutions; margins of its padding keep their share of the domain.

    Args:
        network: Channels of the state and of the position to channels of the state.
        problem: The problem to learn.
        data: Data of the problem; mean and spread are those of the training.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    derived_std: Tensor

    def __init__(self, network: nn.Module, problem: Problem, data: Data) -> None:
        super().__init__()
        self.network, self._problem, self._data = network, problem, data
        self._by_shape: dict[Shape, _GridFields] = {}
        states = torch.from_numpy(data["train"])
        axes = (0, 1, 3, 4)
        inputs, targets = states[:, :-1], states[:, 1:]
        spread = targets if problem.steady else targets - inputs
        for name, value in (
            ("mean", inputs.mean(axes)),
            ("std", inputs.std(axes)),
            ("scale", spread.std(axes)),
        ):
            self.register_buffer(name, value[:, None, None])
        derived = problem.derived(inputs[:, 0])
        self.register_buffer("derived_std", derived.square().mean((0, 2, 3)).sqrt()[:, None, None])
        # Errors are measured in the spread of the solution, or of the state if it changes.
        self.unit = self.scale if problem.steady else self.std
        self.offset = torch.zeros_like(self.mean) if problem.steady else self.mean

    def forward(self, state: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """The next state."""
        shape = (state.shape[-2], state.shape[-1])
        extra, envelope, _ = self._grid_fields(shape)
        normalized = (state - self.mean) / self.std
        if isinstance(self.network, AFNONet):
            config = self.network.config
            self.network.padding = scaled_padding(config.padding, self._problem.train_shape, shape)
        derived = self._problem.derived(state) / self.derived_std
        channels = [normalized, derived, extra.expand(len(state), -1, -1, -1)]
        output = self.network(torch.cat(channels, dim=1))
        change = envelope * self.scale * output
        return change if self._problem.steady else state + change

    def weights(self, shape: Shape) -> Float[Tensor, "y x"]:
        """Areas of the cells, mean 1."""
        return self._grid_fields(shape).weights

    def _grid_fields(self, shape: Shape) -> _GridFields:
        if shape not in self._by_shape:
            problem = self._problem
            self._by_shape[shape] = _GridFields(
                problem.extra(shape, self._data), problem.envelope(shape), problem.weights(shape)
            )
        return self._by_shape[shape]


def build(kind: str, problem: Problem, data: Data, num_weights: int) -> Surrogate:
    """Build the widest network of a kind with at most ``num_weights`` weights and 64 channels.

    Raises:
        ValueError: If the narrowest network has more weights.
    """
    with torch.random.fork_rng():
        widths = range(8, _LARGEST_WIDTH + 1, {"fno": 2, "afno": 8, "afno_paper": 8}.get(kind, 4))
        fitting = [
            w for w in widths if count_weights(_network(kind, problem, data, w)) <= num_weights
        ]
    if not fitting:
        raise ValueError(f"no {kind} has at most {num_weights} weights")
    return Surrogate(_network(kind, problem, data, fitting[-1]), problem, data)


def build_afno(config: AFNONetConfig, problem: Problem, data: Data) -> Surrogate:
    """Build a network of a configuration; its reference grid is that of the training."""
    return Surrogate(_trunk(config, problem, data), problem, data)


def network_config(kind: str, problem: Problem, width: int) -> AFNONetConfig:
    """The configuration of a kind for a problem."""
    return _sized(problem.network(kind), width)


def count_weights(module: nn.Module) -> int:
    """Number of trained values."""
    return sum(weight.numel() for weight in module.parameters())


def _channels(problem: Problem, data: Data) -> tuple[int, int]:
    channels = data["train"].shape[2]
    derived = problem.derived(torch.from_numpy(data["train"][:1, 0])).shape[1]
    return channels + derived + len(problem.extra(problem.train_shape, data)), channels


def _network(kind: str, problem: Problem, data: Data, width: int) -> nn.Module:
    if kind != "unet":
        return _trunk(_sized(problem.network(kind), width), problem, data)
    config = problem.network("unet")
    modes = (config.padding.latitude, config.padding.longitude)
    padding = tuple("circular" if mode == "wrap" else "replicate" for mode in modes)
    inputs, outputs = _channels(problem, data)
    widths = [width, 2 * width, 2 * width]
    return UNet(inputs, outputs, widths, cast("tuple[PaddingMode, PaddingMode]", padding))


def _sized(config: AFNONetConfig, width: int) -> AFNONetConfig:
    vectors = 0 if config.pole == "none" else width // 2
    return replace(
        config, embed_dim=width, depth=_DEPTH, mlp_ratio=_MLP_RATIO, vector_channels=vectors
    )


def _trunk(config: AFNONetConfig, problem: Problem, data: Data) -> AFNONet:
    reference = config.token_grid(problem.train_shape)
    inputs, outputs = _channels(problem, data)
    return AFNONet(inputs, outputs, config=replace(config, reference_grid=reference))
