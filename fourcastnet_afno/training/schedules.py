"""Learning rates as pure functions of the step.

After a linear warm-up from 1 / warmup to 1 of the peak,

    cosine     half a cosine from the peak to the final share
    wsd        the peak (stable), then a linear decay to the final share in the last steps
    constant   the peak
    plateau    the peak, reduced by a factor each time the validation loss stops falling

What a plateau remembers is a frozen value that JSON holds, so that a run goes on exactly.

References:
    Loshchilov and Hutter, 2017, SGDR, https://arxiv.org/abs/1608.03983 (cosine).
    Hu et al., 2024, MiniCPM, https://arxiv.org/abs/2404.06395, section 4 (warmup-stable-decay).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """What is known about the validation losses of a stage.

    Args:
        best: Lowest loss so far.
        num_worse: Validations since then, or since the last reduction.
        num_reductions: How often the learning rate was reduced.
    """

    best: float | None = None
    num_worse: int = 0
    num_reductions: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain values, for checkpoints."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Plateau":
        """Inverse of ``to_json``."""
        return cls(**record)


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes over a stage.

    Args:
        kind: See the head of ``schedules``.
        warmup_fraction: Share of the steps with a rising learning rate, at least one step.
        final_fraction: Learning rate at the end, or the least of a plateau, over the peak.
        decay_fraction: Share of the steps in which ``wsd`` decays.
        plateau_factor: What each plateau multiplies the learning rate by.
        plateau_patience: Validations without a lower loss that are a plateau.
        plateau_threshold: Relative decrease of the loss that counts as lower.
    """

    kind: Literal["cosine", "wsd", "constant", "plateau"] = "cosine"
    warmup_fraction: float = 0.05
    final_fraction: float = 0.0
    decay_fraction: float = 0.2
    plateau_factor: float = 0.2
    plateau_patience: int = 5
    plateau_threshold: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("warmup_fraction", "final_fraction", "decay_fraction", "plateau_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"schedule.{name} must lie in 0..1, got {getattr(self, name)}")
        if self.kind == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                "schedule.warmup_fraction and schedule.decay_fraction must add up to at most 1, "
                f"got {self.warmup_fraction} and {self.decay_fraction}"
            )
        if not 0 < self.plateau_factor < 1 or self.plateau_patience < 1:
            raise ValueError(
                "schedule.plateau_factor must lie between 0 and 1 and schedule.plateau_patience be "
                f"at least 1, got {self.plateau_factor} and {self.plateau_patience}"
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
            step: Steps done in this stage.
            plateau: What the validation losses said so far; others than ``plateau`` ignore it.
        """
        warmup = max(1, round(self.config.warmup_fraction * self.num_steps))
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        return self.learning_rate * self._after_warmup(step, warmup, plateau or Plateau())

    def after_validation(self, plateau: Plateau, loss: float) -> Plateau:
        """What is known after another validation loss; a loss that is not finite is no decrease."""
        threshold = 1 - self.config.plateau_threshold
        if math.isfinite(loss) and (plateau.best is None or loss < plateau.best * threshold):
            return replace(plateau, best=loss, num_worse=0)
        if plateau.num_worse + 1 < self.config.plateau_patience:
            return replace(plateau, num_worse=plateau.num_worse + 1)
        return replace(plateau, num_worse=0, num_reductions=plateau.num_reductions + 1)

    def _after_warmup(self, step: int, warmup: int, plateau: Plateau) -> float:
        config, final = self.config, self.config.final_fraction
        if config.kind == "constant":
            return 1.0
        if config.kind == "plateau":
            return max(final, config.plateau_factor**plateau.num_reductions)
        if config.kind == "cosine":
            done = min(1, (step - warmup) / max(1, self.num_steps - warmup))
            return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done))
        decay = max(1, min(round(config.decay_fraction * self.num_steps), self.num_steps - warmup))
        left = min(1, max(0, self.num_steps - step) / decay)
        return final + (1 - final) * left
