"""Evaluation: forecasts and baselines against truth, by lead time and channel."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.files.outputs import require_ours
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.redaction import without_secrets
from data_pipeline.sources.files import file_fingerprints
from fourcastnet_afno.evaluation.aggregation import StateFile, state_output
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.engine import run_tasks
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields
from fourcastnet_afno.evaluation.inputs.climatologies import Climatology
from fourcastnet_afno.evaluation.inputs.fields import chunk_lengths, holds_levels_together
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask, split
from fourcastnet_afno.evaluation.scoring import Scoring, ScoringInputs
from fourcastnet_afno.evaluation.unchanged import unchanged


def evaluate(
    forecasts: Mapping[str, xr.Dataset | str],
    truth: xr.Dataset | str,
    climatology: xr.Dataset | Climatology,
    config: EvaluationConfig | None = None,
    *,
    training: xr.Dataset | None = None,
    state: Path | None = None,
    execution: ExecutionConfig | None = None,
    executor: Executor | None = None,
    block_bytes: int | None = None,
) -> xr.Dataset:
    """Score forecasts and baselines.

    Args:
        forecasts: By name; each has initial times, lead times, [members], [level], latitude and
            longitude in WeatherBench 2's layout or this project's, see ``inputs.open``; or the path
            of a store, which is read faster if it is a local zarr store.
        truth: Canonical dataset, see ``data_pipeline.sources.canonical``; or the path of a store.
        climatology: Coefficients such as ``PreparedStore.climatology``, a table or years to fit one
            to, all canonical, see ``inputs.climatology_sources``; or a climatology from there.
        config: Scores and conventions.
        training: Training years, for the baseline ``linear`` and the thresholds of events.
        state: File that keeps the work done, so that an interrupted evaluation resumes.
        execution: A dask cluster that does the work, in place of threads of this process; its
            workers need this package and the stores, under the same paths.
        executor: Does the work instead, see ``engine.run_tasks``.
        block_bytes: Bytes of a forecast that a task reads; results do not depend on it.

    Returns:
        Every metric that applies, (forecast, lead_time, channel, [quantile], [neighborhood],
        [region]), with ``..._interval`` (bound, ...) where the sample allows; ``spectrum`` (source,
        lead_time, channel, zonal_wavenumber) on grids whose rows are circles, with ``wavenumber``
        instead on a torus, where the source is a forecast or ``truth``, with ``spectrum_interval``
        and ``spectrum_ratio_interval`` of the ratio to truth's; ``num_init_times`` and
        ``missing_values``; maps of the errors. A single region is no dimension. Attributes state
        the conventions, what was left out, and warnings.

    Raises:
        InputError: If forecasts and truth do not fit, a forecast is infinite, or a region empty.
    """
    return evaluate_with_baselines(
        forecasts, truth, climatology, config, training=training, state=state,
        execution=execution, executor=executor, block_bytes=block_bytes,
    ).scores  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores, and the fields of the baselines that have some of them."""

    scores: xr.Dataset
    baselines: BaselineFields


def evaluate_with_baselines(
    forecasts: Mapping[str, xr.Dataset | str],
    truth: xr.Dataset | str,
    climatology: xr.Dataset | Climatology,
    config: EvaluationConfig | None = None,
    *,
    training: xr.Dataset | None = None,
    state: Path | None = None,
    execution: ExecutionConfig | None = None,
    executor: Executor | None = None,
    block_bytes: int | None = None,
) -> Evaluation:
    """Score like ``evaluate``, and keep the baselines as they were fitted."""
    config = config or EvaluationConfig()
    if state is not None:
        require_ours(state_output(state))
    paths = [path for path in (*forecasts.values(), truth) if isinstance(path, str)]
    with unchanged(paths, state):
        scoring = Scoring.of(forecasts, truth, climatology, config, training=training)
        inputs, plan = scoring.inputs, scoring.plan
        datasets = inputs.alignment.datasets.values()
        init_chunks, lead_chunks = zip(*map(chunk_lengths, datasets), strict=True)
        levels_together = any(map(holds_levels_together, datasets))
        tasks = split(plan, (max(init_chunks), max(lead_chunks)), block_bytes, levels_together)
        state_file = None
        if state is not None:
            fingerprint = _resume_fingerprint(inputs, plan, tasks)
            state_file = StateFile(
                path=state, fingerprint=fingerprint, companions=_sample_companions(inputs, plan)
            )
        total = run_tasks(
            plan, tasks, num_threads=config.num_threads, executor=executor, execution=execution,
            state_file=state_file,
        )  # fmt: skip
        return Evaluation(scores=scoring.scores(total), baselines=scoring.baselines)


def _resume_fingerprint(
    inputs: ScoringInputs, plan: ScoringPlan, tasks: Sequence[ScoringTask]
) -> str:
    """Digest of all that results depend on, so that the state of another evaluation is ignored.

    Files count by name, size and time of change, climatology and training years by a sample.
    """
    digest = hashlib.blake2b(digest_size=16)
    settings = inputs.config.settings()
    del settings["num_threads"]  # may be another when it resumes
    # As version 0.1 wrote them; how a climatology is fitted shows in its fields.
    del settings["climatology"]
    del settings["perfect_model_members"]  # its forecasts are a file
    settings.pop("point", None)  # of the report
    digest.update(json.dumps(settings).encode())
    dim = None if plan.spectrum is None else plan.spectrum.dim
    # Written as version 0.1 did, so that its states resume.
    cut = [f"Task({repr(task).partition('(')[2]}" for task in tasks]
    written = f"([{', '.join(cut)}], {plan.channels.to_json()!r}, {str(plan.grid)!r}, {dim!r})"
    digest.update(written.encode())
    digest.update(plan.init_times.tobytes() + plan.lead_times.tobytes())
    for dataset in (*inputs.alignment.datasets.values(), inputs.truth):
        source = str(dataset.encoding.get("source", ""))
        files: list[tuple[str, int, int]] = []
        with suppress(InputError):  # it is no path
            files = file_fingerprints(source) if source else []
        digest.update(repr((without_secrets(source), files, dataset.attrs)).encode())
    for channel in plan.channels:
        first = inputs.alignment.valid_times.unique[:1]
        digest.update(np.ascontiguousarray(plan.climatology(channel, first)).tobytes())
        if channel.label in plan.settings.seeps:
            thresholds = plan.settings.seeps[channel.label]
            digest.update(repr(thresholds.dry).encode() + thresholds.dry_fraction.tobytes())
            digest.update(np.ascontiguousarray(thresholds.heavy(first)).tobytes())
        if inputs.training is not None:
            digest.update(inputs.training.times.tobytes())
            digest.update(inputs.training.at(channel, inputs.training.times[-1:]).tobytes())
    return digest.hexdigest()


def _sample_companions(inputs: ScoringInputs, plan: ScoringPlan) -> str:
    """Digest of the climatology and the training years at their first, middle and last time."""
    digest = hashlib.blake2b(digest_size=16)
    for at, times in (
        (plan.climatology, inputs.alignment.valid_times.unique),
        *([(inputs.training.at, inputs.training.times)] if inputs.training is not None else []),
    ):
        sample = times[[0, len(times) // 2, -1]]
        for channel in plan.channels:
            digest.update(np.ascontiguousarray(at(channel, sample)).tobytes())
    return digest.hexdigest()
