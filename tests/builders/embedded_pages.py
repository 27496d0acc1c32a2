"""Fields that a page embeds, read as its scripts read them."""

import base64
import json
import re
import zlib
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fourcastnet_afno.report.explorer.packed import NO_VALUE


class EmbeddedPage:
    """The explorer's fields of a report."""

    def __init__(self, path: Path) -> None:
        elements = re.findall(r'data-explorer="([^"]+)">([^<]*)</script>', path.read_text())
        self._texts = dict(elements)
        record = json.loads(_inflated(self._texts["fields"]))
        self.axes: dict[str, Any] = record["axes"]
        self._scales: dict[str, list[float]] = record["scales"]

    @property
    def views(self) -> list[str]:
        """Their names."""
        return self._names("views")

    def field(self, view: str, channel: str, init: int = 0) -> tuple[np.ndarray, float]:
        """Values (lead_time, row, column), NaN where there is none, and what they may be off."""
        positions = self._names("channels").index(channel), init, self.views.index(view)
        key = "-".join(map(str, positions))
        grid = self.axes["grid"]
        shape = len(self.axes["leads"]), len(grid["y"]), len(grid["x"])
        integers, (low, quantum) = unpacked(self._texts[key], shape), self._scales[key]
        return np.where(integers == NO_VALUE, np.nan, low + quantum * integers), quantum / 2

    def _names(self, axis: str) -> list[str]:
        return [each["name"] for each in self.axes[axis]]


def require_scored_fields(
    page: EmbeddedPage, scores: xr.Dataset, names: list[str], weights: np.ndarray
) -> None:
    """Require that fields of the one initial time have, by hand, the RMSE of the scores."""
    assert len(page.axes["initTimes"]) == 1
    for name, channel in product(names, scores["channel"].values.tolist()):
        (fields, one), (truth, other) = (page.field(view, channel) for view in (name, "truth"))
        by_hand = np.sqrt((weights * (fields - truth) ** 2).mean(axis=(1, 2)))
        expected = scores["rmse"].sel(forecast=name, channel=channel).values.ravel()
        np.testing.assert_allclose(by_hand, expected, rtol=1e-6, atol=one + other, err_msg=name)


def unpacked(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Integers that sums along the axes give back, as the header of ``packed`` says."""
    data = np.frombuffer(_inflated(text), np.uint8)
    low, high = data.reshape(2, -1).astype(np.uint16)
    folded = low | high << 8
    differences = (folded >> 1) ^ -(folded & 1)
    integers = differences.reshape(shape)
    for axis in (0, 1, 2):
        integers = np.cumsum(integers, axis=axis, dtype=np.uint16)
    return integers


def _inflated(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
