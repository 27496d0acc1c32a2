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
from fourcastnet_afno.inference.ensemble import seeds_of, step_stochastically
from fourcastnet_afno.inference.rollout import Stepper, shifted
from fourcastnet_afno.inference.stability import Fixer, StabilityTracker
from fourcastnet_afno.inference.steppers import DiagnosticModel


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How steps are taken.

    Args:
        ensemble: Randomness of the steps.
        stability: What is watched and kept fixed.
        bfloat16: Whether the network runs under autocast to bfloat16.
        diagnostic: Predicts further channels, which come after the others.
    """

    ensemble: EnsembleConfig
    stability: StabilityConfig
    bfloat16: bool = False
    diagnostic: DiagnosticModel | None = None


class StepResult(NamedTuple):
    """What a step gives, with a leading axis of forecasts and NaN where one has ended.

    Args:
        fields: (forecast, channel, lat, lon).
        statistics: By name, float32, see ``stability.Monitor``.
        blow_ups: Plain records of the forecasts that ended in this step.
    """

    fields: Float[Tensor, "forecast channel lat lon"]
    statistics: dict[str, np.ndarray]
    blow_ups: list[dict[str, Any]]


class Integration:
    """Forecasts that step together with one forecaster.

    Args:
        stepper: Steps all of them.
        init_times: Initial time of each forecast (datetime64).
        members: Member of each forecast.
        options: How steps are taken.
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
        spec, device = stepper.spec, stepper.scales.mean.device
        self._monitor = StabilityTracker(spec, stepper.scales, options.stability)
        self._fixer = Fixer(options.stability, spec.channels, spec.grid, device)

    def start(self, histories: Float[Tensor, "forecast history channel lat lon"]) -> None:
        """Begin at the initial states."""
        self._restore(histories, np.arange(len(histories)), self._fixer.reference(histories[:, -1]))

    def restart(self, tensors: Mapping[str, Tensor], num_steps: int) -> None:
        """Go on after ``num_steps`` steps with what ``tensors`` gave there."""
        device = self._stepper.scales.mean.device
        history, reference = (tensors[name].to(device) for name in ("history", "reference"))
        self._restore(history, tensors["alive"].numpy(), reference, num_steps)

    def _restore(
        self, history: Tensor, alive: np.ndarray, reference: Tensor, num_steps: int = 0
    ) -> None:
        self._history, self._alive, self._reference = history, alive, reference
        self._num_steps = num_steps
        self._forcing = self._ask_for_forcing()

    def tensors(self) -> dict[str, Tensor]:
        """All that ``restart`` needs."""
        alive = torch.from_numpy(self._alive.copy())
        return {"history": self._history, "alive": alive, "reference": self._reference}

    def advance(self) -> StepResult:
        """Take a step."""
        forcing = self._forcing.result()
        self._num_steps += 1
        self._forcing = self._ask_for_forcing()
        if not len(self._alive):
            return self._nothing()
        following = self._following(forcing)
        statistics, blow_ups = self._monitor(following)
        statistics = {name: self._scattered(x) for name, x in statistics.items()}
        records = [self._record(blow_up._asdict()) for blow_up in blow_ups]
        self._history = shifted(self._history, following)
        if blow_ups:
            self._keep(np.delete(np.arange(len(following)), [b.forecast for b in blow_ups]))
        return StepResult(self._output(), statistics, records)

    def _ask_for_forcing(self) -> Future[Tensor]:
        """The forcing at the time that the forecasts have reached, which the next step acts on."""
        times = self._init_times + self._num_steps * self._stepper.spec.timestep
        return self._pool.submit(self._forcing_at, times)

    def _forcing_at(self, times: np.ndarray) -> Tensor:
        unique, inverse = np.unique(times, return_inverse=True)
        fields = self._stepper.forcing_at(unique)
        return fields if len(unique) == len(times) else fields[torch.from_numpy(inverse)]

    def _living(self, forcing: Tensor) -> Tensor:
        everyone = len(self._alive) == len(self._members)
        return forcing if everyone else forcing[torch.from_numpy(self._alive)]

    def _following(self, forcing: Tensor) -> Tensor:
        forcing, options = self._living(forcing), self._options
        device = self._history.device.type
        with torch.autocast(device, torch.bfloat16, enabled=options.bfloat16):
            if options.ensemble.stochastic:
                times, members = self._init_times[self._alive], self._members[self._alive]
                seeds = seeds_of(options.ensemble, times, members, self._num_steps)
                following = step_stochastically(self._stepper, self._history, forcing, seeds)
            else:
                following = self._stepper(self._history, forcing)
        return self._fixer(following, self._reference)

    def _record(self, blow_up: dict[str, Any]) -> dict[str, Any]:
        forecast, coords = self._alive[blow_up.pop("forecast")], blow_up.pop("coords")
        hours = self._num_steps * self._stepper.spec.timestep_hours
        return {
            "init_time": str(self._init_times[forecast].astype("datetime64[s]")),
            "realization": int(self._members[forecast]),
            "step": self._num_steps,
            "lead_hours": hours,
            **blow_up,
            **coords,
            "value": repr(blow_up["value"]),
        }

    def _keep(self, chosen: np.ndarray) -> None:
        index = torch.from_numpy(chosen)
        self._history, self._reference = self._history[index], self._reference[index]
        self._alive = self._alive[chosen]

    def _output(self) -> Tensor:
        fields = self._history[:, -1]
        if self._options.diagnostic is not None and len(fields):
            forcing = self._living(self._forcing.result())
            fields = torch.cat([fields, self._options.diagnostic(self._history, forcing)], dim=1)
        if len(self._alive) == len(self._members):
            return fields
        everyone = fields.new_full((len(self._members), *fields.shape[1:]), torch.nan)
        everyone[torch.from_numpy(self._alive)] = fields
        return everyone

    def _nothing(self) -> StepResult:
        count = len(self._stepper.spec.channels)
        if self._options.diagnostic is not None:
            count += len(self._options.diagnostic.channels)
        shape = (len(self._members), count, *self._stepper.spec.grid.shape)
        unknown = self._monitor.unknown(len(self._members))
        return StepResult(self._history.new_full(shape, torch.nan), unknown, [])

    def _scattered(self, values: np.ndarray) -> np.ndarray:
        everyone = np.full((len(self._members), *values.shape[1:]), np.nan, np.float32)
        everyone[self._alive] = values
        return everyone


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
        options: How steps are taken.
        pool: Computes forcings.

    Returns:
        Each set with the indices of its forecasts.
    """
    result = []
    for number, stepper in enumerate(steppers):
        (own,) = np.nonzero(members % len(steppers) == number)
        for start in range(0, len(own), batch_size):
            chosen = own[start : start + batch_size]
            forecasts = init_times[chosen], members[chosen]
            result.append((Integration(stepper, *forecasts, options, pool), chosen))
    return result
