"""Lead times for people: their labels, and the few that tables, maps and figures show."""

from collections.abc import Sequence

import numpy as np

_MOST = 7  # columns of a table that fit into 80 characters
# Round multiples of a unit, from the unit that readers prefer to the one that they need last.
_ROUND = (
    (np.timedelta64(1, "D"), (1, 2, 3, 5, 7, 10, 15, 20, 30, 45, 60, 90, 180, 365)),
    (np.timedelta64(1, "h"), (1, 2, 3, 6, 12, 18, 36)),
    (np.timedelta64(1, "m"), (1, 2, 5, 10, 15, 20, 30, 45)),
)
_POSITIONS = (2, 3, 5, 7, 10, 20, 50, 100, 200, 500)  # of lead times without a round one


def lead_hours(lead_times: np.ndarray) -> np.ndarray:
    """Lead times (timedelta64) in hours, float64."""
    return np.asarray(lead_times) / np.timedelta64(1, "h")


def lead_label(lead_time: np.timedelta64) -> str:
    """A lead time such as ``36 h``, ``90 min`` or ``10 s``: in the largest unit that divides it."""
    for unit, name in (("h", "h"), ("m", "min")):
        if not lead_time % np.timedelta64(1, unit):
            return f"{lead_time // np.timedelta64(1, unit)} {name}"
    return f"{lead_time / np.timedelta64(1, 's'):.6g} s"


def lead_labels(lead_times: np.ndarray) -> list[str]:
    """``lead_label`` of each."""
    return [lead_label(lead_time) for lead_time in np.asarray(lead_times)]


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
        for unit, counts in _ROUND
    ]
    for level in (*levels, [count - 1 for count in _POSITIONS if count < total]):
        further = [index for index in level if index not in chosen]
        chosen |= dict.fromkeys(_spread(further, most - len(chosen)))
    return sorted(chosen)


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, spread over all of them."""
    if len(indices) <= count:
        return list(indices)
    positions = np.linspace(0, len(indices) - 1, count).round().astype(int)
    return [indices[position] for position in positions.tolist()]
