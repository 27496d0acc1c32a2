"""Training and scores of a network on a problem."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.pde.networks import Surrogate
from benchmarks.pde.problems import Data, Problem, array_name
from data_pipeline.files.progress import track
from fourcastnet_afno.evaluation.metrics.deterministic import correlation_time

Step = Callable[[Tensor], Tensor]
_SAMPLES_OF_A_TEST = 50
_ROLLOUT_TRAJECTORIES = 10


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How networks are trained: AdamW, one cycle of the rate, averaged weights.

    Args:
        learning_rate: Highest learning rate.
        weight_decay: Weight decay of AdamW.
        averaging: Weight of the old average in a step.
        gradient_norm: Longer gradients are shortened to it.
    """

    learning_rate: float
    weight_decay: float = 1e-4
    averaging: float = 0.99
    gradient_norm: float = 1.0


def train(
    surrogate: Surrogate, problem: Problem, data: Data, plan: Optimization, seed: int
) -> tuple[nn.Module, float]:
    """Train; returns the surrogate with averaged weights, and the processor seconds."""
    average = AveragedModel(surrogate, multi_avg_fn=get_ema_multi_avg_fn(plan.averaging))
    optimizer = torch.optim.AdamW(
        surrogate.parameters(), plan.learning_rate, weight_decay=plan.weight_decay
    )
    batches = Batches(problem, data, seed)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, plan.learning_rate, total_steps=len(batches), pct_start=0.15
    )
    started = time.process_time()
    for state, target in track(batches, f"Training ({problem.name}, steps)", total=len(batches)):
        loss = relative_error(surrogate(state), target, surrogate).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(surrogate.parameters(), plan.gradient_norm)
        optimizer.step()
        schedule.step()
        average.update_parameters(surrogate)
    return average.module.eval(), time.process_time() - started


class Batches:
    """Pairs of consecutive states in random order, epoch after epoch."""

    def __init__(self, problem: Problem, data: Data, seed: int) -> None:
        self._problem, self._states = problem, torch.from_numpy(data["train"])
        self._generator = torch.Generator().manual_seed(seed)
        self._count = self._states.shape[0] * (self._states.shape[1] - 1)
        self._taken = min(problem.samples_per_epoch or self._count, self._count)

    def __len__(self) -> int:
        return self._problem.epochs * -(-self._taken // self._problem.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        steps = self._states.shape[1] - 1
        for _ in range(self._problem.epochs):
            order = torch.randperm(self._count, generator=self._generator)[: self._taken]
            for chosen in order.split(self._problem.batch_size):
                trajectory, index = chosen // steps, chosen % steps
                pair = self._states[trajectory, index], self._states[trajectory, index + 1]
                if self._problem.symmetries:
                    pair = self._apply_symmetry(*pair)
                coarse = torch.rand((), generator=self._generator) < self._problem.coarse_share
                yield tuple(x[..., ::2, ::2] for x in pair) if coarse else pair  # pyright: ignore

    def _apply_symmetry(self, state: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Apply one of the eight symmetries of the square to both."""
        kind = int(torch.randint(8, (), generator=self._generator))
        pair = [x.mT if kind & 1 else x for x in (state, target)]
        axes = [axis for axis, bit in ((-1, 2), (-2, 4)) if kind & bit]
        first, second = (x.flip(axes) for x in pair)
        return first, second


def relative_error(prediction: Tensor, target: Tensor, surrogate: Surrogate) -> Float[Tensor, " b"]:
    """Norm of the error over the norm of the target, channels in units of their spread.

    Unless the problem is steady, the mean of a channel is subtracted from its target, so that a
    large constant (such as that of a geopotential) does not make errors small.
    """
    weights = surrogate.weights((target.shape[-2], target.shape[-1]))
    error = (prediction - target) / surrogate.unit
    size = (target - surrogate.offset) / surrogate.unit
    norms = [(x.square() * weights).sum((1, 2, 3)).sqrt() for x in (error, size)]
    return norms[0] / norms[1]


@torch.no_grad()
def scores(
    step: Step, surrogate: Surrogate, problem: Problem, data: Data
) -> dict[str, float | None]:
    """Relative errors of one step at every resolution, and how long rollouts stay correlated.

    Args:
        step: State (b, c, y, x) to the next, of the surrogate or of a baseline.
        surrogate: Surrogate with the units of the errors.
        problem: The learned problem.
        data: Data with its tests.
    """
    result: dict[str, float | None] = {}
    for shape in problem.test_shapes:
        states, targets = spread_pairs(data[array_name(shape)], _SAMPLES_OF_A_TEST)
        errors = relative_error(one_step(step, states), targets, surrogate)
        result[array_name(shape)] = errors.mean().item()
    if not problem.steady:
        for shape in problem.test_shapes[:2]:
            states = torch.from_numpy(data[array_name(shape)][:_ROLLOUT_TRAJECTORIES])
            rollout = roll_out(step, states)
            curve = correlations(rollout, states, surrogate.weights(shape))
            errors = relative_error(rollout[-1], states[:, -1], surrogate)
            result[f"correlation_time_{array_name(shape)}"] = time_above(curve)
            result[f"last_step_{array_name(shape)}"] = errors.mean().item()
    return result


def spread_pairs(trajectories: np.ndarray, count: int) -> tuple[Tensor, Tensor]:
    """States (b, c, y, x) spread over trajectories (trajectory, state, c, y, x), and the next."""
    states = torch.from_numpy(trajectories)
    pairs = states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1)
    chosen = torch.linspace(0, len(pairs[0]) - 1, count).round().long().unique()
    return pairs[0][chosen], pairs[1][chosen]


def one_step(step: Step, states: Tensor) -> Tensor:
    """The next states, computed few at a time: grids may be large."""
    return torch.cat([step(few) for few in states.split(5)])


def roll_out(
    step: Step, states: Float[Tensor, "trajectory state c y x"]
) -> list[Float[Tensor, "trajectory c y x"]]:
    """A forecast of all but the first of the states, from the first."""
    state, rollout = states[:, 0], []
    for _ in range(states.shape[1] - 1):
        state = torch.cat([step(few) for few in state.split(2)])
        rollout.append(state)
    return rollout


def correlations(
    rollout: Sequence[Tensor], states: Tensor, weights: Tensor
) -> Float[np.ndarray, " lead"]:
    """Pearson correlation of a rollout with truth in space, after each step.

    Args:
        rollout: Forecasts from ``roll_out``.
        states: Truth (trajectory, state, c, y, x).
        weights: Areas of the cells, mean 1.

    Returns:
        Means over trajectories and channels.
    """
    curve = []
    for state, target in zip(rollout, states[:, 1:].unbind(1), strict=True):
        a, b = (x - (weights * x).mean((-1, -2), keepdim=True) for x in (state, target))
        product, *squares = ((weights * x).mean((-1, -2)) for x in (a * b, a * a, b * b))
        curve.append((product / (squares[0] * squares[1]).sqrt()).nan_to_num(0).mean())
    return torch.stack(curve).numpy()


def time_above(curve: np.ndarray) -> float | None:
    """Steps until a curve falls below 0.8; None where it does not."""
    steps = correlation_time(curve[:, None], np.arange(1, len(curve) + 1))[0]
    return None if np.isnan(steps) else float(steps)


def baselines(problem: Problem, data: Data) -> dict[str, Step]:
    """Forecasts without a network: the mean of the training targets, and persistence."""
    mean = torch.from_numpy(data["train"][:, 1:].mean((0, 1)))[None]

    def training_mean(state: Tensor) -> Tensor:
        size = (state.shape[-2], state.shape[-1])
        field = F.interpolate(mean, size, mode="bilinear", align_corners=problem.steady)
        return field.expand_as(state)

    steps: dict[str, Step] = {"mean of the training": training_mean}
    return steps if problem.steady else steps | {"persistence": lambda state: state}
