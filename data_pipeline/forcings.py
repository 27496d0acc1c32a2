"""Forcings: input fields that are computed from the time and the grid.

day_of_year_sin, day_of_year_cos    phase of the year, 0 on January 1st at 00 UTC
local_time_sin, local_time_cos      phase of the local solar day, 0 at midnight
"""

from collections.abc import Sequence

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid

FORCINGS = ("day_of_year_sin", "day_of_year_cos", "local_time_sin", "local_time_cos")
DAYS_PER_YEAR = 365.2425


def compute_forcings(names: Sequence[str], times: np.ndarray, grid: LatLonGrid) -> np.ndarray:
    """Fields of the named forcings.

    Args:
        names: Some of ``FORCINGS``.
        times: datetime64, of shape (time,).
        grid: Where the fields are wanted.

    Returns:
        float32 of shape (time, forcing, latitude, longitude).

    Raises:
        InputError: If a name is unknown.
    """
    check_forcings(names)
    fields = np.empty((len(times), len(names), *grid.shape), np.float32)
    for index, name in enumerate(names):
        phase, function = name.rsplit("_", 1)
        angle = 2 * np.pi * _PHASES[phase](times, grid)
        fields[:, index] = np.sin(angle) if function == "sin" else np.cos(angle)
    return fields


def check_forcings(names: Sequence[str]) -> None:
    """Refuse unknown names.

    Raises:
        InputError: If there are any.
    """
    unknown = [name for name in names if name not in FORCINGS]
    if unknown:
        raise InputError(
            f"data.forcings has the unknown names {unknown}; known are {', '.join(FORCINGS)}"
        )


def year_phase(times: np.ndarray) -> np.ndarray:
    """Time since the start of the year over the length of a year, float64 of the same shape."""
    days = (times - times.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    return days / DAYS_PER_YEAR


def _local_day_phase(times: np.ndarray, grid: LatLonGrid) -> np.ndarray:
    days = (times - times.astype("datetime64[D]")) / np.timedelta64(1, "D")
    return days[:, None, None] + grid.coords["longitude"] / 360


_PHASES = {
    "day_of_year": lambda times, grid: year_phase(times)[:, None, None],
    "local_time": _local_day_phase,
}
