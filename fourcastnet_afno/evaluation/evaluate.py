"""Evaluation: forecasts and baselines against truth, by lead time and channel."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.files.outputs import require_ours
from data_pipeline.grids.plane import grid_of
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.redaction import redact_texts, without_secrets
from data_pipeline.sources.files import file_fingerprints
from fourcastnet_afno.evaluation.aggregation import StateFile, state_output
from fourcastnet_afno.evaluation.config import PERFECT_MODEL, EvaluationConfig
from fourcastnet_afno.evaluation.engine import run_tasks
from fourcastnet_afno.evaluation.inputs.align import Alignment, align
from fourcastnet_afno.evaluation.inputs.baselines import fit_linear
from fourcastnet_afno.evaluation.inputs.climatologies import (
    Climatology,
    time_invariant,
    weekly_mean,
)
from fourcastnet_afno.evaluation.inputs.climatology_sources import climatology_of
from fourcastnet_afno.evaluation.inputs.companions import (
    AlignedClimatology,
    AlignedYears,
    align_climatology,
    align_years,
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
from fourcastnet_afno.evaluation.metrics import Metric
from fourcastnet_afno.evaluation.metrics.deterministic import MISSING, SQUARED_ERROR
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask, split
from fourcastnet_afno.evaluation.regions import region_weights
from fourcastnet_afno.evaluation.scores.assemble import assemble
from fourcastnet_afno.evaluation.scores.conventions import CONVENTIONS, Convention
from fourcastnet_afno.evaluation.scores.lead_times import leads_of_maps
from fourcastnet_afno.evaluation.scores.spectra_and_maps import group_length
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.evaluation.statistics.pairs import PairSettings, SeepsThresholds
from fourcastnet_afno.evaluation.statistics.patches import PatchEnergy, patch_energy_of
from fourcastnet_afno.evaluation.statistics.spectra import spectrum_of
from fourcastnet_afno.evaluation.unchanged import unchanged

_MAX_MAP_CHANNELS, _MAX_MAP_LEADS = 4, 4
_MAX_MAP_BYTES = 128 * 2**20


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
    config = config or EvaluationConfig()
    if state is not None:
        require_ours(state_output(state))
    paths = [path for path in (*forecasts.values(), truth) if isinstance(path, str)]
    with unchanged(paths, state):
        truth, mapped = open_series(truth) if isinstance(truth, str) else (truth, {})
        alignment = align(forecasts, truth, config.channels, config.regrid, mapped)
        convention = CONVENTIONS[config.convention]
        if not isinstance(climatology, Climatology):
            fit, num_harmonics = convention.fit_of(config), config.climatology_harmonics
            climatology = climatology_of(climatology, alignment.channels, fit, num_harmonics)
        aligned, notes = align_climatology(climatology, alignment, config.regrid)
        years = None
        if training is not None:
            years, more = align_years(training, alignment, config.regrid)
            notes += more
        inputs = ScoringInputs(
            config=config, alignment=alignment, truth=truth, training=years, climatology=aligned
        )
        metrics = inputs.convention.metrics(config.metrics)
        sources, more = inputs.sources()
        _require_reference(config.reference, list(sources), more)
        notes += [*more, *inputs.seeps[1]]
        plan = inputs.plan(sources, metrics)
        datasets = alignment.datasets.values()
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
        attrs = inputs.convention.describe() | {
            "climatology": climatology.description,
            "notes": "\n".join([*alignment.notes, *notes]),
            "settings": json.dumps(asdict(config)),
        }
        return assemble(total, plan, config, metrics, redact_texts(attrs))


def _require_reference(reference: str | None, names: Sequence[str], notes: Sequence[str]) -> None:
    if reference is None or reference in names:
        return
    reason = "".join(f" ({note})" for note in notes if note.startswith(f"no baseline {reference}:"))
    raise InputError(
        f"evaluation.reference is {reference!r}{reason}, scored are {', '.join(names)}; set it to "
        "one of them",
        code="unknown-name",
    )


@dataclass(frozen=True, kw_only=True)
class ScoringInputs:
    """Everything that is scored, on one grid."""

    config: EvaluationConfig
    alignment: Alignment
    truth: xr.Dataset  # on its own grid
    climatology: AlignedClimatology
    training: AlignedYears | None

    @property
    def convention(self) -> Convention:
        """Definitions of scores."""
        return CONVENTIONS[self.config.convention]

    def sources(self) -> tuple[dict[str, FieldSource], list[str]]:
        """The forecasts and the baselines of other names, and notes for people."""
        alignment, notes = self.alignment, []
        leads, truth, climatology = alignment.lead_times, alignment.truth, self.climatology.at
        sources: dict[str, FieldSource] = {**alignment.forecasts}
        lacking = [name for name in self.config.baselines if name not in sources]
        if PERFECT_MODEL in lacking:
            raise InputError(
                "evaluation.baselines has perfect_model, the simulator of the data, which the verb "
                "`evaluate` runs; give what it wrote as a forecast, --forecast "
                "perfect_model=RUN/perfect_model.zarr, or leave perfect_model out",
                code="no-simulator",
            )
        if "persistence" in lacking:
            sources["persistence"] = PersistenceFields(truth, leads)
        if "climatology" in lacking:
            sources["climatology"] = ValidTimeFields(climatology, alignment.valid_times)
        if "weekly_climatology" in lacking:
            weekly = weekly_mean(climatology, self.climatology.hours)
            sources["weekly_climatology"] = ValidTimeFields(weekly, alignment.valid_times)
        if "linear" in lacking and self.training is None:
            notes.append("no baseline linear: there are no training years to fit it to")
        elif "linear" in lacking and self.training is not None:
            channels, grid = alignment.channels, alignment.grid
            count = self.config.linear_components
            try:
                sources["linear"] = fit_linear(
                    self.training, truth, channels, grid, climatology, alignment.valid_times, count
                )
            except InputError as error:
                notes.append(f"no baseline linear: {error}")
        if PERFECT_MODEL in sources:  # last, after the other baselines
            sources[PERFECT_MODEL] = sources.pop(PERFECT_MODEL)
        return sources, notes

    @cached_property
    def seeps(self) -> tuple[dict[str, SeepsThresholds], list[str]]:
        """Thresholds of SEEPS by label, and notes for people."""
        return seeps_thresholds(self.alignment.channels, self.climatology, self.training)

    def pair_settings(self, has_ensembles: bool) -> PairSettings:
        """Weights of the regions, and thresholds of events.

        Raises:
            InputError: If there are no training years for the thresholds.
        """
        config, training, alignment = self.config, self.training, self.alignment
        thresholds = {}
        if config.quantiles:
            if training is None:
                raise InputError(
                    "evaluation.quantiles need the training years; give them, or leave it empty",
                    code="no-training-years",
                )
            thresholds = quantile_thresholds(training, alignment.channels, config.quantiles)
        grid, land = alignment.grid, None
        if "land_sea_mask" in self.truth:
            mask = self.truth["land_sea_mask"]
            mask = mask.isel(time=0) if "time" in mask.dims else mask
            land = mask.transpose("latitude", "longitude").values.astype(np.float64)
            if alignment.coarsening is not None:
                land = alignment.coarsening.apply(land).astype(np.float64)
        weights, ones = self.convention.grid_weights(grid), np.ones(grid.shape)
        return PairSettings(
            averager=Averager(region_weights(config.regions, grid, weights, land)),
            unweighted=Averager(region_weights(config.regions, grid, ones, land)),
            has_ensembles=has_ensembles,
            thresholds=thresholds,
            neighborhoods=config.neighborhoods,
            closed=(grid.dims[0] in grid.periodic_axes, grid.dims[1] in grid.periodic_axes),
            extremes=config.extremes,
            seeps=self.seeps[0],
        )

    def plan(
        self, sources: Mapping[str, FieldSource], metrics: Mapping[str, Metric]
    ) -> ScoringPlan:
        """The work that the engine does."""
        config, alignment, truth = self.config, self.alignment, self.alignment.truth
        grid, channels = alignment.grid, alignment.channels
        climatology = self.climatology.at
        if self.convention.climatology == "training_mean":
            climatology = time_invariant(self.climatology.mean)
        elif self.convention.climatology == "scored_mean":
            valid = alignment.valid_times.unique
            times = valid[np.isin(valid, truth.times)]
            climatology = time_invariant(lambda channel: truth.mean(channel, times))
        map_leads = leads_of_maps(alignment.lead_times, _MAX_MAP_LEADS)
        cells = grid.shape[0] * grid.shape[1]
        largest = _MAX_MAP_BYTES // (24 * cells * len(map_leads) * len(sources))
        spectrum = spectrum_of(grid) if config.spectra else None
        num_wavenumbers = 1 if spectrum is None else len(spectrum.wavenumbers)
        spectra_bytes = 8 * len(alignment.lead_times) * len(channels) * num_wavenumbers
        statistics = [s for metric in metrics.values() for s in metric.statistics]
        return ScoringPlan(
            channels=channels,
            grid=grid,
            init_times=alignment.init_times,
            lead_times=alignment.lead_times,
            valid_times=alignment.valid_times.table,
            sources=sources,
            truth=truth,
            climatology=climatology,
            settings=self.pair_settings(any(s.num_members > 1 for s in sources.values())),
            statistics=list(dict.fromkeys([SQUARED_ERROR, MISSING, *statistics])),
            spectrum=spectrum,
            patch_energies=self._patch_energies(),
            map_leads=map_leads,
            map_channels=channels.labels[: min(_MAX_MAP_CHANNELS, largest)] if config.maps else (),
            group_length=group_length(
                len(alignment.init_times), spectra_bytes, config.num_resamples > 0
            ),
        )

    def _patch_energies(self) -> dict[str, PatchEnergy]:
        """Energies at the patches of the forecasts that tell them and are on the common grid."""
        grid, known = self.alignment.grid, dict[str, PatchEnergy]()
        for name, dataset in self.alignment.datasets.items():
            energy = patch_energy_of(grid, dataset.attrs)
            if energy is not None and grid_of(dataset).is_same(grid):
                known[name] = energy
        return known


def _resume_fingerprint(
    inputs: ScoringInputs, plan: ScoringPlan, tasks: Sequence[ScoringTask]
) -> str:
    """Digest of all that results depend on, so that the state of another evaluation is ignored.

    Files count by name, size and time of change, climatology and training years by a sample.
    """
    digest = hashlib.blake2b(digest_size=16)
    settings = asdict(inputs.config)
    del settings["num_threads"]  # may be another when it resumes
    # As version 0.1 wrote them; how a climatology is fitted shows in its fields.
    del settings["climatology"]
    del settings["perfect_model_members"]  # its forecasts are a file
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
