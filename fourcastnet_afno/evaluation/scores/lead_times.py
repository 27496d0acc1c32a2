"""The few lead times that tables, maps and figures show."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from data_pipeline.timestep import is_months, lead_label, lead_times_of

_MOST = 7  # columns of a table that fit into 80 characters
_DAY = np.timedelta64(1, "D")
# Round multiples of a unit, from the unit that readers prefer to the one that they need last.
_ROUND = (
    (_DAY, (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 180, 365)),
    (np.timedelta64(1, "h"), (1, 2, 3, 6, 12, 18, 36)),
    (np.timedelta64(1, "m"), (1, 2, 5, 10, 15, 20, 30, 45)),
)
_ROUND_MONTHS = ((np.timedelta64(1, "M"), (1, 2, 3, 6, 9, 12, 18, 24, 36, 60, 120)),)
_POSITIONS = (2, 3, 5, 7, 10, 20, 50, 100, 200, 500)  # of lead times without a round one


def lead_numbers(lead_times: np.ndarray) -> tuple[np.ndarray, str]:
    """Lead times as float64 numbers, and their unit: ``hours``, or ``months`` of the calendar."""
    if is_months(lead_times):
        return lead_times.astype(np.int64).astype(np.float64), "months"
    return np.asarray(lead_times) / np.timedelta64(1, "h"), "hours"


def lead_axis(coordinate: xr.DataArray) -> tuple[np.ndarray, str]:
    """Numbers of an axis of lead times and their unit: days, below one hours, or months."""
    numbers, unit = lead_numbers(lead_times_of(coordinate))
    days = unit == "hours" and numbers.max(initial=0) >= 24
    return (numbers / 24, "days") if days else (numbers, unit)


def lead_labels(coordinate: xr.DataArray) -> list[str]:
    """``lead_label`` of each lead time of a canonical dataset or of scores."""
    return [lead_label(lead_time) for lead_time in lead_times_of(coordinate)]


def selected_leads(lead_times: np.ndarray, most: int = _MOST) -> list[int]:
    """Indices of at most ``most`` increasing lead times: the first, the last and some between.

    Between are those at 1, 2, 3, 5, ... days, then hours and minutes, as far as there is room, and
    for the rest the 2nd, 3rd, 5th, ... lead time. Lead times that are few are all selected.
    """
    total = len(lead_times)
    if total <= most:
        return list(range(total))
    chosen = dict.fromkeys((0, total - 1))
    levels = [
        np.flatnonzero(np.isin(lead_times, [count * unit for count in counts])).tolist()
        for unit, counts in (_ROUND_MONTHS if is_months(lead_times) else _ROUND)
    ]
    for level in (*levels, [count - 1 for count in _POSITIONS if count < total]):
        further = [index for index in level if index not in chosen]
        chosen |= dict.fromkeys(_spread(further, most - len(chosen)))
    return sorted(chosen)


def leads_of_maps(lead_times: np.ndarray, most: int) -> list[int]:
    """Indices of at most ``most``: the first and round days, or as of ``selected_leads``."""
    (unit, counts), *_ = _ROUND_MONTHS if is_months(lead_times) else _ROUND
    round_ones = np.flatnonzero(np.isin(lead_times, [count * unit for count in counts])).tolist()
    shown = sorted({0, *round_ones})
    if len(shown) == 1:
        return selected_leads(lead_times, most)
    return [shown[0], *_spread(shown[1:-1], most - 2), shown[-1]]


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, spread over all of them."""
    if len(indices) <= count:
        return list(indices)
    return [indices[(2 * i + 1) * len(indices) // (2 * count)] for i in range(count)]
