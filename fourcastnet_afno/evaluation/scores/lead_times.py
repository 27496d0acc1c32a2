"""Lead times as people read them, and the few that tables, maps and figures show."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.timestep import is_months, lead_label, lead_times_of
from data_pipeline.trajectory_times import SAVED_STEP, TrajectoryTimes

_MOST = 7  # columns of a table that fit into 80 characters
_DAY = np.timedelta64(1, "D")
# Round multiples of a unit, from the unit that readers prefer to the one that they need last.
_ROUND = (
    (_DAY, (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 180, 365)),
    (np.timedelta64(1, "h"), (1, 2, 3, 6, 12, 18, 36)),
    (np.timedelta64(1, "m"), (1, 2, 5, 10, 15, 20, 30, 45)),
)
_ROUND_MONTHS = ((np.timedelta64(1, "M"), (1, 2, 3, 6, 9, 12, 18, 24, 36, 60, 120)),)
_ROUND_STEPS = ((SAVED_STEP, (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)),)
_POSITIONS = (2, 3, 5, 7, 10, 20, 50, 100, 200, 500)  # of lead times without a round one


@dataclass(frozen=True, eq=False)
class LeadTimes:
    """Increasing lead times: durations or months, or steps of trajectories of an equation.

    Args:
        values: timedelta64, of the unit M for months.
        trajectories: Where the lead times are those of trajectories.
    """

    values: np.ndarray
    trajectories: TrajectoryTimes | None = None

    @classmethod
    def of(cls, described: xr.Dataset | xr.DataArray, name: str = "lead_time") -> "LeadTimes":
        """The lead times of a canonical dataset, of scores, or of one of their fields.

        The attributes of a field tell trajectories only where they are those of its dataset.
        """
        return cls(lead_times_of(described[name]), TrajectoryTimes.of(described.attrs))

    @property
    def labels(self) -> list[str]:
        """``lead_label`` of each, such as 6 h, 5 days, 3 months or 20 steps."""
        return [lead_label(lead, self.trajectories) for lead in self.values]

    @property
    def numbers(self) -> tuple[np.ndarray, str]:
        """Numbers, float64, and their unit: ``hours``, ``months`` of the calendar or ``steps``."""
        if is_months(self.values):
            return self.values.astype(np.int64).astype(np.float64), "months"
        if self.trajectories is not None:
            return self.values / SAVED_STEP, "steps"
        return np.asarray(self.values) / np.timedelta64(1, "h"), "hours"

    @property
    def axis(self) -> tuple[np.ndarray, str]:
        """Numbers along an axis, and its label with their unit; long times are in days."""
        numbers, unit = self.numbers
        if unit == "hours" and numbers.max(initial=0) >= 24:
            numbers, unit = numbers / 24, "days"
        if unit == "steps" and self.trajectories is not None:
            unit = self.trajectories.step_label
        return numbers, f"lead time [{unit}]"

    def selected(self, most: int = _MOST) -> list[int]:
        """Indices of at most ``most``: the first, the last and some between.

        Between are those at 1, 2, 3, 5, ... days, then hours and minutes, or steps, as far as there
        is room, and for the rest the 2nd, 3rd, 5th, ... lead time. Few are all selected.
        """
        total = len(self.values)
        if total <= most:
            return list(range(total))
        chosen = dict.fromkeys((0, total - 1))
        for level in (*self._round_ones(), [count - 1 for count in _POSITIONS if count < total]):
            further = [index for index in level if index not in chosen]
            chosen |= dict.fromkeys(_spread(further, most - len(chosen)))
        return sorted(chosen)

    def selected_for_maps(self, most: int) -> list[int]:
        """Indices of at most ``most``: the first and round days (or steps), or as ``selected``."""
        shown = sorted({0, *next(self._round_ones())})
        if len(shown) == 1:
            return self.selected(most)
        return [shown[0], *_spread(shown[1:-1], most - 2), shown[-1]]

    def _round_ones(self) -> Iterator[list[int]]:
        """Indices of round multiples of each unit, of the one that readers prefer first."""
        units = _ROUND if self.trajectories is None else _ROUND_STEPS
        for unit, counts in _ROUND_MONTHS if is_months(self.values) else units:
            is_round = np.isin(self.values, [count * unit for count in counts])
            yield np.flatnonzero(is_round).tolist()


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, spread over all of them."""
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * i + 1) * len(indices) // (2 * count)] for i in range(count)]
