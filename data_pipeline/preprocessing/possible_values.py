"""Values that a variable cannot have: undeclared marks of missing values, and wrong units.

Files often hold numbers such as -9999 or 9.96921e36 where nothing was measured and do not say so. A
value is rejected where it is beyond what the variable can be (``plausibility.possible_range``), or
where it is one of the usual marks and stands apart from all other values.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.preprocessing.plausibility import Range, plausible_range, possible_range
from data_pipeline.sources.join import UNKNOWN_ORIGINS, Origins

_MARKS = np.array(
    [
        *(-99, -99.9, -99.99, -999, -999.9, -999.99, -9999, -9999.9, -99999, -999999),
        *(9999, 99999, 999999),
        *(-32767, -32768, 32767, -2147483648, 2147483647),
    ],
    np.float32,
)
_HUGE = 1e15  # default fill values of NetCDF, of models (1e20) and of GRIB (9.999e20)
_APART = 0.25  # distance to the nearest other value, in units of the mark
_APART_ALONE = 5.0  # the same of a mark that occurs once, in units of the range of other values
_HUGE_SHARE = 1e-3  # of a huge mark, the largest size of other values


@dataclass(frozen=True)
class PossibleValues:
    """The check of fields of some channels on a grid; on a plane only marks are rejected.

    Args:
        channels: Of the fields.
        grid: Of the fields.
        marks_only: Whether ranges are those of another planet, and only marks are rejected.
        origins: Files of the fields, for messages.
    """

    channels: Channels
    grid: Grid
    marks_only: bool = False
    origins: Origins = UNKNOWN_ORIGINS

    @cached_property
    def ranges(self) -> list[Range | None]:
        """Possible values of each channel; None where they are not known."""
        if self.marks_only or not self.grid.on_sphere:
            return [None] * len(self.channels)
        return [possible_range(c.name, c.level, c.units) for c in self.channels]

    def check(self, fields: np.ndarray, times: np.ndarray | None = None) -> None:
        """Check values (time, channel, latitude, longitude) at times, or without times.

        Raises:
            InputError: If values are impossible; it names the variable, the values, their number,
                the first place and the possible range. NaN and infinity are left to others.
        """
        low, high = (f.reduce(fields, axis=(0, 2, 3)) for f in (np.fmin, np.fmax))
        for index, (channel, possible) in enumerate(zip(self.channels, self.ranges, strict=True)):
            extremes = np.array([low[index], high[index]])
            beyond = possible is not None and not possible.contains(extremes).all()
            if not (beyond or np.isin(extremes, _MARKS).any() or (np.abs(extremes) > _HUGE).any()):
                continue
            wrong = _impossible(fields[:, index], extremes, possible)
            if wrong.any():
                raise self._error(channel, fields[:, index], wrong, possible, times)

    def _error(
        self,
        channel: Channel,
        field: np.ndarray,
        wrong: np.ndarray,
        possible: Range | None,
        times: np.ndarray | None,
    ) -> InputError:
        values, counts = np.unique(field[wrong], return_counts=True)
        usual, count = str(values[np.argmax(counts)]), int(wrong.sum())
        time, row, column = np.argwhere(wrong)[0]
        (y, x), coords = self.grid.dims, self.grid.coords
        place = f"{y} {coords[y][row]:g}, {x} {coords[x][column]:g}"
        first = None if times is None else times[time]
        if first is not None:
            place = f"{np.datetime_as_string(first, 'm')}, {place}"
        where = f"{channel.label}{self.origins.phrase(channel.name, first)}"
        among = "" if len(values) == 1 else f" among values of {values[0]!s} to {values[-1]!s}"
        expected = "apart from all other values"
        if possible is not None:
            expected = f"expected {possible} {channel.units}"
        return InputError(
            f"{where} has {count} impossible values, mostly {usual}{among}, the first at {place}, "
            f"{expected}; if {usual} stands for missing values set data.source.missing="
            f"{{{channel.name}: {usual}}} and a rule in data.fill, otherwise correct the data or "
            "its units",
            code="impossible-values",
        )


def flat_fields(values: np.ndarray, channel: Channel) -> np.ndarray:
    """Mark the fields (time, latitude, longitude) on a sphere that have a single value.

    No rain, cloud or ice anywhere is weather.
    """
    flat = values.min(axis=(1, 2)) == values.max(axis=(1, 2))
    expected = plausible_range(channel.name, channel.level, channel.units)
    if expected is not None and expected.low > -1 and expected.contains(np.zeros(1))[0]:
        flat &= values[:, 0, 0] != 0
    return flat


def _impossible(field: np.ndarray, extremes: np.ndarray, possible: Range | None) -> np.ndarray:
    """Mask of the finite values beyond the range, and of marks that stand apart."""
    wrong = np.zeros(field.shape, bool)
    finite = np.isfinite(field)
    if possible is not None:
        wrong = finite & ~possible.contains(field)
    for mark in extremes[np.isfinite(extremes)]:
        if mark in _MARKS or abs(mark) > _HUGE:
            is_mark = field == mark
            if _stands_apart(float(mark), int(is_mark.sum()), field[finite & ~is_mark]):
                wrong |= is_mark
    return wrong


def _stands_apart(mark: float, count: int, others: np.ndarray) -> bool:
    """Whether values of a mark, the smallest or the largest, are far from all others."""
    huge = abs(mark) > _HUGE
    if not len(others):
        return count > 1 and (huge or mark < 0)
    nearest = float(others.min() if mark < others.min() else others.max())
    if huge:
        return abs(nearest) <= _HUGE_SHARE * abs(mark)
    distance, width = abs(mark - nearest), float(others.max()) - float(others.min())
    if distance < _APART * abs(mark):
        return False
    return count > 1 or (width > 0 and distance >= _APART_ALONE * width)
