"""The time axis of trajectories of an equation, and times in the equation's own words.

Trajectories follow each other on an axis of dates, see ``simulation.trajectories``: a saved step is
called an hour, and each trajectory starts on a day of its own. A canonical dataset of such
trajectories says so in the attributes ``time_step`` (time of the equation from a saved state to the
next), ``trajectory_states`` (states of a trajectory) and, where that time has a unit,
``time_units``. People then read of steps and trajectories instead of hours and dates. Data without
``trajectory_states`` is dated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt, Le

from data_pipeline.bounds import Count, check_bounds
from data_pipeline.errors import InputError
from data_pipeline.records import from_plain

SPANS = {  # first day, and the day after the last
    "train": ("2001-01-01", "2101-01-01"),
    "validation": ("2101-01-01", "2201-01-01"),
    "test": ("2201-01-01", "2262-01-01"),
}
"""Days on which trajectories for training, validation and test start."""

SAVED_STEP = np.timedelta64(1, "h")
"""Time between saved states on the axis."""

_DAY = np.timedelta64(1, "D")
_NAMES = {"step": "time_step", "num_states": "trajectory_states", "units": "time_units"}


@dataclass(frozen=True, kw_only=True)
class TrajectoryTimes:
    """Times of trajectories of an equation.

    Args:
        step: Time of the equation from a saved state to the next.
        num_states: States of a trajectory.
        units: Of the equation's time; empty where it has none.
    """

    step: Annotated[float, Gt(0), Le(1e12)] = 1.0
    num_states: Count
    units: str = ""

    def __post_init__(self) -> None:
        check_bounds(self)

    @classmethod
    def of(cls, attrs: Mapping[str, Any]) -> "TrajectoryTimes | None":
        """Read the attributes of a dataset, or the entries of a record; ``None`` if it is dated.

        Raises:
            InputError: If they are none of trajectories ("bad-record").
        """
        if _NAMES["num_states"] not in attrs:
            return None
        found = {field: attrs[name] for field, name in _NAMES.items() if name in attrs}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in found.items()}
        try:
            return from_plain(cls, plain, "it")
        except ValueError as error:
            stated = ", ".join(f"{_NAMES[key]}={value!r}"[:80] for key, value in found.items())
            raise InputError(
                f"the attributes {stated} describe no trajectories ({error}); correct them, or "
                "remove trajectory_states from data with dates",
                code="bad-record",
            ) from error

    @property
    def attrs(self) -> dict[str, Any]:
        """The attributes that ``of`` reads."""
        units = {_NAMES["units"]: self.units} if self.units else {}
        return {_NAMES["step"]: self.step, _NAMES["num_states"]: self.num_states, **units}

    @property
    def num_days(self) -> int:
        """Days from the start of a trajectory to that of the next, which a gap precedes."""
        return self.num_states // 24 + 1

    @property
    def step_label(self) -> str:
        """The unit of lead times: steps, with the time of the equation that they take."""
        length = f"{self.step:g} {self.units}".strip()
        return "steps" if length == "1" else f"steps of {length}"

    def lead_label(self, lead: np.timedelta64) -> str:
        """A lead time in saved steps, such as 20 steps."""
        steps = f"{lead / SAVED_STEP:.6g}"
        return f"{steps} step{'s' * (steps != '1')}"

    def separate(self, first: np.datetime64, later: np.datetime64) -> bool:
        """Whether two times are of different trajectories."""
        labels = self.time_label(first), self.time_label(later)
        return None not in labels and len({str(label).partition(",")[0] for label in labels}) == 2

    def time_label(self, time: np.datetime64) -> str | None:
        """Trajectory and step of a time, such as test trajectory 3, step 5, counted from 0.

        ``None`` for a time that is none of a trajectory.
        """
        for split, (first, end) in SPANS.items():
            start = np.datetime64(first, "ns")
            if start <= time < np.datetime64(end, "ns"):
                number = int((time - start) // (self.num_days * _DAY))
                step = (time - start - number * self.num_days * _DAY) / SAVED_STEP
                if step < self.num_states:
                    name = "training" if split == "train" else split
                    return f"{name} trajectory {number}, step {step:.6g}"
        return None
