"""The work of an evaluation: what is compared, aligned, its plan, and the scores made of its sums.

``evaluate`` does the work of a plan on stored forecasts; forecasts that are scored while they are
made do the same work on fields in memory.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of
from data_pipeline.grids.relaxation import zone_mask
from data_pipeline.redaction import redact_texts
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.config import PERFECT_MODEL, EvaluationConfig
from fourcastnet_afno.evaluation.inputs.align import Alignment, align
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields, fit_linear
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
)
from fourcastnet_afno.evaluation.inputs.open import open_series
from fourcastnet_afno.evaluation.inputs.thresholds import quantile_thresholds, seeps_thresholds
from fourcastnet_afno.evaluation.metrics import Metric
from fourcastnet_afno.evaluation.metrics.deterministic import MISSING, SQUARED_ERROR
from fourcastnet_afno.evaluation.plan import ScoringPlan
from fourcastnet_afno.evaluation.regions import region_weights
from fourcastnet_afno.evaluation.scores.assemble import assemble
from fourcastnet_afno.evaluation.scores.conventions import CONVENTIONS, Convention
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.evaluation.scores.spectra_and_maps import group_length
from fourcastnet_afno.evaluation.statistics.averages import Averager
from fourcastnet_afno.evaluation.statistics.pairs import PairSettings, SeepsThresholds
from fourcastnet_afno.evaluation.statistics.patches import PatchEnergy, patch_energy_of
from fourcastnet_afno.evaluation.statistics.spectra import spectrum_of

_MAX_MAP_CHANNELS, _MAX_MAP_LEADS = 4, 4
_MAX_MAP_BYTES = 128 * 2**20


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The work of an evaluation, and how its sums become scores."""

    inputs: "ScoringInputs"
    plan: ScoringPlan
    metrics: Mapping[str, Metric]
    attrs: Mapping[str, Any]  # of the scores: conventions, settings, notes, trajectories

    @classmethod
    def of(
        cls,
        forecasts: Mapping[str, xr.Dataset | str],
        truth: xr.Dataset | str,
        climatology: xr.Dataset | Climatology,
        config: EvaluationConfig,
        *,
        training: xr.Dataset | None = None,
    ) -> "Scoring":
        """Align all that is compared, see ``evaluate``.

        Raises:
            InputError: If forecasts and truth do not fit, or a region is empty.
        """
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
        metrics = convention.metrics(config.metrics)
        sources, more = inputs.sources()
        _require_reference(config.reference, list(sources), more)
        notes += [*more, *inputs.seeps[1]]
        attrs = convention.describe(alignment.grid, alignment.trajectories) | {
            "climatology": climatology.description,
            "notes": "\n".join([*alignment.notes, *notes, *inputs.driven_cells]),
            "settings": json.dumps(config.settings()),
        }
        attrs |= {} if alignment.trajectories is None else alignment.trajectories.attrs
        plan = inputs.plan(sources, metrics)
        return cls(inputs=inputs, plan=plan, metrics=metrics, attrs=attrs)

    def with_fields(self, name: str, fields: FieldSource) -> "Scoring":
        """The same work on other fields of a forecast."""
        sources = {**self.plan.sources, name: fields}
        return replace(self, plan=replace(self.plan, sources=sources))

    @property
    def baselines(self) -> BaselineFields:
        """The fields of the baselines, at the valid times that truth has."""
        alignment, times = self.inputs.alignment, self.inputs.alignment.valid_times
        known = np.isin(times.table, alignment.truth.times)
        table = np.where(known, times.table, np.datetime64("NaT"))
        sources = self.plan.sources
        return BaselineFields(
            sources={n: s for n, s in sources.items() if n not in alignment.forecasts},
            channels=alignment.channels,
            grid=alignment.grid,
            valid_times=replace(times, table=table),
        )

    def scores(self, total: AggregationState) -> xr.Dataset:
        """The scores, from the statistics of all pairs; see ``evaluate``."""
        attrs = redact_texts(dict(self.attrs))
        return assemble(total, self.plan, self.inputs.config, self.metrics, attrs)


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

    @property
    def driven_cells(self) -> list[str]:
        """Notes on the cells near open edges whose values are given, see ``data.boundary``."""
        if margin := self.config.margin:
            return [f"{margin} cells along each open edge are left out (evaluation.margin)"]
        return [
            f"{name} is driven in {dataset.attrs['boundary_width']} cells along each open edge, "
            "which count; evaluation.margin leaves them out"
            for name, dataset in self.alignment.datasets.items()
            if "boundary_width" in dataset.attrs
        ]

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
        inside = 1.0 - zone_mask(grid, config.margin, "evaluation.margin")
        weights, ones = self.convention.grid_weights(grid) * inside, inside
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
        lead_times = LeadTimes(alignment.lead_times, alignment.trajectories)
        map_leads = lead_times.selected_for_maps(_MAX_MAP_LEADS)
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
