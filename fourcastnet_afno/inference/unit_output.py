"""The output of a unit of forecasts: steps are collected and written or scored chunk by chunk."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from data_pipeline.channels import Channels
from data_pipeline.files.outputs import Output
from data_pipeline.store.format import checksum
from fourcastnet_afno.inference.ensemble import summarize_members
from fourcastnet_afno.inference.integration import StepResult
from fourcastnet_afno.inference.job import ForecastJob, Unit
from fourcastnet_afno.inference.resume import Restart, Work
from fourcastnet_afno.inference.store import ForecastStore, bit_rounded

_Target = tuple[str, int | None]  # group of the store, and index of the quantile
_SCORED: _Target = ("scored", None)  # members that are not written


@runtime_checkable
class UnitScores(Protocol):
    """Scores of the forecasts of a unit, which outlive the process."""

    num_scored: int
    """Lead times, from the first, whose scores are safe."""

    def expect(self, leads: slice) -> None:
        """Read ahead what the fields of the next lead times will be compared with."""
        ...

    def add(
        self, leads: slice, members: Float[np.ndarray, "init member lead channel lat lon"]
    ) -> None:
        """Score the fields of the next lead times, and keep their scores."""
        ...

    def finish(self) -> None:
        """Add the scores of the complete unit to those of the others."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """Scores forecasts while they are made; its threads end with its block."""

    def __enter__(self) -> object: ...

    def __exit__(self, *error: object) -> None: ...

    def open_unit(self, unit: Unit) -> UnitScores:
        """The scores of a unit, with those that an interrupted forecast has kept."""
        ...

    def write(self, netcdf: Path, blow_ups: Sequence[Mapping[str, Any]]) -> None:
        """Write the scores of all units, as NetCDF to this path, and what belongs next to it."""
        ...


@runtime_checkable
class ScorerMaker(Protocol):
    """Truth and settings of the scores of forecasts that are still to be made."""

    @property
    def outputs(self) -> Sequence[Output]:
        """Files of the scores, the first as NetCDF."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON values that tell these scores from others."""
        ...

    def open(
        self, forecasts: xr.Dataset, channels: Channels, units: Sequence[Unit], work: Work
    ) -> Scorer:
        """Compare the axes of the forecasts, whose values do not matter, with truth.

        The channels are in the order of the fields to come.

        Raises:
            InputError: If they do not fit.
        """
        ...


class UnitOutput:
    """Collects steps until a chunk is complete, and writes and scores it in the writer's thread.

    Without a store the fields are only scored.
    """

    def __init__(
        self,
        job: ForecastJob,
        work: Work,
        store: ForecastStore | None,
        unit: Unit,
        scorer: Scorer | None = None,
    ) -> None:
        self._job, self._work, self._store, self._unit = job, work, store, unit
        self._missing = work.missing_chunks(unit.number)
        self._scores = None if scorer is None else scorer.open_unit(unit)
        if self._scores is not None:
            chunks = range(job.num_chunks)
            self._missing |= {c for c in chunks if self._leads(c).start >= self._scores.num_scored}
        self._fields: dict[_Target, list[np.ndarray]] = {}
        self._statistics: dict[str, list[np.ndarray]] = {}
        self.restart_file = work.restart_file(unit.number)
        restart = Restart.load(self.restart_file)
        first = min(self._missing, default=0) * job.layout.steps_together
        # A chunk that the records have lost is computed again, from the start.
        self.restart = restart if restart and restart.num_steps <= first else None
        self._blow_ups = self.restart.blow_ups if self.restart else []

    def save_restart(self, sets: Sequence[Mapping[str, Tensor]], num_steps: int) -> None:
        """Keep the state of all sets after ``num_steps`` steps."""
        restart = Restart(sets, num_steps, self._blow_ups)
        restart.save(self.restart_file)

    def ends_chunk(self, step: int) -> bool:
        """Whether the step (from 0) is the last of a chunk."""
        layout = self._job.layout
        return (step + 1) % layout.steps_together == 0 or step + 1 == len(layout.lead_times)

    def _leads(self, chunk: int) -> slice:
        """Lead times of a chunk."""
        layout = self._job.layout
        first = chunk * layout.steps_together
        return slice(first, min(first + layout.steps_together, len(layout.lead_times)))

    def collect(
        self, step: int, results: Sequence[tuple[StepResult, np.ndarray]]
    ) -> Callable[[], None]:
        """Prepare a step (from 0) on the device; the call that is returned copies and keeps it.

        ``results`` are those of each set, with the indices of its forecasts.
        """
        blow_ups = [record for result, _ in results for record in result.blow_ups]
        job, unit = self._job, self._unit
        shape = len(job.init_times[unit.inits]), len(job.members[unit.members])
        order = np.argsort(np.concatenate([indices for _, indices in results]))
        fields: dict[_Target, Tensor] = {}
        chunk = step // job.layout.steps_together
        if chunk in self._missing:
            if self._scores is not None and step == self._leads(chunk).start:
                self._scores.expect(self._leads(chunk))
            every = len(job.selected) == len(job.channels)
            selected = slice(None) if every else job.selected
            members = _merge([r.fields[:, selected] for r, _ in results], order, shape)
            quantiles = job.quantiles
            if self._scores is not None and (self._store is None or quantiles is not None):
                fields[_SCORED] = members
            if self._store is not None:
                written = {("", None): members}
                fields |= written if quantiles is None else _summarize(members, quantiles)
        statistics = {
            name: _merge([r.statistics[name] for r, _ in results], order, shape)
            for name in results[0][0].statistics
        }
        return lambda: self._accept(step, fields, statistics, blow_ups)

    def _accept(
        self,
        step: int,
        fields: dict[_Target, Tensor],
        statistics: dict[str, Tensor],
        blow_ups: list[dict[str, Any]],
    ) -> None:
        self._blow_ups = self._blow_ups + blow_ups
        for target, tensor in fields.items():
            self._fields.setdefault(target, []).append(tensor.cpu().numpy())
        for name, values in statistics.items():
            self._statistics.setdefault(name, []).append(values.numpy())
        if not self.ends_chunk(step):
            return
        number, chunk = self._unit.number, step // self._job.layout.steps_together
        last = chunk == self._job.num_chunks - 1
        if chunk in self._missing:
            digest = self._write(chunk)
            self._score(chunk)
            if last:
                self._work.save_blow_ups(number, self._blow_ups)
            self._work.record(number, chunk, digest)
        if last:
            self.restart_file.unlink(missing_ok=True)
            if self._scores is not None:
                self._scores.finish()
        self._fields, self._statistics = {}, {}

    def _write(self, chunk: int) -> str:
        """Write a chunk to the store, if there is one; returns the checksum of its fields."""
        if self._store is None:
            return ""
        start = (self._unit.inits.start, self._unit.members.start, self._leads(chunk).start)
        for target, steps in self._fields.items():
            if target != _SCORED:
                self._store.write(np.stack(steps, axis=2), start, *target)
        stacked = {name: np.stack(x, axis=2) for name, x in self._statistics.items()}
        self._store.write_diagnostics(stacked, start)
        return checksum(np.stack(self._fields["", None]))

    def _score(self, chunk: int) -> None:
        """Score a chunk as it is, or would be, written, unless it has been."""
        leads = self._leads(chunk)
        if self._scores is None or leads.start < self._scores.num_scored:
            return
        steps = self._fields.get(_SCORED) or self._fields["", None]
        members = steps[0][:, :, None] if len(steps) == 1 else np.stack(steps, axis=2)
        self._scores.add(leads, bit_rounded(members, self._job.config.store.keep_bits))


def _merge(values: Sequence[Tensor], order: np.ndarray, shape: tuple[int, int]) -> Tensor:
    """Values of all sets as (init, member, ...)."""
    merged = values[0] if len(values) == 1 else torch.cat(list(values))
    if (np.diff(order) != 1).any():
        merged = merged[torch.from_numpy(order)]
    return merged.view(*shape, *merged.shape[1:])


def _summarize(members: Tensor, quantiles: Sequence[float]) -> dict[_Target, Tensor]:
    """Mean, spread and quantiles over the members that have not ended, by initial time."""
    targets: list[_Target] = [("", None), ("spread", None)]
    targets += [("quantiles", index) for index in range(len(quantiles))]
    results = {target: torch.full_like(members[:, :1], torch.nan) for target in targets}
    for init, forecasts in enumerate(members):
        alive = forecasts[~torch.isnan(forecasts).flatten(1).all(dim=1)]
        # One channel at a time: float64 and sorted copies are larger than the fields.
        for channel in range(members.shape[2] if len(alive) else 0):
            mean, spread, by_quantile = summarize_members(alive[:, channel], quantiles)
            for target, values in zip(targets, (mean, spread, *by_quantile), strict=True):
                results[target][init, 0, channel] = values
    return results
