"""The fields that a page embeds: as many initial times, lead times and points as fit into it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fourcastnet_afno.report.explorer.axes import axes_record, points_of
from fourcastnet_afno.report.explorer.fields import Explored
from fourcastnet_afno.report.explorer.packed import Packed, pack

_MOST_CHANNELS, _FEW_CHANNELS = 8, 4
_MOST_LEADS, _FEW_LEADS = 41, 12
_MOST_INITS = 12
_MOST_CELLS, _FEW_CELLS = 8192, 256
_BYTES_OF_VALUE = (0.9, 1.8, 3.0)  # smooth fields, rough ones, noise


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Choice of what is embedded: the first channels, every so many-th lead time and point."""

    num_channels: int
    lead_step: int
    stride: int

    def lead_times(self, explored: Explored) -> np.ndarray:
        """Positions of lead times; the last one is among them."""
        count = len(explored.lead_times.values)
        return np.arange((count - 1) % self.lead_step, count, self.lead_step)

    def num_cells(self, explored: Explored) -> int:
        """Number of points."""
        rows, columns = points_of(explored, self.stride)
        return len(rows) * len(columns)

    def num_values(self, explored: Explored) -> int:
        """Number of values of an initial time."""
        fields = self.num_channels * len(explored.views) * len(self.lead_times(explored))
        return fields * self.num_cells(explored)


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """Axes and, by ``channel-init-view``, blocks of fields of all lead times."""

    axes: dict[str, Any]
    blocks: dict[str, Packed]


def embed(explored: Explored, max_bytes: int) -> Embedded | None:
    """Pack initial times, spread over all, up to ``max_bytes``; ``None`` if none fits."""
    for bytes_of_value in _BYTES_OF_VALUE:
        choice = choose(explored, int(max_bytes / bytes_of_value))
        if choice is None:
            return None
        packed: dict[int, list[Packed]] = {}
        rest, largest = max_bytes, 0
        for init in spread_order(len(explored.init_times), _MOST_INITS):
            if largest > rest:
                break  # the next one would hardly fit
            blocks = list(_blocks(explored, choice, init))
            size = sum(len(block.text) + 100 for block in blocks)  # with the tags around it
            if size > rest:
                break
            rest, largest = rest - size, max(largest, size)
            packed[init] = blocks
        if packed:
            return _embedded(explored, choice, dict(sorted(packed.items())))
    return None


def choose(explored: Explored, max_values: int) -> Choice | None:
    """The choice of one initial time with at most ``max_values``; few points are given up last."""
    choice = Choice(
        num_channels=min(len(explored.channels), _MOST_CHANNELS),
        lead_step=-(-len(explored.lead_times.values) // _MOST_LEADS),
        stride=1,
    )
    while choice.num_cells(explored) > _MOST_CELLS:
        choice = replace(choice, stride=choice.stride + 1)
    while choice.num_values(explored) > max_values:
        if len(choice.lead_times(explored)) > _FEW_LEADS:
            choice = replace(choice, lead_step=2 * choice.lead_step)
        elif choice.num_channels > _FEW_CHANNELS:
            choice = replace(choice, num_channels=choice.num_channels // 2)
        elif choice.num_cells(explored) > _FEW_CELLS:
            choice = replace(choice, stride=choice.stride + 1)
        elif choice.num_channels > 1:
            choice = replace(choice, num_channels=choice.num_channels // 2)
        else:
            return None
    return choice


def spread_order(count: int, most: int) -> list[int]:
    """Positions of which the first ones, however many, are spread over all: 0, last, middle, ..."""
    order, parts = dict.fromkeys((0, count - 1)), 2
    while len(order) < min(count, most):
        between = [round(i * (count - 1) / parts) for i in range(1, parts, 2)]
        order |= dict.fromkeys(between)
        parts *= 2
    return list(order)[:most]


def _blocks(explored: Explored, choice: Choice, init: int) -> Iterator[Packed]:
    leads, points = choice.lead_times(explored), points_of(explored, choice.stride)
    for channel in range(choice.num_channels):
        for view in range(len(explored.views)):
            yield pack(explored.fields(channel, init, view, leads, points))


def _embedded(explored: Explored, choice: Choice, packed: dict[int, list[Packed]]) -> Embedded:
    axes = axes_record(
        explored,
        channels=range(choice.num_channels),
        init_times=list(packed),
        lead_times=choice.lead_times(explored).tolist(),
        stride=choice.stride,
    )
    axes["notes"] = [*axes["notes"], *_notes(explored, choice, len(packed))]
    num_views = len(explored.views)
    blocks = {
        f"{position // num_views}-{init}-{position % num_views}": block
        for init, each in enumerate(packed.values())
        for position, block in enumerate(each)
    }
    return Embedded(axes=axes, blocks=blocks)


def _notes(explored: Explored, choice: Choice, num_inits: int) -> list[str]:
    """Sentences on what of the data the page holds."""
    parts = []
    if choice.stride > 1:
        parts.append(f"one in {choice.stride} rows and columns of the grid")
    counts = (
        (choice.num_channels, len(explored.channels), "channels"),
        (num_inits, len(explored.init_times), "initial times"),
        (len(choice.lead_times(explored)), len(explored.lead_times.values), "lead times"),
    )
    parts += [f"{few} of {all_} {name}" for few, all_, name in counts if few < all_]
    held = f"This page holds {', '.join(parts)}. " if parts else ""
    return [
        f"{held}Values are stored in 4095 steps from the lowest to the highest of each forecast; "
        "± is half of a step."
    ]
