"""Forecasts that step together, from their initial states to their end or their blow-up."""

from collections.abc import Mapping
from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.timestep import lead_key
from fourcastnet_afno.inference.ensemble import step_stochastically
from fourcastnet_afno.inference.job import ForecastJob, Unit
from fourcastnet_afno.inference.perturbations import noise_of, step_seed
from fourcastnet_afno.inference.rollout import shifted, with_step_fields
from fourcastnet_afno.inference.stability import Fixer, StabilityTracker


class StepResult(NamedTuple):
    """Result of a step, with a leading axis of forecasts and NaN where one has ended.

    Args:
        fields: (forecast, channel, lat, lon), with NaN also where training had no values.
        statistics: By name, float32 on the host, see ``StabilityTracker``.
        blow_ups: JSON records of the forecasts that ended in this step.
    """

    fields: Float[Tensor, "forecast channel lat lon"]
    statistics: dict[str, Tensor]
    blow_ups: list[dict[str, Any]]


class Integration:
    """Forecasts that step together with the forecaster of some ``number``.

    ``init_times`` and ``members`` are those of each forecast; the pool computes the forcing of the
    next step during a step.
    """

    def __init__(
        self,
        job: ForecastJob,
        number: int,
        init_times: np.ndarray,
        members: np.ndarray,
        pool: Executor,
    ) -> None:
        self._job, self._stepper = job, (job.running or job.steppers)[number]
        self._perturber = job.perturbers[number]
        self._init_times, self._members, self._pool = init_times, members, pool
        spec, scales, stability = self._stepper.spec, self._stepper.scales, job.config.stability
        if not job.kept:
            stability = replace(stability, diagnostics=False)
        self._seed = job.config.ensemble.seed
        self._noise_amplitude = job.config.ensemble.noise_amplitude
        self._device, self._filled = scales.mean.device, scales.filled
        driving, num_steps = job.driving, job.config.num_steps
        self._boundary = None if driving is None else driving.of(init_times, members, num_steps)
        self._tracker = StabilityTracker(spec, scales, stability)
        self._fixer = Fixer(stability, spec.channels, spec.grid, self._device)

    def start(self) -> None:
        """Begin at the initial states."""
        histories = self._perturber.histories(self._init_times, self._members)
        reference = self._fixer.reference(histories[:, -1])
        alive = torch.arange(len(histories))
        self.restart({"history": histories, "alive": alive, "reference": reference}, 0)

    def restart(self, tensors: Mapping[str, Tensor], num_steps: int) -> None:
        """Resume after ``num_steps`` steps from what ``tensors`` gave there.

        Raises:
            ValueError: If they are not those of such forecasts.
        """
        self._check(tensors)
        self._history, self._reference = (
            tensors[name].to(self._device) for name in ("history", "reference")
        )
        self._alive, self._num_steps = tensors["alive"].numpy(), num_steps
        forecasts = self._init_times, self._members
        self._noise = noise_of(self._stepper, self._seed, *forecasts, self._noise_amplitude)
        self._forcing = self._submit_forcing()

    def _check(self, tensors: Mapping[str, Tensor]) -> None:
        """Check names, types and shapes of a state."""
        spec = self._stepper.spec
        if lacking := {"history", "alive", "reference"} - tensors.keys():
            raise ValueError(f"it lacks {', '.join(sorted(lacking))}")
        history, alive = tensors["history"], tensors["alive"]
        if not history.is_floating_point() or alive.dtype != torch.int64 or alive.ndim != 1:
            raise ValueError(f"history holds {history.dtype}, alive {alive.dtype}")
        shape = (len(alive), self._stepper.num_history, len(spec.channels), *spec.grid.shape)
        state = torch.zeros(1, *shape[2:], device=self._device)
        conserved = (len(alive), self._fixer.reference(state).shape[1])
        for name, expected in (("history", shape), ("reference", conserved)):
            if (found := tuple(tensors[name].shape)) != expected:
                raise ValueError(f"{name} has the shape {found}, expected {expected}")
        inside = (alive >= 0) & (alive < len(self._members))
        if not (inside.all() and (alive.diff() > 0).all()):
            raise ValueError(f"alive does not number {len(self._members)} forecasts")

    def tensors(self) -> dict[str, Tensor]:
        """All that ``restart`` needs."""
        alive = torch.from_numpy(self._alive.copy())
        return {"history": self._history, "alive": alive, "reference": self._reference}

    def advance(self) -> StepResult:
        """Take a step."""
        forcing = self._forcing.result()
        self._num_steps += 1
        self._forcing = self._submit_forcing()
        count, diagnostic = len(self._members), self._job.diagnostic
        shape = len(self._job.channels), *self._stepper.spec.grid.shape
        if not len(self._alive):
            fields = self._history.new_full((count, *shape), torch.nan)
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
        if self._filled is not None:
            fields = torch.where(self._filled.isnan(), fields, torch.nan)
        if not len(fields):
            fields = fields.new_empty(0, *shape)
        elif diagnostic is not None:
            forcing = self._of_alive(self._forcing.result())
            fields = torch.cat([fields, diagnostic(self._history, forcing)], dim=1)
        return StepResult(self._scatter(fields), statistics, records)

    def _submit_forcing(self) -> Future[Tensor]:
        """The forcing at the time that the forecasts have reached, which the next step acts on."""
        step, noise = self._num_steps, self._noise
        times = self._stepper.spec.step.advance(self._init_times, step)

        def compute() -> Tensor:
            unique, inverse = np.unique(times, return_inverse=True)
            fields = self._stepper.forcing_at(unique)
            if len(unique) != len(times):
                fields = fields[torch.from_numpy(inverse)]
            return with_step_fields(fields, step, noise, self._boundary)

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
        ensemble, bfloat16 = self._job.config.ensemble, self._job.config.precision == "bfloat16"
        with torch.autocast(self._history.device.type, torch.bfloat16, enabled=bfloat16):
            if ensemble.stochastic:
                times, members = self._init_times[self._alive], self._members[self._alive]
                seeds = [  # the control drops nothing
                    step_seed(ensemble.seed, time, member, self._num_steps) if member else None
                    for time, member in zip(times, members.tolist(), strict=True)
                ]
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
            "lead_hours": lead_key(self._num_steps * self._stepper.spec.timestep),
            **blow_up,
            **coords,
            "value": repr(blow_up["value"]),
        }


def make_integrations(
    job: ForecastJob, unit: Unit, pool: Executor
) -> list[tuple[Integration, np.ndarray]]:
    """Split a unit into sets of at most ``batch_size`` forecasts with the same forecaster.

    Each set comes with the indices of its forecasts among those of the unit.
    """
    inits, numbers = job.init_times[unit.inits], job.members[unit.members]
    init_times, members = np.repeat(inits, len(numbers)), np.tile(numbers, len(inits))
    sets = []
    for number in range(len(job.steppers)):
        (same,) = np.nonzero(members % len(job.steppers) == number)
        for start in range(0, len(same), job.config.num_together):
            indices = same[start : start + job.config.num_together]
            integration = Integration(job, number, init_times[indices], members[indices], pool)
            sets.append((integration, indices))
    return sets
