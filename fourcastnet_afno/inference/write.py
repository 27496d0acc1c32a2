"""Forecasts from many initial times and members, written and scored while they are computed."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.files.free_space import require_free_space
from data_pipeline.files.outputs import Output, check_outputs
from data_pipeline.files.progress import progress
from data_pipeline.sources.files import local_inputs
from data_pipeline.timestep import recorded_time
from fourcastnet_afno.inference.background_writer import BackgroundWriter
from fourcastnet_afno.inference.commits.commit import commit
from fourcastnet_afno.inference.commits.target import CommitTarget, commit_target
from fourcastnet_afno.inference.config import ForecastConfig, IfExists
from fourcastnet_afno.inference.driving.states import DrivingFields
from fourcastnet_afno.inference.integration import Integration, make_integrations
from fourcastnet_afno.inference.job import ForecastJob
from fourcastnet_afno.inference.open import (
    forecast_output,
    open_forecast,
    require_netcdf_names,
    to_netcdf,
)
from fourcastnet_afno.inference.resume import Work, damaged_restart, recorded_provenance
from fourcastnet_afno.inference.rollout import Stepper
from fourcastnet_afno.inference.steppers import DiagnosticModel
from fourcastnet_afno.inference.store import ForecastStore
from fourcastnet_afno.inference.tuning.batch_size import settle_batch_size
from fourcastnet_afno.inference.tuning.compiled import compile_networks
from fourcastnet_afno.inference.tuning.precision import in_precision
from fourcastnet_afno.inference.unit_output import Scorer, ScorerMaker, UnitOutput
from fourcastnet_afno.parallel.environment import LaunchEnvironment

_MOST_COMPRESSION = 100  # far beyond what fields of the atmosphere or of turbulence reach


def write_forecast(
    forecaster: Stepper,
    dataset: xr.Dataset,
    init_times: np.ndarray,
    config: ForecastConfig,
    path: Path | None,
    attrs: Mapping[str, str],
    *,
    further: Sequence[Stepper] = (),
    diagnostic: DiagnosticModel | None = None,
    boundary: DrivingFields | None = None,
    scoring: ScorerMaker | None = None,
    existing: IfExists = "overwrite",
    environment: Mapping[str, str] = os.environ,
    report: Callable[[str], None] = lambda text: None,
    restart_every: int = 50,
) -> xr.Dataset | None:
    """Roll out from every initial time and write the forecasts, or their scores.

    Args:
        forecaster: In evaluation mode, on its device. With ``precision: bfloat16`` a copy steps,
            whose weights of matrix products are in bfloat16, see ``in_precision``.
        dataset: Canonical dataset that holds the history of every initial time.
        init_times: Initial times (datetime64).
        config: Which forecasts.
        path: The zarr store, with the suffix .nc the NetCDF file, or what ``commit_target``
            recognizes: an Icechunk repository. It appears, or is committed, when it is complete.
            None keeps no forecast, only the scores.
        attrs: Provenance for the store's attributes.
        further: Forecasters of further members, see ``EnsembleConfig.checkpoints``.
        diagnostic: Predicts further channels.
        boundary: Drives a limited area; by default the dataset does.
        scoring: Scores the forecasts while they are made, see ``live_scores``.
        existing: Whether an existing output is an error, resumed, or replaced. Interrupted work is
            resumed in any case, if its settings are the same.
        environment: Gives rank and number of processes, see ``LaunchEnvironment``.
        report: Receives blow-ups, a batch size that was measured, and the state of work that other
            processes share.
        restart_every: Steps between files that an interrupted forecast resumes from.

    Returns:
        The store, see ``open_forecast``, or without one the scores; None if other processes have
        not finished their units.

    Raises:
        InputError: If a setting does not suit the forecaster or the data, nothing can be written,
            or ``path`` is the data or holds something else than forecasts.
    """
    scores = [] if scoring is None else list(scoring.outputs)
    if path is None:
        main, others = scores[0]._replace(has_work_folder=True), scores[1:]
    else:
        main, others = forecast_output(path), scores
    target = None if path is None else commit_target(path)
    output = main.path if path is None else path
    read = {"the data": _sources(dataset)}
    read |= {} if boundary is None else {"the boundary": _sources(boundary.dataset)}
    check_outputs([main, *others], read)
    launch = LaunchEnvironment.from_environment(environment)
    if path is None and config.batch_size == "auto":
        raise InputError(
            "forecast.batch_size=auto is recorded with the forecasts, of which --keep none keeps "
            "none; set a number, such as 16",
            code="bad-setting",
        )
    recorded = recorded_provenance(output, existing)
    steppers = [forecaster, *further]
    running = in_precision(config, steppers)
    config, chosen = settle_batch_size(
        config, running[0], init_times, recorded, world_size=launch.world_size
    )
    job = ForecastJob(
        steppers=steppers,
        running=running,
        dataset=dataset,
        init_times=init_times.astype("datetime64[ns]"),
        config=config,
        diagnostic=diagnostic,
        boundary=boundary,
        restart_every=restart_every,
        scored=scoring is not None,
        kept=path is not None,
    )
    if path is not None and path.suffix == ".nc":
        require_netcdf_names((channel.name for channel in job.layout.channels), path)
    compile_networks(config, *running)
    identity = job.identity(attrs)
    if scoring is not None:
        identity |= {**scoring.identity, "keep": "none" if path is None else "forecasts"}
    work = Work(
        main.working_path,
        identity,
        num_units=len(job.units),
        num_chunks=job.num_chunks,
        rank=launch.rank,
        world_size=launch.world_size,
        marker=main.is_ours,
        target=target,
    )
    if launch.world_size > 1 or existing == "resume":
        paths = {output, *(each.path for each in scores[:1])}
        if all(_fingerprint_of(each, path) == work.fingerprint for each in paths):
            return _open(output, path)
    if (
        path is not None and job.quantiles is None and not work.folder.store.exists()
    ):  # which has used some already
        remedy = "write fewer variables, levels or steps, or set forecast.store.compression=zstd"
        factor = 1 if config.store.compression == "none" else _MOST_COMPRESSION
        require_free_space(path, 4 * job.layout.num_values // factor, "the forecasts", remedy)
    if chosen is not None:
        report(chosen)
        attrs = {**attrs, "batch_size": str(config.batch_size)}
    attrs = {**attrs, **_describe_patches(job.steppers)}
    if width := forecaster.spec.boundary_width:
        attrs = {**attrs, "boundary_width": str(width)}
    store = None if path is None else ForecastStore(work.folder.store, job.layout)
    scorer = None
    if scoring is not None:
        forecasts = job.start_of_all(attrs)
        scorer = scoring.open(forecasts, job.layout.channels, job.units, work)
    if not _run(job, work, _Sinks(store, scorer, scores, target), attrs, existing, report):
        report(f"this process has finished its units of {output}; other processes have not")
        return None
    return _open(output, path)


def _open(path: Path, store: Path | None) -> xr.Dataset:
    """The store of forecasts, or without one the scores at a path."""
    return open_forecast(path) if path == store else xr.load_dataset(path, decode_timedelta=True)


def _fingerprint_of(path: Path, store: Path | None) -> str:
    """Fingerprint of finished work; empty if there is none."""
    with suppress(InputError, OSError, ValueError), _open(path, store) as found:
        return str(found.attrs.get("fingerprint", ""))
    return ""


class _Sinks(NamedTuple):
    """The store and the scores of forecasts, as far as they are wanted, and its target."""

    store: ForecastStore | None
    scorer: Scorer | None
    scores: Sequence[Output]
    target: CommitTarget | None


def _sources(dataset: xr.Dataset) -> list[Path]:
    """Files and stores that a dataset is read from, as far as it knows."""
    encodings = [dataset.encoding, *(v.encoding for v in dataset.variables.values())]
    return local_inputs(*{str(e["source"]) for e in encodings if e.get("source")})


def _run(
    job: ForecastJob,
    work: Work,
    sinks: _Sinks,
    attrs: Mapping[str, str],
    existing: IfExists,
    report: Callable[[str], None],
) -> bool:
    """Start or resume the work; publish and return True if all processes have finished."""
    path, store = work.folder.path, sinks.store

    def create() -> None:
        if store is None:
            work.folder.store.mkdir()
            return
        store.create({**attrs, "fingerprint": work.fingerprint}, quantiles=job.quantiles)
        if job.config.stability.diagnostics:
            store.create_diagnostics(job.steppers[0].spec)

    with work.opened(create, existing):
        _compute(job, work, sinks)
        blow_ups = work.blow_ups()

        def complete(folder: Path) -> Path | None:
            output = folder.with_name("output.nc")
            if sinks.scorer is not None:
                sinks.scorer.write(output if store is None else sinks.scores[0].path, blow_ups)
            if store is None:
                return output
            ForecastStore(folder, job.layout).finish({"blow_ups": json.dumps(blow_ups)})
            if sinks.target is not None:
                _commit_once(folder, sinks.target, work, attrs, report)
                return None
            if path.suffix != ".nc":
                return folder
            to_netcdf(folder, output, job.config.store.compression)
            return output

        finished = work.finish(complete)
    step = job.steppers[0].spec.step
    for record in blow_ups:
        report(
            f"the forecast from {recorded_time(record['init_time'], step.trajectories)} (member "
            f"{record['realization']}) blew up in "
            f"step {record['step']}, after {step.lead_label(record['step'])}: "
            f"{record['channel']} is {record['value']} at {record['place']}; it is NaN from "
            "there on"
        )
    return finished


def _commit_once(
    folder: Path,
    target: CommitTarget,
    work: Work,
    attrs: Mapping[str, str],
    report: Callable[[str], None],
) -> None:
    """Commit a finished store, if a process that was killed then has not done so."""
    token = work.folder.token
    if target.is_committed(token):
        return
    made_by = {name: attrs[name] for name in ("checkpoint", "checkpoint_digest") if name in attrs}
    metadata = {**made_by, "fingerprint": work.fingerprint, "work": token}
    report(str(commit(folder, target, metadata, replace=work.replaces)))


def _describe_patches(steppers: Sequence[Stepper]) -> dict[str, str]:
    """The attribute ``patch_size``, rows x columns, where all steppers are networks of one."""
    (patch, *others) = {getattr(stepper, "patch_size", None) for stepper in steppers}
    return {} if patch is None or others else {"patch_size": f"{patch[0]} x {patch[1]}"}


def _compute(job: ForecastJob, work: Work, sinks: _Sinks) -> None:
    """Compute the units of this process that are not finished."""
    store, scorer = sinks.store, sinks.scorer
    units = [job.units[number] for number in work.units]
    with (
        progress("Forecasting (steps)", len(units) * job.config.num_steps) as advance,
        nullcontext() if scorer is None else scorer,
        BackgroundWriter() as writer,
        ThreadPoolExecutor(1, "forcing") as pool,
        torch.inference_mode(),
    ):
        for unit in units:
            output = UnitOutput(job, work, store, unit, scorer)
            sets = make_integrations(job, unit, pool)
            saved = _start_or_restart(output, [integration for integration, _ in sets])
            advance(saved)
            for step in range(saved, job.config.num_steps):
                results = [(integration.advance(), indices) for integration, indices in sets]
                writer.submit(output.collect(step, results))
                advance()
                if output.ends_chunk(step) and step + 1 - saved >= job.restart_every:
                    saved = step + 1
                    tensors = [integration.tensors() for integration, _ in sets]
                    writer.submit(partial(output.save_restart, tensors, saved))


def _start_or_restart(output: UnitOutput, sets: list[Integration]) -> int:
    """Begin the sets of a unit, or resume them; returns after how many steps.

    Raises:
        InputError: If the file to resume from is that of other forecasts ("damaged-restart").
    """
    restart = output.restart
    if restart is None:
        for integration in sets:
            integration.start()
        return 0
    with damaged_restart(output.restart_file):
        if len(restart.sets) != len(sets) or not output.ends_chunk(restart.num_steps - 1):
            found = f"{len(restart.sets)} sets after {restart.num_steps} steps"
            raise ValueError(f"it holds {found}, which these forecasts do not have")
        for integration, tensors in zip(sets, restart.sets, strict=True):
            integration.restart(tensors, restart.num_steps)
    return restart.num_steps
