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
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Gt, Interval, Lt

from data_pipeline.bounds import Count, check_bounds


@dataclass(frozen=True, kw_only=True)
class Plateau:
    """Memory of the validation losses of a stage."""

    best: float | None = None  # lowest loss so far
    num_worse: int = 0  # validations since then, or since the last reduction
    num_reductions: int = 0  # of the learning rate


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
    plateau_patience: Count = 5
    plateau_threshold: Annotated[float, Interval(ge=0, le=1)] = 1e-4

    def __post_init__(self) -> None:
        check_bounds(self, "training.schedule")
        if self.kind == "wsd" and self.warmup_fraction + self.decay_fraction > 1:
            raise ValueError(
                "training.schedule: warmup_fraction and decay_fraction must add up to at most 1, "
                f"got {self.warmup_fraction} and {self.decay_fraction}"
            )

    def learning_rate(self, peak: float, step: int, num_steps: int, plateau: Plateau) -> float:
        """Learning rate after ``step`` of the ``num_steps`` steps of a stage."""
        warmup, final = max(1, round(self.warmup_fraction * num_steps)), self.final_fraction
        if step < warmup:
            return peak * (step + 1) / warmup
        if self.kind == "constant":
            return peak
        if self.kind == "plateau":
            return peak * max(final, self.plateau_factor**plateau.num_reductions)
        if self.kind == "cosine":
            done = min(1, (step - warmup) / max(1, num_steps - warmup))
            return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * done)))
        decay = max(1, min(round(self.decay_fraction * num_steps), num_steps - warmup))
        return peak * (final + (1 - final) * min(1, max(0, num_steps - step) / decay))

    def after_validation(self, plateau: Plateau, loss: float) -> Plateau:
        """Memory after another validation loss; a loss that is not finite is no decrease."""
        threshold = 1 - self.plateau_threshold
        if math.isfinite(loss) and (plateau.best is None or loss < plateau.best * threshold):
            return replace(plateau, best=loss, num_worse=0)
        if plateau.num_worse + 1 < self.plateau_patience:
            return replace(plateau, num_worse=plateau.num_worse + 1)
        return replace(plateau, num_worse=0, num_reductions=plateau.num_reductions + 1)
