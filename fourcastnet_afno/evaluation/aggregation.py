"""Statistics of many pairs of forecast and truth, added up; and the file that keeps them.

A task, a machine and an interrupted evaluation each give an ``AggregationState`` of the initial
times, lead times and channels that they cover, and states are added.
"""

import json
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.errors import DAMAGE, InputError
from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Output
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask

_KINDS = ("series", "sums", "grouped")
Arrays = dict[tuple[str, str], np.ndarray]


@dataclass(kw_only=True)
class AggregationState:
    """Statistics by forecast and name, of a range of initial times, lead times and channels."""

    covered: ScoringTask
    groups: slice  # of initial times in the range
    # Statistics of each pair, (init_time, lead_time, channel, ...); NaN where missing.
    series: Arrays = field(default_factory=dict)
    # Sums over initial times, (lead_time, channel, ...).
    sums: Arrays = field(default_factory=dict)
    # Sums over each group of initial times, (lead_time, channel, group, ...).
    grouped: Arrays = field(default_factory=dict)

    @classmethod
    def empty(cls, plan: ScoringPlan, task: ScoringTask | None = None) -> "AggregationState":
        """State without statistics, of a task or of a complete plan."""
        task = task or ScoringTask(
            tuple(range(len(plan.channels))),
            slice(0, len(plan.init_times)),
            slice(0, len(plan.lead_times)),
        )
        return cls(covered=task, groups=plan.groups_of(task.inits))

    def __iadd__(self, part: "AggregationState") -> "AggregationState":
        """Add the statistics of a part of the range in place: sums add, series fill gaps."""
        covered = self.covered
        inits = _within(part.covered.inits, covered.inits)
        leads = _within(part.covered.leads, covered.leads)
        groups = _within(part.groups, self.groups)
        num_inits, num_leads, num_groups = (
            span.stop - span.start for span in (covered.inits, covered.leads, self.groups)
        )
        num_channels = len(covered.channels)
        for index, channel in enumerate(map(covered.channels.index, part.covered.channels)):
            for name, values in part.series.items():
                if name not in self.series:
                    shape = (num_inits, num_leads, num_channels, *values.shape[3:])
                    self.series[name] = np.full(shape, np.nan)
                new = values[:, :, index]
                np.copyto(self.series[name][inits, leads, channel], new, where=~np.isnan(new))
            for name, values in part.sums.items():
                if name not in self.sums:
                    self.sums[name] = np.zeros((num_leads, num_channels, *values.shape[2:]))
                self.sums[name][leads, channel] += values[:, index]
            for name, values in part.grouped.items():
                if name not in self.grouped:
                    shape = (num_leads, num_channels, num_groups, *values.shape[3:])
                    self.grouped[name] = np.zeros(shape)
                self.grouped[name][leads, channel, groups] += values[:, index]
        return self


def _within(part: slice, span: slice) -> slice:
    return slice(part.start - span.start, part.stop - span.start)


def state_output(path: Path) -> Output:
    """The file that keeps the state of an evaluation."""
    return Output(path, "the state of an evaluation", _is_state, is_certain=True)


def _is_state(path: Path) -> bool:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return json.loads(stored["header"].tobytes()).keys() >= {"key", "done"}


@dataclass(frozen=True, kw_only=True)
class StateFile:
    """File from which an interrupted evaluation resumes; another fingerprint's is ignored.

    ``companions`` is a digest of climatology and training years, which version 0.1 did not store.
    """

    path: Path
    fingerprint: str
    companions: str = ""

    def save(self, state: AggregationState, num_done: int, statistics: Sequence[str]) -> None:
        """Write the state after some tasks, whose statistics have these names."""
        arrays: dict[str, np.ndarray] = {}
        for kind in _KINDS:
            for name, values in getattr(state, kind).items():
                full_name = f"{kind}/{'/'.join(name)}"
                rows = np.flatnonzero(values.reshape(len(values), -1).any(axis=1))
                if kind != "series" and len(rows) < len(values):  # maps are of few lead times
                    arrays[f"rows/{full_name}"], values = rows, values[rows]
                arrays[full_name] = values
        record = {"key": self.fingerprint, "done": num_done, "statistics": list(statistics)}
        record["companions"] = self.companions
        header = np.frombuffer(json.dumps(record).encode(), np.uint8)
        with replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, header=header, **arrays)  # type: ignore[arg-type]

    def load(self, state: AggregationState, statistics: Sequence[str]) -> int:
        """Add the stored state, and give the number of tasks in it; 0 where there is none.

        Raises:
            InputError: If the file is damaged, or of something else, which is not replaced.
        """
        if not os.path.lexists(self.path):
            return 0
        part = AggregationState(covered=state.covered, groups=state.groups)
        with self._naming_damage():
            header = self._read(part)
            ours = header["key"] == self.fingerprint
            ours &= header.get("companions", self.companions) == self.companions
            if "statistics" in header:
                ours &= header["statistics"] == list(statistics)
            else:  # version 0.1
                ours &= {name for _, name in part.series} <= set(statistics)
            if not ours:
                return 0
            state += part
            return operator.index(header["done"])

    def num_done(self) -> int:
        """The number of tasks in the stored state; 0 where there is none.

        Raises:
            InputError: If the file is damaged, or of something else.
        """
        if not os.path.lexists(self.path):
            return 0
        with self._naming_damage(), self.path.open("rb") as file, np.load(file) as stored:
            return operator.index(json.loads(stored["header"].tobytes())["done"])

    @contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except DAMAGE as error:
            raise InputError(
                f"{self.path} is not the state of an evaluation ({type(error).__name__}: {error}); "
                "delete it if it was, or name another file with --state",
                code="unreadable-file",
            ) from error

    def _read(self, part: AggregationState) -> dict[str, Any]:
        """Read the arrays into ``part``, and return the header."""
        with self.path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            for full_name in stored.files:
                kind, _, name = full_name.partition("/")
                if kind in _KINDS:
                    forecast, _, statistic = name.rpartition("/")
                    values = stored[full_name]
                    if f"rows/{full_name}" in stored.files:
                        leads = part.covered.leads
                        full = np.zeros((leads.stop - leads.start, *values.shape[1:]))
                        full[stored[f"rows/{full_name}"]] = values
                        values = full
                    getattr(part, kind)[forecast, statistic] = values
            return json.loads(stored["header"].tobytes())
