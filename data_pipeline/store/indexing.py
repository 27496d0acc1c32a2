"""Keys of stored fields, by the rules of numpy: what has to be read, and what is taken of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

AXES = ("time", "channel", "row", "column")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """A key of an array (time, channel, row, column), in two parts.

    Args:
        times: Indices of the states that it needs (index,), in the order of the key.
        channels: Range of the channels that holds those it needs.
        key: The same key for an array of these states and channels alone.
    """

    times: np.ndarray
    channels: slice
    key: tuple[Any, ...]

    @classmethod
    def from_key(cls, key: Any, shape: tuple[int, ...]) -> "Selection":  # noqa: ANN401
        """Split a key of integers, slices, lists and masks, one for each of the first axes.

        Raises:
            IndexError: If it is of another kind, too long or out of bounds; the axis is named.
        """
        parts = _complete(key)
        positions = [_positions(*each) for each in zip(parts, AXES, shape, strict=True)]
        times, channels = positions[:2]
        first, last = int(channels.min(initial=shape[1])), int(channels.max(initial=-1))
        in_order = np.arange(times.size).reshape(times.shape)[()]
        time = slice(None) if isinstance(parts[0], slice) else in_order
        local = time, _relative(parts[1], channels, first)
        span = slice(first, max(first, last + 1))
        return cls(times=times.reshape(-1), channels=span, key=(*local, *parts[2:]))


def _complete(key: Any) -> list[Any]:  # noqa: ANN401
    """The key with an entry for each axis."""
    parts = list(key) if isinstance(key, tuple) else [key]
    if (ellipses := [i for i, part in enumerate(parts) if part is Ellipsis]) == []:
        parts.append(Ellipsis)
        ellipses = [len(parts) - 1]
    missing = len(AXES) - (len(parts) - 1)
    if len(ellipses) > 1 or missing < 0:
        raise IndexError(f"states have the axes {', '.join(AXES)}, got the key {key!r}")
    return [*parts[: ellipses[0]], *[slice(None)] * missing, *parts[ellipses[0] + 1 :]]


def _positions(part: Any, axis: str, size: int) -> np.ndarray:  # noqa: ANN401
    """Indices along an axis that a part of the key means; of no dimension for an integer."""
    if part is None or isinstance(part, bool | np.bool_):
        raise IndexError(f"the axis {axis} takes integers, slices, lists and masks, got {part!r}")
    try:
        return np.asarray(np.arange(size)[part])
    except IndexError as error:
        raise IndexError(f"{error}, along the axis {axis} of length {size}") from error


def _relative(part: Any, positions: np.ndarray, first: int) -> Any:  # noqa: ANN401
    """The part of a key that means ``positions``, counted from ``first``; slices stay slices."""
    if not isinstance(part, slice):
        return positions - first  # an integer, where it has no dimension
    if not positions.size:
        return slice(0, 0)
    step = part.step or 1
    stop = int(positions[-1]) - first + (1 if step > 0 else -1)
    return slice(int(positions[0]) - first, None if stop < 0 else stop, step)
