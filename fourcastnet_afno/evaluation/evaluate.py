"""Evaluation: forecasts and baselines against truth, by lead time and channel."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.preparation.execution import ExecutionConfig, cluster_client
from data_pipeline.sources.files import file_fingerprints
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.engine import run
from fourcastnet_afno.evaluation.inputs.align import Alignment, align, scored
from fourcastnet_afno.evaluation.inputs.baselines import LinearFields, fit_linear
from fourcastnet_afno.evaluation.inputs.climatologies import (
    Climatology,
    FieldsByTime,
    from_coefficients,
    time_invariant,
    weekly_mean,
)
from fourcastnet_afno.evaluation.inputs.fields import (
    FieldSource,
    PersistenceFields,
    ValidTimeFields,
    chunk_lengths,
    holds_levels_together,
)
from fourcastnet_afno.evaluation.inputs.open import open_series
from fourcastnet_afno.evaluation.inputs.thresholds import quantile_thresholds, seeps_thresholds
from fourcastnet_afno.evaluation.inputs.truth import TruthFields
from fourcastnet_afno.evaluation.plan import EventPlan, ScoringPlan, split
from fourcastnet_afno.evaluation.regions import region_weights
from fourcastnet_afno.evaluation.scores.assemble import assemble, selected_leads_of
from fourcastnet_afno.evaluation.scores.conventions import CONVENTIONS, Convention
from fourcastnet_afno.evaluation.scores.metrics import ALWAYS, Metric, metrics_of
from fourcastnet_afno.evaluation.scores.spectra_and_maps import group_length
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.evaluation.statistics.spectra import spectrum_of

_MAX_MAP_CHANNELS, _MAX_MAP_LEADS = 4, 4
_MAX_MAP_BYTES = 128 * 2**20
_RETRIES = 3  # of a task whose worker died


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
    """Score forecasts, and baselines beside them.

    Args:
        forecasts: By name; each has initial times, lead times, [members], [level], latitude and
            longitude in WeatherBench 2's layout or this project's, see ``forecasts``; or the path
            of a store, which is read faster where it is a local zarr store.
        truth: Canonical dataset, see ``data_pipeline.sources.canonical``; or the path of a store,
            which is read faster where it is a local zarr store.
        climatology: Coefficients as those of ``PreparedStore.climatology``, or what
            ``climatologies.open_climatology`` gives.
        config: What is scored, and by which conventions.
        training: Canonical dataset of the training years, for the baseline ``linear`` and the
            thresholds of events.
        state: File that keeps what is done, so that an interrupted evaluation goes on.
        execution: A dask cluster on which the work is done; its workers need this package and the
            stores, under the same paths. Without one it is done by threads of this process.
        executor: Where the work is done instead, see ``engine.run``.
        block_bytes: Bytes of a forecast that a task reads; results do not depend on it.

    Returns:
        Every metric of ``metrics`` that applies, (forecast, lead_time, channel, [quantile],
        [neighborhood], [region]), with ``..._interval`` (bound, ...) where the sample allows;
        ``spectrum`` (source, lead_time, channel, zonal_wavenumber) on grids whose rows are circles,
        with ``wavenumber`` instead on a torus, see ``spectra``, where the source is a forecast or
        ``truth``, with ``spectrum_interval`` and ``spectrum_ratio_interval`` of the ratio to
        truth's; ``num_init_times`` and ``missing_values``; maps of the errors. A single region is
        no dimension. Attributes state the conventions, what was left out, and warnings.

    Raises:
        InputError: If forecasts and truth do not fit together, see ``alignment``, a forecast is
            infinite, or a region is empty.
    """
    config = config or EvaluationConfig()
    convention = CONVENTIONS[config.convention]
    given = climatology if isinstance(climatology, Climatology) else from_coefficients(climatology)
    truth, layouts = open_series(truth) if isinstance(truth, str) else (truth, {})
    alignment = align(forecasts, truth, config, layouts)
    given = _coarsen_climatology(given, alignment.coarsening)
    notes = [*alignment.notes, *_overlap_note(given, alignment)]
    if training is not None:
        training = scored(training, alignment.channels)
    series = None if training is None else TruthFields(training, alignment.coarsening)
    fields = _climatology_of(convention, given, alignment)
    sources = _sources(config, alignment, given, training, notes)
    metrics = metrics_of(convention)
    plan = _plan(config, convention, alignment, sources, fields, given, series, truth, metrics)
    chunks = [chunk_lengths(dataset) for dataset in alignment.datasets.values()]
    tasks = split(
        plan,
        (max(c[0] for c in chunks), max(c[1] for c in chunks)),
        block_bytes,
        levels_together=any(holds_levels_together(d) for d in alignment.datasets.values()),
    )
    key = (
        ""
        if state is None
        else _resume_fingerprint(config, plan, tasks, alignment.datasets, truth, series)
    )
    run_all = partial(run, plan, tasks, state=state, key=key)
    if execution is not None and execution.has_cluster:
        with cluster_client(execution) as client:
            client.wait_for_workers(1)
            result = run_all(
                num_threads=sum(client.nthreads().values()),
                executor=client.get_executor(retries=_RETRIES),
                share=partial(client.scatter, broadcast=True, hash=False),
            )
    else:
        result = run_all(num_threads=config.num_threads, executor=executor)
    attrs = convention.describe() | {
        "climatology": given.description,
        "notes": "\n".join(notes),
        "settings": json.dumps(asdict(config)),
    }
    return assemble(result, plan, config, metrics, attrs)


def _coarsen_climatology(climatology: Climatology, coarsening: Coarsening | None) -> Climatology:
    """A climatology on the grid onto which truth is averaged."""
    if coarsening is None:
        return climatology
    return replace(
        climatology,
        at=lambda channel, times: coarsening.apply(climatology.at(channel, times)).astype(float),
        mean=lambda channel: coarsening.apply(climatology.mean(channel)).astype(float),
    )


def _overlap_note(climatology: Climatology, alignment: Alignment) -> list[str]:
    if climatology.period is None:
        return []
    valid = np.unique(alignment.init_times[:, None] + alignment.lead_times[None, :])
    first, last = climatology.period
    inside = int(((valid >= first) & (valid <= last)).sum())
    if not inside:
        return []
    return [
        f"warning: the climatology is of {first.astype('datetime64[D]')} to "
        f"{last.astype('datetime64[D]')}, which includes {inside} of the {len(valid)} valid times "
        "that are scored: scores against it flatter the climatology; give one of other years"
    ]


def _climatology_of(
    convention: Convention, climatology: Climatology, alignment: Alignment
) -> FieldsByTime:
    """The climatology that a convention takes anomalies from."""
    if convention.climatology == "day_of_year":
        return climatology.at
    if convention.climatology == "training_mean":
        return time_invariant(climatology.mean)
    valid = np.unique(alignment.init_times[:, None] + alignment.lead_times[None, :])
    times = valid[np.isin(valid, alignment.truth.times)]
    return time_invariant(lambda channel: alignment.truth.mean(channel, times))


def _sources(
    config: EvaluationConfig,
    alignment: Alignment,
    climatology: Climatology,
    training: xr.Dataset | None,
    notes: list[str],
) -> dict[str, FieldSource]:
    """The forecasts and, where they have no forecast of the same name, the baselines."""
    leads, truth = alignment.lead_times, alignment.truth
    sources: dict[str, FieldSource] = {**alignment.forecasts}
    wanted = [name for name in config.baselines if name not in sources]
    if "persistence" in wanted:
        sources["persistence"] = PersistenceFields(truth, leads)
    if "climatology" in wanted:
        sources["climatology"] = ValidTimeFields(climatology.at, leads)
    if "weekly_climatology" in wanted:
        sources["weekly_climatology"] = ValidTimeFields(weekly_mean(climatology), leads)
    if "linear" in wanted:
        linear = _linear(config, alignment, climatology, training, notes)
        if linear is not None:
            sources["linear"] = linear
    return sources


def _linear(
    config: EvaluationConfig,
    alignment: Alignment,
    climatology: Climatology,
    training: xr.Dataset | None,
    notes: list[str],
) -> LinearFields | None:
    if training is None:
        notes.append("no baseline linear: there are no training years to fit it to")
        return None
    series = TruthFields(training, alignment.coarsening)
    channels, leads = alignment.channels, alignment.lead_times
    try:
        model = fit_linear(
            series, channels, alignment.grid, climatology.at, leads, config.linear_components
        )
    except InputError as error:
        notes.append(f"no baseline linear: {error}")
        return None
    return LinearFields(model, channels, alignment.truth, climatology.at, leads)


def _plan(
    config: EvaluationConfig,
    convention: Convention,
    alignment: Alignment,
    sources: Mapping[str, FieldSource],
    fields: FieldsByTime,
    climatology: Climatology,
    series: TruthFields | None,
    truth: xr.Dataset,
    metrics: Mapping[str, Metric],
) -> ScoringPlan:
    grid, channels = alignment.grid, alignment.channels
    land = _land_fraction(truth, alignment.coarsening)
    weights = region_weights(config.regions, grid, convention.grid_weights(grid), land)
    flat = region_weights(config.regions, grid, np.ones(grid.shape), land)
    needed = {s for m in metrics.values() if m.kind == "all" for s in m.statistics}
    if config.metrics:
        needed &= _needed(config.metrics, metrics)
    leads = selected_leads_of(alignment.lead_times)
    leads = [
        leads[i] for i in np.unique(np.linspace(0, len(leads) - 1, _MAX_MAP_LEADS).astype(int))
    ]
    cells = grid.shape[0] * grid.shape[1]
    largest = _MAX_MAP_BYTES // (24 * cells * len(leads) * len(sources))
    labels = channels.labels[: min(_MAX_MAP_CHANNELS, largest)]
    spectrum = spectrum_of(grid) if config.spectra else None
    num_wavenumbers = 1 if spectrum is None else len(spectrum.wavenumbers)
    return ScoringPlan(
        channels=channels,
        grid=grid,
        init_times=alignment.init_times,
        lead_times=alignment.lead_times,
        sources=sources,
        truth=alignment.truth,
        climatology=fields,
        averager=Averager(weights),
        plain=Averager(flat) if convention.acc == "pooled" else None,
        needed=frozenset(needed | {"squared_error", "missing"}),
        spectrum=spectrum,
        ensembles=any(source.num_members > 1 for source in sources.values()),
        events=_events(config, channels, climatology, series),
        map_leads=leads,
        map_channels=labels if config.maps else (),
        group_length=group_length(
            len(alignment.init_times),
            8 * len(alignment.lead_times) * len(channels) * num_wavenumbers,
            config.num_resamples > 0,
        ),
    )


def _needed(names: list[str], metrics: Mapping[str, Metric]) -> set[str]:
    unknown = [name for name in names if name not in metrics]
    if unknown:
        raise InputError(
            f"evaluation.metrics has the unknown names {unknown}; known are {', '.join(metrics)}"
        )
    return {statistic for name in [*names, *ALWAYS] for statistic in metrics[name].statistics}


def _land_fraction(truth: xr.Dataset, coarsening: Coarsening | None) -> np.ndarray | None:
    if "land_sea_mask" not in truth:
        return None
    mask = truth["land_sea_mask"]
    mask = mask.isel(time=0) if "time" in mask.dims else mask
    values = mask.transpose("latitude", "longitude").values.astype(np.float64)
    return values if coarsening is None else coarsening.apply(values).astype(np.float64)


def _events(
    config: EvaluationConfig,
    channels: Channels,
    climatology: Climatology,
    series: TruthFields | None,
) -> EventPlan:
    if config.quantiles and series is None:
        raise InputError(
            "evaluation.quantiles need the training years, for the quantiles of each cell; give "
            "them, or leave evaluation.quantiles empty"
        )
    found = {c.label: seeps_thresholds(c, climatology, series) for c in channels}
    thresholds = {}
    if config.quantiles and series is not None:
        thresholds = quantile_thresholds(series, channels, config.quantiles)
    return EventPlan(
        thresholds=thresholds,
        neighborhoods=config.neighborhoods,
        extremes=config.extremes,
        seeps={label: value for label, value in found.items() if value is not None},
    )


def _resume_fingerprint(
    config: EvaluationConfig,
    plan: ScoringPlan,
    tasks: list,
    forecasts: Mapping[str, xr.Dataset],
    truth: xr.Dataset,
    training: TruthFields | None,
) -> str:
    """What results depend on, so that a state of another evaluation is not taken up.

    Files count by name, size and time of change, climatology and training years by a sample.
    """
    digest = hashlib.blake2b(digest_size=16)
    settings = asdict(config)
    del settings["num_threads"]  # may be another when it goes on
    digest.update(json.dumps(settings).encode())
    dim = None if plan.spectrum is None else plan.spectrum.dim
    # Written as version 0.1 did, so that its states are taken up.
    cut = [f"Task({repr(task).partition('(')[2]}" for task in tasks]
    written = f"([{', '.join(cut)}], {plan.channels.to_json()!r}, {str(plan.grid)!r}, {dim!r})"
    digest.update(written.encode())
    digest.update(plan.init_times.tobytes() + plan.lead_times.tobytes())
    for dataset in (*forecasts.values(), truth):
        source = str(dataset.encoding.get("source", ""))
        files = file_fingerprints(source) if source and Path(source).exists() else []
        digest.update(repr((source, files, dataset.attrs)).encode())
    for channel in plan.channels:
        first = plan.init_times[:1] + plan.lead_times[0]
        digest.update(np.ascontiguousarray(plan.climatology(channel, first)).tobytes())
        if training is not None:
            digest.update(training.times.tobytes())
            digest.update(training.at(channel, training.times[-1:]).tobytes())
    return digest.hexdigest()
