"""Forecasts from many initial times and members, written while they are computed.

A unit of work is a set of forecasts that run together; its memory depends on how many they are, not
on how many steps they take. Every unit computes the same bits whichever process computes it, and
wherever it goes on after a kill.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.free_space import require_free_space
from data_pipeline.files.progress import progress
from fourcastnet_afno.inference.background_writer import BackgroundWriter
from fourcastnet_afno.inference.config import ForecastConfig, IfExists
from fourcastnet_afno.inference.ensemble import Perturber, check_stochastic
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.integration import StepOptions, integrations_of
from fourcastnet_afno.inference.open import open_forecast, to_netcdf
from fourcastnet_afno.inference.resume import Work
from fourcastnet_afno.inference.rollout import Stepper
from fourcastnet_afno.inference.steppers import DiagnosticModel
from fourcastnet_afno.inference.store import ForecastLayout, ForecastStore, select_channels
from fourcastnet_afno.inference.unit_output import UnitOutput
from fourcastnet_afno.parallel.environment import LaunchEnvironment

_STEPS_BETWEEN_RESTARTS = 50


def write_forecast(
    forecaster: Stepper,
    dataset: xr.Dataset,
    init_times: np.ndarray,
    config: ForecastConfig,
    path: Path,
    attrs: Mapping[str, str],
    *,
    further: Sequence[Stepper] = (),
    diagnostic: DiagnosticModel | None = None,
    existing: IfExists = "overwrite",
    environment: Mapping[str, str] = os.environ,
    report: Callable[[str], None] = lambda text: None,
) -> xr.Dataset | None:
    """Roll out from every initial time and write the forecasts.

    Args:
        forecaster: In evaluation mode, on its device.
        dataset: Canonical dataset that holds the history of every initial time.
        init_times: Initial times (datetime64).
        config: Which forecasts.
        path: The zarr store (or, with the suffix .nc, the NetCDF file) to write. It appears when
            it is complete.
        attrs: Provenance for the store's attributes.
        further: Forecasters of further members, see ``EnsembleConfig.checkpoints``.
        diagnostic: Predicts further channels.
        existing: Whether an output that is there is refused, gone on with, or replaced. Work that
            was interrupted is gone on with in any case, if its settings are the same.
        environment: Tells rank and number of processes, see ``LaunchEnvironment``.
        report: Is told of blow-ups and of what other processes have still to do.

    Returns:
        The store, see ``open_forecast``; None if other processes have not finished their part.

    Raises:
        InputError: If a setting does not suit the forecaster or the data, or nothing can be
            written.
    """
    run = _Run(
        [forecaster, *further],
        dataset,
        init_times,
        config,
        diagnostic,
        LaunchEnvironment.from_environment(environment),
    )
    if run.is_complete(path, attrs, existing):
        return open_forecast(path)
    run.check_disk(path)
    work = run.work(path, attrs)
    store = ForecastStore(work.store, run.layout)
    with work.opened(lambda: run.create(store, attrs, work.fingerprint), existing):
        run.compute(work, store)
        records = [record for unit in work.records() for record in unit]
        finished = work.finish(lambda made: run.complete(made, path, records))
    for record in records:
        report(_describe_blow_up(record))
    if not finished:
        report(f"this process has done its part of {path}; other processes have not")
        return None
    return open_forecast(path)


class _Run:
    """The forecasts of one call, as units of work."""

    def __init__(
        self,
        steppers: Sequence[Stepper],
        dataset: xr.Dataset,
        init_times: np.ndarray,
        config: ForecastConfig,
        diagnostic: DiagnosticModel | None,
        place: LaunchEnvironment,
    ) -> None:
        self._steppers, self._config, self._place = steppers, config, place
        self._spec = steppers[0].spec
        self._members = np.array(config.ensemble.numbers)
        self._init_times = init_times.astype("datetime64[ns]")
        self._options = StepOptions(
            ensemble=config.ensemble,
            stability=config.stability,
            bfloat16=config.precision == "bfloat16",
            diagnostic=diagnostic,
        )
        _check_alike(steppers)
        if config.ensemble.stochastic:
            check_stochastic(steppers[0])
        self._perturbers = [
            Perturber(config.ensemble, _states(dataset, stepper), stepper) for stepper in steppers
        ]
        self._states = _states(dataset, steppers[0])
        further = diagnostic.channels if diagnostic is not None else ()
        channels = Channels((*self._spec.channels, *further))
        self._selected = select_channels(config.store, channels)
        self.layout = ForecastLayout(
            channels=Channels(tuple(channels.channels[i] for i in self._selected)),
            grid=self._spec.grid,
            init_times=self._init_times,
            lead_times=np.arange(1, config.num_steps + 1) * self._spec.timestep,
            members=tuple(self._members.tolist()) if config.ensemble.is_ensemble else (),
            forecasts_together=self._forecasts_together(),
            config=config.store,
        )

    def _forecasts_together(self) -> tuple[int, int]:
        """Initial times and members of a unit; for statistics it has all members."""
        members = len(self._members)
        if self._config.ensemble.output == "members":
            members = min(members, self._config.batch_size)
        return max(1, self._config.batch_size // members), members

    @property
    def _quantiles(self) -> Sequence[float] | None:
        ensemble = self._config.ensemble
        return ensemble.quantiles if ensemble.output == "statistics" else None

    @property
    def _units(self) -> list[tuple[int, int]]:
        """First initial time and first member of each unit."""
        inits, members = self.layout.forecasts_together
        return [
            (init, member)
            for init in range(0, len(self._init_times), inits)
            for member in range(0, len(self._members), members)
        ]

    def work(self, path: Path, attrs: Mapping[str, str]) -> Work:
        """The work folder of these forecasts."""
        config = asdict(self._config)
        ends = self._states.at(self._init_times[[0, -1]]).cpu().numpy()
        times = self._init_times.astype(np.int64)
        identity = {
            **{f"forecast.{name}": value for name, value in config.items()},
            **attrs,
            "init_times": _digest(times),
            "initial states": _digest(ends),
            "fields": self._spec.to_json(),
        }
        num_parts = -(-self._config.num_steps // self.layout.steps_together)
        return Work(
            path,
            identity,
            num_units=len(self._units),
            num_parts=num_parts,
            rank=self._place.rank,
            world_size=self._place.world_size,
        )

    def is_complete(self, path: Path, attrs: Mapping[str, str], existing: IfExists) -> bool:
        """Whether these very forecasts are there: to be gone on with, or from other processes."""
        alone = self._place.world_size == 1
        if not path.exists() or (alone and existing != "resume"):
            return False
        try:
            with open_forecast(path) as found:
                return found.attrs.get("fingerprint") == self.work(path, attrs).fingerprint
        except InputError:
            return False

    def check_disk(self, path: Path) -> None:
        """Refuse a disk that is too small for a store without compression.

        Raises:
            InputError: If it is.
        """
        members = self._quantiles is None
        if members and self._config.store.compression == "none":
            remedy = "write fewer variables, levels or steps, or set "
            remedy += "forecast.store.compression=zstd"
            require_free_space(path, 4 * self.layout.num_values, "the forecasts", remedy)

    def create(self, store: ForecastStore, attrs: Mapping[str, str], fingerprint: str) -> None:
        """Make an empty store."""
        store.create({**attrs, "fingerprint": fingerprint}, quantiles=self._quantiles)
        if self._config.stability.diagnostics:
            store.create_diagnostics(self._spec)

    def complete(self, made: Path, path: Path, records: list[dict[str, Any]]) -> Path:
        """Add what is known at the end; the file or folder that is the output."""
        ForecastStore(made, self.layout).finish({"blow_ups": json.dumps(records)})
        if path.suffix != ".nc":
            return made
        to_netcdf(made, made.with_name("output.nc"), self._config.store.compression)
        return made.with_name("output.nc")

    def compute(self, work: Work, store: ForecastStore) -> None:
        """Compute the units of this process that are not finished."""
        inits, members = self.layout.forecasts_together
        missing = work.units
        total = len(missing) * self._config.num_steps
        with (
            progress("Forecasting (steps)", total) as advance,
            BackgroundWriter() as writer,
            ThreadPoolExecutor(1, "forcing") as pool,
            torch.inference_mode(),
        ):
            for unit in missing:
                init, member = self._units[unit]
                forecasts = slice(init, init + inits), slice(member, member + members)
                output = UnitOutput(
                    work, store, self.layout, unit, (init, member), self._selected, self._quantiles
                )
                self._compute_unit(output, forecasts, writer, pool, advance)

    def _compute_unit(
        self,
        output: UnitOutput,
        forecasts: tuple[slice, slice],
        writer: BackgroundWriter,
        pool: Executor,
        advance: Callable[..., None],
    ) -> None:
        init_times, members = self._init_times[forecasts[0]], self._members[forecasts[1]]
        shape = len(init_times), len(members)
        pairs = np.repeat(init_times, shape[1]), np.tile(members, shape[0])
        batch_size = self._config.batch_size
        sets = integrations_of(self._steppers, *pairs, batch_size, self._options, pool)
        kept = output.restart()
        for number, (integration, chosen) in enumerate(sets):
            if kept is not None:
                integration.restart(kept.tensors(number), kept.num_steps)
                continue
            member = int(pairs[1][chosen[0]])
            perturber = self._perturbers[member % len(self._steppers)]
            integration.start(perturber.histories(pairs[0][chosen], pairs[1][chosen]))
        since = first = kept.num_steps if kept is not None else 0
        advance(first)
        for step in range(first, self._config.num_steps):
            results = [(integration.advance(), chosen) for integration, chosen in sets]
            writer.submit(output.collect(step, shape, results))
            advance()
            done = step + 1
            if output.ends_part(step) and done - since >= _STEPS_BETWEEN_RESTARTS:
                tensors = [integration.tensors() for integration, _ in sets]
                writer.submit(lambda t=tensors, n=done: output.save_restart(t, n))
                since = done


def _states(dataset: xr.Dataset, stepper: Stepper) -> InitialStates:
    device = stepper.scales.mean.device
    return InitialStates(dataset, stepper.spec, stepper.num_history, device)


def _check_alike(steppers: Sequence[Stepper]) -> None:
    first = steppers[0].spec
    for number, stepper in enumerate(steppers[1:], start=1):
        wrong = [
            name
            for name in ("channels", "grid", "timestep_hours")
            if getattr(stepper.spec, name) != getattr(first, name)
        ]
        if wrong:
            raise InputError(
                f"the forecaster {number} of forecast.ensemble.checkpoints differs from the first "
                f"in {', '.join(wrong)}; members need the same channels, grid and timestep"
            )


def _digest(values: np.ndarray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=8).hexdigest()


def _describe_blow_up(record: Mapping[str, Any]) -> str:
    return (
        f"the forecast from {record['init_time']} (member {record['realization']}) blew up in step "
        f"{record['step']}, after {record['lead_hours']} h: {record['channel']} is "
        f"{record['value']} at {record['place']}; it is NaN from there on"
    )
