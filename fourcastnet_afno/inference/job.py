"""A forecast job: the forecasts of one call, checked and divided into units.

A unit is a set of forecasts that run together; its memory depends on their number, not on the
number of steps. Every unit computes the same bits whichever process computes it, and wherever it
resumes after a kill.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.memory import require_memory
from data_pipeline.store.format import checksum
from data_pipeline.timestep import valid_times
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.driving.states import DrivingFields, DrivingStates
from fourcastnet_afno.inference.ensemble import Perturber, check_differences, check_stochastic
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.rollout import Stepper
from fourcastnet_afno.inference.steppers import DiagnosticModel
from fourcastnet_afno.inference.store import ForecastLayout, select_channels
from fourcastnet_afno.parallel.environment import memory_of


class Unit(NamedTuple):
    """Forecasts that run together: all pairs of some initial times and members of the job."""

    number: int
    inits: slice
    members: slice


@dataclass(frozen=True, kw_only=True)
class ForecastJob:
    """The forecasts of one call.

    Args:
        steppers: Forecasters in evaluation mode, on their device; member i runs with the i-th in
            turn.
        dataset: Canonical dataset that holds the history of every initial time.
        init_times: Initial times (datetime64[ns]).
        config: Which forecasts.
        diagnostic: Predicts further channels.
        boundary: Canonical dataset or forecasts that drive a limited area; by default the dataset.
        restart_every: Steps between files with the state of an unfinished unit.
        scored: Whether all members of an initial time run together, as their scores need it.
        kept: Whether the forecasts are written, and with them statistics of their steps.
        running: The steppers as they take the steps of the forecasts, see ``in_precision``; those
            of bred and lagged initial states are ``steppers``. By default the same.

    Raises:
        InputError: If a setting does not suit the forecasters or the data.
    """

    steppers: Sequence[Stepper]
    dataset: xr.Dataset
    init_times: np.ndarray
    config: ForecastConfig
    diagnostic: DiagnosticModel | None = None
    boundary: DrivingFields | None = None
    restart_every: int = 50
    scored: bool = False
    kept: bool = True
    running: Sequence[Stepper] = ()

    def __post_init__(self) -> None:
        first = self.steppers[0].spec
        for number, stepper in enumerate(self.steppers[1:], start=1):
            differing = [
                name
                for name in ("channels", "grid", "step", "boundary_width")
                if getattr(stepper.spec, name) != getattr(first, name)
            ]
            if differing:
                raise InputError(
                    f"forecaster {number} of forecast.ensemble.checkpoints differs from the first "
                    f"in {', '.join(differing)}; members need the same",
                    code="other-configuration",
                )
        check_differences(self.config.ensemble, self.steppers)
        if self.config.ensemble.stochastic:
            check_stochastic(self.steppers[0])
        _ = self.perturbers, self.layout  # they check the settings of ensemble and store
        self._check_memory()
        if self.driving is not None:
            self.driving.check(self.init_times, self.config.num_steps)
        valid = valid_times(self.init_times, self.layout.lead_times, first.step.calendar)
        if np.isnat(valid).any():
            init, lead = np.argwhere(np.isnat(valid))[0]
            raise InputError(
                f"the forecast from {self.init_times[init].astype('datetime64[s]')} has no date "
                f"after {first.step.lead_label(int(lead + 1))}: the standard calendar lacks "
                f"that of {first.step.calendar}; choose other initial times or fewer steps",
                code="no-times",
            )

    def _check_memory(self) -> None:
        """Check that the forecasts that run together, and the times of all, fit into memory.

        Raises:
            InputError: If they do not; their size is named.
        """
        stepper, config = self.steppers[0], self.config
        inits, members = self.layout.forecasts_together
        together = min(inits, len(self.init_times)) * members
        fields = stepper.num_history * len(stepper.spec.channels) + len(self.selected)
        require_memory(
            4 * together * fields * math.prod(stepper.spec.grid.shape),
            f"{together} forecasts that run together ({members} members)",
            "lower forecast.batch_size, or write members (forecast.ensemble.output=members)",
            memory_of(stepper.scales.mean.device),
        )
        if config.store.shard_mib is not None:
            require_memory(
                3 * self.layout.written_bytes,  # one is collected, one waits, one is written
                f"the fields of shards of {config.store.shard_mib:g} MiB",
                "lower forecast.store.shard_mib or forecast.batch_size",
            )
        require_memory(
            16 * len(self.init_times) * config.num_steps,
            f"the valid times of {len(self.init_times)} forecasts of {config.num_steps} steps",
            "lower forecast.num_steps, or give fewer initial times",
        )

    @cached_property
    def members(self) -> np.ndarray:
        """Numbers of the members that run (member,)."""
        return np.array(self.config.ensemble.numbers)

    @cached_property
    def perturbers(self) -> list[Perturber]:
        """The source of initial states of each forecaster."""
        ensemble = self.config.ensemble
        return [
            Perturber(ensemble, self._states(stepper), stepper, self.driving)
            for stepper in self.steppers
        ]

    @cached_property
    def driving(self) -> DrivingStates | None:
        """Driving states of a limited area; None for others."""
        first, boundary = self.steppers[0], self.boundary or DrivingFields(self.dataset)
        if not first.spec.boundary_width:
            return None
        return DrivingStates(boundary, first.spec, first.scales, self._states(first))

    def _states(self, stepper: Stepper) -> InitialStates:
        device = stepper.scales.mean.device
        filled = stepper.scales.filled
        return InitialStates(self.dataset, stepper.spec, stepper.num_history, device, filled)

    @cached_property
    def channels(self) -> Channels:
        """Channels of the state, then those of the diagnostic model."""
        further = self.diagnostic.channels if self.diagnostic is not None else ()
        return Channels((*self.steppers[0].spec.channels, *further))

    @cached_property
    def selected(self) -> list[int]:
        """Indices of the channels that are written."""
        return select_channels(self.config.store, self.channels)

    @cached_property
    def layout(self) -> ForecastLayout:
        """Axes and chunks of the store."""
        spec, config = self.steppers[0].spec, self.config
        members = len(self.members)  # statistics and scores need all members of a unit
        if config.ensemble.output == "members" and not self.scored:
            members = min(members, config.num_together)
        return ForecastLayout(
            channels=Channels(tuple(self.channels.channels[i] for i in self.selected)),
            grid=spec.grid,
            init_times=self.init_times,
            lead_times=np.arange(1, config.num_steps + 1) * spec.timestep,
            step=spec.step,
            members=tuple(self.members.tolist()) if config.ensemble.is_ensemble else (),
            forecasts_together=(max(1, config.num_together // members), members),
            config=config.store,
        )

    @property
    def quantiles(self) -> Sequence[float] | None:
        """Quantiles over the members; None where the members are written."""
        ensemble = self.config.ensemble
        return ensemble.quantiles if ensemble.output == "statistics" else None

    @cached_property
    def units(self) -> list[Unit]:
        """Units of work; members of one initial time are neighbors."""
        num_inits, num_members = self.layout.forecasts_together
        inits = range(0, len(self.init_times), num_inits)
        starts = product(inits, range(0, len(self.members), num_members))
        return [
            Unit(number, slice(init, init + num_inits), slice(member, member + num_members))
            for number, (init, member) in enumerate(starts)
        ]

    def start_of_all(self, attrs: Mapping[str, str]) -> xr.Dataset:
        """The forecasts as a dataset that is the first of the states they start from everywhere."""
        shape = self.steppers[0].spec.grid.shape
        fields = np.full((len(self.channels), *shape), np.nan, np.float32)
        history = self._states(self.steppers[0]).read(self.init_times[:1])
        fields[: history.shape[2]] = history[0, -1].cpu().numpy()
        return self.layout.filled_with(fields[self.selected], attrs)

    @property
    def num_chunks(self) -> int:
        """Chunks of each unit, along lead time."""
        return -(-self.config.num_steps // self.layout.steps_together)

    def identity(self, attrs: Mapping[str, str]) -> dict[str, Any]:
        """JSON values that tell these forecasts from others, with the provenance in ``attrs``."""
        stepper = self.steppers[0]
        ends = self._states(stepper).read(self.init_times[[0, -1]]).cpu().numpy()
        driving = {}
        if self.driving is not None:
            steps = np.array([1, self.config.num_steps])
            states = self.driving.read(self.init_times[[0, -1]], self.members[[0, -1]], steps)
            driving = {"driving states": checksum(states.cpu().numpy())}
        return {
            **{f"forecast.{name}": value for name, value in self.config.settings().items()},
            **attrs,
            "init_times": checksum(self.init_times.astype(np.int64)),
            "initial states": checksum(ends),
            "fields": stepper.spec.to_json(),
            **driving,
        }
