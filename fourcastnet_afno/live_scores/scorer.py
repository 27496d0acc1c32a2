"""Scores of forecasts while they are made.

The statistics, their sums and the scores are those of ``evaluation``, run on fields in memory: a
part of a forecast is a task of its plan. So the scores are those of the same fields in files.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from data_pipeline.channels import Channels
from data_pipeline.files.outputs import Output
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields
from fourcastnet_afno.evaluation.inputs.climatologies import Climatology
from fourcastnet_afno.evaluation.inputs.fields import HeldFields
from fourcastnet_afno.evaluation.plan import ScoringTask
from fourcastnet_afno.evaluation.scores.tables import scores_outputs, write_scores
from fourcastnet_afno.evaluation.scoring import Scoring
from fourcastnet_afno.evaluation.tasks import run_task
from fourcastnet_afno.inference.job import Unit
from fourcastnet_afno.inference.resume import Work
from fourcastnet_afno.live_scores.states import ScoreStates

MODEL = "model"
"""Name of the forecasts among the scored ones, as in the scores of a run."""


@dataclass(frozen=True, kw_only=True)
class LiveScoring:
    """Truth and settings of scores that are made with the forecasts; see ``evaluate``.

    Args:
        path: NetCDF file of the scores; JSON and CSV are written next to it.
        config: Scores and conventions.
        truth: Canonical dataset, or the path of a store.
        climatology: As for ``evaluate``.
        training: Training years, if they are known.
        data: JSON values that tell truth, climatology and training years from others.
        attrs: Further attributes of the scores.
    """

    path: Path
    config: EvaluationConfig
    truth: xr.Dataset | str
    climatology: xr.Dataset | Climatology
    training: xr.Dataset | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)
    _baselines: list[BaselineFields] = field(default_factory=list, init=False, compare=False)

    @property
    def outputs(self) -> Sequence[Output]:
        """Files of the scores."""
        return scores_outputs(self.path.with_suffix(".json"), self.path)

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values that tell these scores from others."""
        settings = self.config.settings()
        del settings["num_threads"]
        settings.pop("point", None)  # of the report
        return {f"evaluation.{name}": value for name, value in settings.items()} | dict(self.data)

    def open(
        self, forecasts: xr.Dataset, channels: Channels, units: Sequence[Unit], work: Work
    ) -> "LiveScorer":
        """See ``inference.unit_output.ScorerMaker``."""
        scoring = self._scoring_of(forecasts)
        held = HeldFields(scoring.inputs.alignment.forecasts[MODEL])
        scoring = scoring.with_fields(MODEL, held)
        inits = [slice(*u.inits.indices(len(scoring.plan.init_times))) for u in units]
        folder = work.folder.folder
        return LiveScorer(
            request=self,
            scoring=scoring,
            held=held,
            channels=channels.labels,
            inits=inits,
            states=ScoreStates(folder, work.fingerprint, scoring.plan, inits),
            fingerprint=work.fingerprint,
        )

    def _scoring_of(self, forecasts: xr.Dataset) -> Scoring:
        scoring = Scoring.of(
            {MODEL: forecasts}, self.truth, self.climatology, self.config, training=self.training
        )
        self._baselines[:] = [scoring.baselines]
        return scoring

    def baselines(self, forecasts: xr.Dataset) -> BaselineFields:
        """The fields of the baselines, fitted here only where nothing was left to score."""
        if not self._baselines:
            self._scoring_of(forecasts)
        return self._baselines[0]


@dataclass(frozen=True, kw_only=True)
class LiveScorer:
    """Scores the units of a forecast, see ``inference.unit_output.Scorer``.

    Args:
        request: What is asked for.
        scoring: The work, whose fields of the model are ``held``.
        held: Takes the fields of a chunk.
        channels: Labels of the channels of these fields.
        inits: Initial times of each unit.
        states: Files of the sums.
        fingerprint: Of forecasts and scores.
    """

    request: LiveScoring
    scoring: Scoring
    held: HeldFields
    channels: Sequence[str]
    inits: Sequence[slice]
    states: ScoreStates
    fingerprint: str
    _block: ExitStack = field(default_factory=ExitStack)
    _threads: list[ThreadPoolExecutor] = field(default_factory=list)

    def __enter__(self) -> "LiveScorer":
        count = self.request.config.num_threads
        names = ("truth", 1), ("scores", count)
        pools = [ThreadPoolExecutor(number, name) for name, number in names]
        self._threads[:] = [self._block.enter_context(pool) for pool in pools]
        self._block.enter_context(threadpool_limits(1, "blas"))  # the network has the other cores
        return self

    def __exit__(self, *error: object) -> None:
        self._block.close()

    def open_unit(self, unit: Unit) -> "LiveUnitScores":
        """The scores of a unit, with those that an interrupted forecast has kept."""
        return LiveUnitScores(self, unit.number)

    def read_ahead(self, inits: slice, leads: slice) -> None:
        """Read truth at the valid times of a part, in a thread."""
        plan = self.scoring.plan
        truth, _ = self._threads
        truth.submit(plan.truth.read_ahead, plan.times_with_truth(inits, leads))

    def score(self, inits: slice, leads: slice, members: np.ndarray) -> list[AggregationState]:
        """Statistics of a part, by channel."""
        fields = np.moveaxis(members, 1, 2)  # (init, lead, member, channel, ...)
        by_label = {label: fields[..., i, :, :] for i, label in enumerate(self.channels)}
        self.held.hold(by_label)
        plan = self.scoring.plan
        tasks = [ScoringTask((index,), inits, leads) for index in range(len(plan.channels))]
        _, threads = self._threads
        parts = threads.map(run_task, repeat(plan), tasks)
        return [part for parts_of_channel in parts for part in parts_of_channel]

    def write(self, netcdf: Path, blow_ups: Sequence[Mapping[str, Any]]) -> None:
        """Write the scores of all units."""
        scores = self.scoring.scores(self.states.total())
        notes = [line for line in scores.attrs["notes"].splitlines() if line]
        if blow_ups:
            notes.append(
                f"{len(blow_ups)} forecasts blew up, the first from {blow_ups[0]['init_time']} in "
                f"step {blow_ups[0]['step']}; their values are missing from there on"
            )
        scores.attrs |= {"notes": "\n".join(notes), **self.request.attrs}
        scores.attrs["fingerprint"] = self.fingerprint
        write_scores(scores, self.request.path.with_suffix(".json"), netcdf)


class LiveUnitScores:
    """Scores of one unit, see ``inference.unit_output.UnitScores``."""

    def __init__(self, scorer: LiveScorer, unit: int) -> None:
        self._scorer, self._unit, self._inits = scorer, unit, scorer.inits[unit]
        self._state, self.num_scored = scorer.states.load(unit)

    def expect(self, leads: slice) -> None:
        """Read truth ahead, in a thread."""
        self._scorer.read_ahead(self._inits, leads)

    def add(
        self, leads: slice, members: Float[np.ndarray, "init member lead channel lat lon"]
    ) -> None:
        """Score the fields of the next lead times, and keep the sums."""
        for part in self._scorer.score(self._inits, leads, members):
            self._state += part
        self.num_scored = leads.stop
        self._scorer.states.save(self._unit, self._state, self.num_scored)

    def finish(self) -> None:
        """Add the sums of the unit to those before it."""
        self._scorer.states.add_finished()
