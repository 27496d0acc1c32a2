"""Forecasts that step together, from their initial states to their end or their blow-up."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fourcastnet_afno.inference.config import EnsembleConfig, StabilityConfig
from fourcastnet_afno.inference.ensemble import derive_seeds, step_stochastically
from fourcastnet_afno.inference.rollout import Stepper, shifted
from fourcastnet_afno.inference.stability import Fixer, StabilityTracker
from fourcastnet_afno.inference.steppers import DiagnosticModel


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Options of every step.

    Args:
        ensemble: Randomness of the steps.
        stability: What is monitored and kept fixed.
        bfloat16: Whether the network runs under autocast to bfloat16.
        diagnostic: Predicts further channels, which come after the others.
    """

    ensemble: EnsembleConfig
    stability: StabilityConfig
    bfloat16: bool = False
    diagnostic: DiagnosticModel | None = None


class StepResult(NamedTuple):
    """Result of a step, with a leading axis of forecasts and NaN where one has ended.

    Args:
        fields: (forecast, channel, lat, lon).
        statistics: By name, float32 on the host, see ``StabilityTracker``.
        blow_ups: JSON records of the forecasts that ended in this step.
    """

    fields: Float[Tensor, "forecast channel lat lon"]
    statistics: dict[str, Tensor]
    blow_ups: list[dict[str, Any]]


class Integration:
    """Forecasts that step together with one forecaster.

    Args:
        stepper: Steps all of them.
        init_times: Initial time of each forecast (datetime64).
        members: Member of each forecast.
        options: Options of every step.
        pool: Computes the forcing of the next step during a step.
    """

    def __init__(
        self,
        stepper: Stepper,
        init_times: np.ndarray,
        members: np.ndarray,
        options: StepOptions,
        pool: Executor,
    ) -> None:
        self._stepper, self._options, self._pool = stepper, options, pool
        self._init_times, self._members = init_times, members
        self._device = stepper.scales.mean.device
        self._tracker = StabilityTracker(stepper.spec, stepper.scales, options.stability)
        spec = stepper.spec
        self._fixer = Fixer(options.stability, spec.channels, spec.grid, self._device)

    def start(self, histories: Float[Tensor, "forecast history channel lat lon"]) -> None:
        """Begin at the initial states."""
        reference = self._fixer.reference(histories[:, -1])
        alive = torch.arange(len(histories))
        self.restart({"history": histories, "alive": alive, "reference": reference}, 0)

    def restart(self, tensors: Mapping[str, Tensor], num_steps: int) -> None:
        """Resume after ``num_steps`` steps from what ``tensors`` gave there."""
        self._history, self._reference = (
            tensors[name].to(self._device) for name in ("history", "reference")
        )
        self._alive, self._num_steps = tensors["alive"].numpy(), num_steps
        self._forcing = self._submit_forcing()

    def tensors(self) -> dict[str, Tensor]:
        """All that ``restart`` needs."""
        alive = torch.from_numpy(self._alive.copy())
        return {"history": self._history, "alive": alive, "reference": self._reference}

    def advance(self) -> StepResult:
        """Take a step."""
        forcing = self._forcing.result()
        self._num_steps += 1
        self._forcing = self._submit_forcing()
        spec, count, diagnostic = self._stepper.spec, len(self._members), self._options.diagnostic
        if not len(self._alive):
            num_channels = len(spec.channels) + (len(diagnostic.channels) if diagnostic else 0)
            fields = self._history.new_full((count, num_channels, *spec.grid.shape), torch.nan)
            return StepResult(fields, self._tracker.unknown(count), [])
        following = self._step(self._of_alive(forcing))
        statistics, blow_ups = self._tracker(following)
        statistics = {name: self._scatter(values) for name, values in statistics.items()}
        records = [self._record(blow_up._asdict()) for blow_up in blow_ups]
        self._history = shifted(self._history, following)
        if blow_ups:
            healthy = np.delete(np.arange(len(following)), [b.forecast for b in blow_ups])
            index = torch.from_numpy(healthy)
            self._history, self._reference = self._history[index], self._reference[index]
            self._alive = self._alive[healthy]
        fields = self._history[:, -1]
        if diagnostic is not None and len(fields):
            forcing = self._of_alive(self._forcing.result())
            fields = torch.cat([fields, diagnostic(self._history, forcing)], dim=1)
        elif diagnostic is not None:
            num_channels = len(spec.channels) + len(diagnostic.channels)
            fields = fields.new_empty(0, num_channels, *spec.grid.shape)
        return StepResult(self._scatter(fields), statistics, records)

    def _submit_forcing(self) -> Future[Tensor]:
        """The forcing at the time that the forecasts have reached, which the next step acts on."""
        times = self._init_times + self._num_steps * self._stepper.spec.timestep

        def compute() -> Tensor:
            unique, inverse = np.unique(times, return_inverse=True)
            fields = self._stepper.forcing_at(unique)
            return fields if len(unique) == len(times) else fields[torch.from_numpy(inverse)]

        return self._pool.submit(compute)

    def _of_alive(self, forcing: Tensor) -> Tensor:
        everyone = len(self._alive) == len(self._members)
        return forcing if everyone else forcing[torch.from_numpy(self._alive)]

    def _scatter(self, values: Tensor) -> Tensor:
        """Values of the forecasts that have not ended to those of all."""
        if len(self._alive) == len(self._members):
            return values
        everyone = values.new_full((len(self._members), *values.shape[1:]), torch.nan)
        everyone[torch.from_numpy(self._alive)] = values
        return everyone

    def _step(self, forcing: Tensor) -> Tensor:
        options = self._options
        with torch.autocast(self._history.device.type, torch.bfloat16, enabled=options.bfloat16):
            if options.ensemble.stochastic:
                times, members = self._init_times[self._alive], self._members[self._alive]
                seeds = derive_seeds(options.ensemble, times, members, self._num_steps)
                following = step_stochastically(self._stepper, self._history, forcing, seeds)
            else:
                following = self._stepper(self._history, forcing)
        return self._fixer(following, self._reference)

    def _record(self, blow_up: dict[str, Any]) -> dict[str, Any]:
        forecast, coords = self._alive[blow_up.pop("forecast")], blow_up.pop("coords")
        return {
            "init_time": str(self._init_times[forecast].astype("datetime64[s]")),
            "realization": int(self._members[forecast]),
            "step": self._num_steps,
            "lead_hours": self._num_steps * self._stepper.spec.timestep_hours,
            **blow_up,
            **coords,
            "value": repr(blow_up["value"]),
        }


def make_integrations(
    steppers: Sequence[Stepper],
    init_times: np.ndarray,
    members: np.ndarray,
    batch_size: int,
    options: StepOptions,
    pool: Executor,
) -> list[tuple[Integration, np.ndarray]]:
    """Split forecasts into sets of at most ``batch_size`` that run with the same forecaster.

    Args:
        steppers: Member i runs with the i-th in turn.
        init_times: Initial time of each forecast.
        members: Member of each forecast.
        batch_size: Largest set.
        options: Options of every step.
        pool: Computes forcings.

    Returns:
        Each set with the indices of its forecasts.
    """
    sets = []
    for number, stepper in enumerate(steppers):
        (same,) = np.nonzero(members % len(steppers) == number)
        for start in range(0, len(same), batch_size):
            indices = same[start : start + batch_size]
            forecasts = init_times[indices], members[indices]
            sets.append((Integration(stepper, *forecasts, options, pool), indices))
    return sets
