"""Learning rates as pure functions of the step.

After a linear warm-up from 1 / warmup to 1 of the peak,

    cosine     half a cosine from the peak to the final share
    wsd        the peak (stable), then a linear decay to the final share in the last steps
    constant   the peak
    plateau    the peak, reduced by a factor each time the validation loss stops falling

The memory of a plateau is a frozen value that JSON can hold, so that a run resumes exactly.

References:
    Loshchilov and Hutter, 2017, SGDR, https://arxiv.org/abs/1608.03983 (cosine).
    Hu et al., 2024, MiniCPM, https://arxiv.org/abs/2404.06395, section 4 (warmup-stable-decay).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Lt

from data_pipeline.bounds import check_bounds


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Memory of the validation losses of a stage.

    Args:
        best: Lowest loss so far.
        num_worse: Validations since then, or since the last reduction.
        num_reductions: How often the learning rate was reduced.
    """

    best: float | None = None
    num_worse: int = 0
    num_reductions: int = 0

    def to_json(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plateau":
        """Inverse of ``to_json``."""
        return cls(**record)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes over a stage.

    Args:
        kind: Shape of the schedule, see the head of ``schedules``.
        warmup_fraction: Share of the steps with a rising learning rate, at least one step.
        final_fraction: Learning rate at the end, or the least of a plateau, over the peak.
        decay_fraction: Share of the steps in which ``wsd`` decays.
        plateau_factor: Factor of the learning rate at each plateau.
        plateau_patience: Validations without a lower loss that are a plateau.
        plateau_threshold: Relative decrease of the loss that counts as lower.
    """

    kind: Literal["cosine", "wsd", "constant", "plateau"] = "cosine"
    warmup_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.05
    final_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.0
    decay_fraction: Annotated[float, Interval(ge=0, le=1)] = 0.2
    plateau_factor: Annotated[float, Gt(0), Lt(1)] = 0.2
    plateau_patience: Annotated[int, Ge(1)] = 5
    plateau_threshold: Annotated[float, Interval(ge=0, le=1)] = 1e-4

    def __post_init__(self) -> None:
        check_bounds(self, "training.schedule")
        if self.kind == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                "training.schedule: warmup_fraction and decay_fraction must add up to at most 1, "
                f"got {self.warmup_fraction} and {self.decay_fraction}"
            )

    def build(self, *, learning_rate: float, num_steps: int) -> "Schedule":
        """The schedule of a stage.

        Args:
            learning_rate: Peak.
            num_steps: Optimizer steps of the stage.
        """
        return Schedule(config=self, learning_rate=learning_rate, num_steps=num_steps)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate of each step of a stage.

    Args:
        config: Shape.
        learning_rate: Peak.
        num_steps: Optimizer steps of the stage.
    """

    config: ScheduleConfig
    learning_rate: float
    num_steps: int

    def __call__(self, step: int, plateau: Plateau | None = None) -> float:
        """Learning rate of a step.

        Args:
            step: Number of steps done in this stage.
            plateau: Memory of the validation losses; other kinds than ``plateau`` ignore it.
        """
        warmup = max(1, round(self.config.warmup_fraction * self.num_steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        config, final = self.config, self.config.final_fraction
        if config.kind == "constant":
            share = 1.0
        elif config.kind == "plateau":
            share = max(final, config.plateau_factor ** (plateau or Plateau()).num_reductions)
        elif config.kind == "cosine":
            done = min(1, (step - warmup) / max(1, self.num_steps - warmup))
            share = final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
        else:
            longest = self.num_steps - warmup
            decay = max(1, min(round(config.decay_fraction * self.num_steps), longest))
            share = final + (1 - final) * min(1, max(0, self.num_steps - step) / decay)
        return self.learning_rate * share

    def after_validation(self, plateau: Plateau, loss: float) -> Plateau:
        """Memory after another validation loss; a loss that is not finite is no decrease."""
        threshold = 1 - self.config.plateau_threshold
        if math.isfinite(loss) and (plateau.best is None or loss < plateau.best * threshold):
            return replace(plateau, best=loss, num_worse=0)
        if plateau.num_worse + 1 < self.config.plateau_patience:
            return replace(plateau, num_worse=plateau.num_worse + 1)
        return replace(plateau, num_worse=0, num_reductions=plateau.num_reductions + 1)
