"""Sums of the scores of a forecast under way, in files of its work folder.

    .NAME.partial/scores-UNIT.npz   a unit, after each of its chunks
    .NAME.partial/scores.npz        the first units of all, added up

Units are added in their order, whichever process has computed them and when: sums of floating-point
numbers depend on the order. The files are written at once; after a kill the work resumes from them.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.errors import InputError
from data_pipeline.files.locks import locked
from fourcastnet_afno.evaluation.aggregation import AggregationState, StateFile
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask

_SHARE = 4  # units are added once their files are this part of what they are added to


class ScoreStates:
    """The sums of all units.

    Args:
        folder: Work folder of the forecast.
        fingerprint: Of the forecast and its scores.
        plan: What is scored.
        units: Initial times of each unit.
        least_bytes: Size of files of units that are worth adding.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        plan: ScoringPlan,
        units: Sequence[slice],
        *,
        least_bytes: int = 2**20,
    ) -> None:
        self._folder, self._fingerprint, self._plan = folder, fingerprint, plan
        self._units, self._num_leads = units, len(plan.lead_times)
        self._statistics = [statistic.name for statistic in plan.statistics]
        self._all, self._least_bytes = folder / "scores.npz", least_bytes

    def load(self, unit: int) -> tuple[AggregationState, int]:
        """Read the sums of a unit, and how many lead times they have."""
        everything = tuple(range(len(self._plan.channels)))
        task = ScoringTask(everything, self._units[unit], slice(0, self._num_leads))
        state = AggregationState.empty(self._plan, task)
        if unit < self._num_added():
            return state, self._num_leads
        return state, self._read(self._path(unit), state)

    def save(self, unit: int, state: AggregationState, num_leads: int) -> None:
        """Keep the sums of a unit, of so many lead times."""
        self._file(self._path(unit)).save(state, num_leads, self._statistics)

    def add_finished(self) -> None:
        """Add finished units to the first ones, if it is worth writing these again."""
        with locked(self._folder / "lock"):
            waiting = sum(path.stat().st_size for path in self._folder.glob("scores-*.npz"))
            known = self._all.stat().st_size if self._all.exists() else 0
            if waiting >= max(self._least_bytes, known // _SHARE):
                self._add()

    def total(self) -> AggregationState:
        """Sums of all units, which are finished; no other process may be adding them.

        Raises:
            InputError: If the sums of a unit are lost.
        """
        total, num_added = self._add()
        if num_added < len(self._units):
            raise self._damaged(self._path(num_added), "it is missing or incomplete")
        return total

    def _num_added(self) -> int:
        """How many of the first units are added up."""
        with self._naming(self._all):
            return self._file(self._all).num_done()

    def _add(self) -> tuple[AggregationState, int]:
        total = AggregationState.empty(self._plan)
        before = num_added = self._read(self._all, total)
        while num_added < len(self._units):
            path = self._path(num_added)
            with self._naming(path):
                if self._file(path).num_done() < self._num_leads:
                    break
            total += self.load(num_added)[0]
            num_added += 1
        if num_added > before:
            self._file(self._all).save(total, num_added, self._statistics)
            for unit in range(before, num_added):
                self._path(unit).unlink(missing_ok=True)
        return total, num_added

    def _path(self, unit: int) -> Path:
        return self._folder / f"scores-{unit}.npz"

    def _file(self, path: Path) -> StateFile:
        return StateFile(path=path, fingerprint=self._fingerprint)

    def _read(self, path: Path, state: AggregationState) -> int:
        """Add what a file holds to a state; returns how many parts it has, 0 without a file."""
        with self._naming(path):
            count = self._file(path).load(state, self._statistics)
        if path.exists() and not count:
            raise self._damaged(path, "it is of other scores")
        return count

    @contextmanager
    def _naming(self, path: Path) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            raise self._damaged(path, str(error.__cause__)) from error

    def _damaged(self, path: Path, reason: str) -> InputError:
        return InputError(
            f"{path} holds no scores of these forecasts: {reason}; delete {self._folder} and run "
            "the same command again, which makes all of them anew",
            code="damaged-restart",
        )
