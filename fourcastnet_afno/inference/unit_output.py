"""What a unit of forecasts leaves in the store, part by part."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipeline.store.format import checksum
from fourcastnet_afno.inference.ensemble import summarize_members
from fourcastnet_afno.inference.integration import StepResult
from fourcastnet_afno.inference.resume import Work
from fourcastnet_afno.inference.store import ForecastLayout, ForecastStore

_Results = Sequence[tuple[StepResult, np.ndarray]]
_Place = tuple[str, int | None]


class Restart(NamedTuple):
    """State of a unit that was interrupted.

    Args:
        state: Tensors by name, with the number of the set before it.
        num_steps: Steps that are done.
    """

    state: dict[str, Tensor]
    num_steps: int

    def tensors(self, number: int) -> dict[str, Tensor]:
        """Those of one set of forecasts."""
        start = f"{number}."
        return {k.removeprefix(start): v for k, v in self.state.items() if k.startswith(start)}


class UnitOutput:
    """Collects steps until a part is whole, and writes it; all of it in the writer's thread.

    Args:
        work: Ledger and restart files.
        store: Where the parts go.
        layout: Axes and chunks.
        unit: Number of the unit.
        start: Index of its first initial time and member.
        selected: Indices of the channels that are written.
        quantiles: If given, statistics over members are written instead of members.
    """

    def __init__(
        self,
        work: Work,
        store: ForecastStore,
        layout: ForecastLayout,
        unit: int,
        start: tuple[int, int],
        selected: Sequence[int],
        quantiles: Sequence[float] | None,
    ) -> None:
        self._work, self._store, self._layout = work, store, layout
        self._unit, self._start, self._selected = unit, start, list(selected)
        self._quantiles = quantiles
        self._missing = set(work.missing_parts(unit))
        self._fields: dict[_Place, list[np.ndarray]] = {}
        self._statistics: dict[str, list[np.ndarray]] = {}
        self._records: list[dict[str, Any]] = []

    def restart(self) -> Restart | None:
        """Where the unit was interrupted, if it goes on there."""
        kept = self._work.load_restart(self._unit)
        if kept is None:
            return None
        tensors, note = kept
        self._records = note["records"]
        return Restart(tensors, note["num_steps"])

    def save_restart(self, sets: Sequence[dict[str, Tensor]], num_steps: int) -> None:
        """Keep the state of all sets after ``num_steps`` steps."""
        tensors = {f"{i}.{name}": value for i, s in enumerate(sets) for name, value in s.items()}
        note = {"num_steps": num_steps, "records": self._records}
        self._work.save_restart(self._unit, tensors, note)

    def ends_part(self, step: int) -> bool:
        """Whether the step (from 0) is the last of a part."""
        length = self._layout.steps_together
        return (step + 1) % length == 0 or step + 1 == len(self._layout.lead_times)

    def collect(self, step: int, shape: tuple[int, int], results: _Results) -> Callable[[], None]:
        """Prepare a step on the device; the call that is returned copies and writes it.

        Args:
            step: From 0.
            shape: Number of initial times and members.
            results: Of each set, with the indices of its forecasts.
        """
        records = [record for result, _ in results for record in result.blow_ups]
        part = step // self._layout.steps_together
        fields: dict[_Place, Tensor] = {}
        if part in self._missing:
            members = _merged(shape, [(self._written(r.fields), c) for r, c in results])
            fields = {("", None): members} if self._quantiles is None else self._reduced(members)
        statistics = _merged_statistics(shape, results)
        return lambda: self._accept(step, fields, statistics, records)

    def _written(self, fields: Tensor) -> Tensor:
        everything = self._selected == list(range(fields.shape[1]))
        return fields if everything else fields[:, self._selected]

    def _reduced(self, members: Tensor) -> dict[_Place, Tensor]:
        """Mean, spread and quantiles over the members that are left, by initial time."""
        assert self._quantiles is not None
        names: list[_Place] = [("", None), ("spread", None)]
        names += [("quantiles", index) for index in range(len(self._quantiles))]
        results = {name: torch.full_like(members[:, :1], torch.nan) for name in names}
        for init, forecasts in enumerate(members):
            alive = forecasts[~torch.isnan(forecasts).flatten(1).any(dim=1)]
            # One channel at a time: float64 and sorted copies are larger than the fields.
            for channel in range(members.shape[2] if len(alive) else 0):
                mean, spread, quantiles = summarize_members(alive[:, channel], self._quantiles)
                for name, values in zip(names, (mean, spread, *quantiles), strict=True):
                    results[name][init, 0, channel] = values
        return results

    def _accept(
        self,
        step: int,
        fields: dict[_Place, Tensor],
        statistics: dict[str, np.ndarray],
        records: list[dict[str, Any]],
    ) -> None:
        self._records = self._records + records
        for place, tensor in fields.items():
            self._fields.setdefault(place, []).append(tensor.cpu().numpy())
        for name, values in statistics.items():
            self._statistics.setdefault(name, []).append(values)
        if self.ends_part(step):
            self._write(step // self._layout.steps_together, step)
            self._fields, self._statistics = {}, {}

    def _write(self, part: int, step: int) -> None:
        last = step + 1 == len(self._layout.lead_times)
        if part in self._missing:
            start = (*self._start, part * self._layout.steps_together)
            for (group, quantile), steps in self._fields.items():
                self._store.write(np.stack(steps, axis=2), start, group, quantile)
            statistics = {name: np.stack(x, axis=2) for name, x in self._statistics.items()}
            self._store.write_diagnostics(statistics, start)
            if last:
                self._work.save_records(self._unit, self._records)
            first = np.stack(self._fields["", None])
            self._work.record(self._unit, part, checksum(first))
        if last:
            self._work.drop_restart(self._unit)


def _merged(shape: tuple[int, int], parts: Sequence[tuple[Tensor, np.ndarray]]) -> Tensor:
    """Fields of all sets as (init, member, ...)."""
    if len(parts) == 1:
        fields = parts[0][0]
    else:
        order = torch.from_numpy(np.argsort(np.concatenate([chosen for _, chosen in parts])))
        fields = torch.cat([fields for fields, _ in parts])[order]
    return fields.view(*shape, *fields.shape[1:])


def _merged_statistics(shape: tuple[int, int], results: _Results) -> dict[str, np.ndarray]:
    names = dict.fromkeys(name for result, _ in results for name in result.statistics)
    merged = {}
    for name in names:
        known = [(r.statistics[name], chosen) for r, chosen in results if name in r.statistics]
        values = np.full((shape[0] * shape[1], *known[0][0].shape[1:]), np.nan, np.float32)
        for part, chosen in known:
            values[chosen] = part
        merged[name] = values.reshape(*shape, *values.shape[1:])
    return merged
