"""The output of a unit of forecasts: steps are collected and written chunk by chunk."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_pipeline.store.format import checksum
from fourcastnet_afno.inference.ensemble import summarize_members
from fourcastnet_afno.inference.integration import StepResult
from fourcastnet_afno.inference.job import ForecastJob, Unit
from fourcastnet_afno.inference.resume import Restart, Work
from fourcastnet_afno.inference.store import ForecastStore

_Target = tuple[str, int | None]  # group of the store, and index of the quantile


class UnitOutput:
    """Collects steps until a chunk is complete, and writes it, all in the writer's thread."""

    def __init__(self, job: ForecastJob, work: Work, store: ForecastStore, unit: Unit) -> None:
        self._job, self._work, self._store, self._unit = job, work, store, unit
        self._missing = work.missing_chunks(unit.number)
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

    def collect(
        self, step: int, results: Sequence[tuple[StepResult, np.ndarray]]
    ) -> Callable[[], None]:
        """Prepare a step (from 0) on the device; the call that is returned copies and writes it.

        ``results`` are those of each set, with the indices of its forecasts.
        """
        blow_ups = [record for result, _ in results for record in result.blow_ups]
        job, unit = self._job, self._unit
        shape = len(job.init_times[unit.inits]), len(job.members[unit.members])
        order = np.argsort(np.concatenate([indices for _, indices in results]))
        fields: dict[_Target, Tensor] = {}
        if step // job.layout.steps_together in self._missing:
            every = len(job.selected) == len(job.channels)
            selected = slice(None) if every else job.selected
            members = _merge([r.fields[:, selected] for r, _ in results], order, shape)
            quantiles = job.quantiles
            fields = {("", None): members} if quantiles is None else _summarize(members, quantiles)
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
            first = chunk * self._job.layout.steps_together
            start = (self._unit.inits.start, self._unit.members.start, first)
            for (group, quantile), steps in self._fields.items():
                self._store.write(np.stack(steps, axis=2), start, group, quantile)
            stacked = {name: np.stack(x, axis=2) for name, x in self._statistics.items()}
            self._store.write_diagnostics(stacked, start)
            if last:
                self._work.save_blow_ups(number, self._blow_ups)
            self._work.record(number, chunk, checksum(np.stack(self._fields["", None])))
        if last:
            self.restart_file.unlink(missing_ok=True)
        self._fields, self._statistics = {}, {}


def _merge(values: Sequence[Tensor], order: np.ndarray, shape: tuple[int, int]) -> Tensor:
    """Values of all sets as (init, member, ...)."""
    merged = values[0] if len(values) == 1 else torch.cat(list(values))[torch.from_numpy(order)]
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
