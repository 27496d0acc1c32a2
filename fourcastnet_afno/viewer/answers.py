"""Answers to the requests of the page: pure functions of a request's name and its numbers.

========  ==========================================  =====================================
request   numbers, positions on the axes              answer
========  ==========================================  =====================================
(none)                                                the page
axes                                                  JSON, see ``explorer.axes.axes_record``
curves                                                JSON, see ``explorer.curves``; or null
limits    channel                                     JSON: ends of colors of this channel
field     channel, init, view, lead                   float32 (row, column), little-endian
series    channel, init, view, cell                   float32 (lead_time,), little-endian
========  ==========================================  =====================================

Nothing of a request is a name, a path or a range: everything else is rejected.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import parse_qsl

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from fourcastnet_afno.report.explorer.axes import axes_record, limits, points_of
from fourcastnet_afno.report.explorer.curves import curves_record
from fourcastnet_afno.report.explorer.page import policy, scripts, style
from fourcastnet_afno.viewer.opening import Viewed

_NUMBER = re.compile(r"[0-9]{1,9}")
_JSON, _BINARY, _HTML = "application/json", "application/octet-stream", "text/html; charset=utf-8"


class BadRequestError(ValueError):
    """A request that the page never makes."""


class NoAnswerError(LookupError):
    """There is no request of this name."""


@dataclass(frozen=True)
class Answer:
    """Content of a response.

    Args:
        content: Its bytes.
        kind: Their media type.
        policy: Content-Security-Policy of a page.
    """

    content: bytes
    kind: str
    policy: str = "default-src 'none'"


@dataclass
class Answers:
    """Answers about what is viewed."""

    viewed: Viewed

    def answer(self, name: str, query: str) -> Answer:
        """The answer to a request.

        Args:
            name: Of the request, as in the header of this module.
            query: Text behind the question mark.

        Raises:
            NoAnswerError: If there is no such request.
            BadRequestError: If its numbers are not those that it needs, or are on no axis.
        """
        if name in ("", "axes", "curves"):
            _numbers(query, {})
            return {"": self._page, "axes": self._axes, "curves": self._curves}[name]
        explored = self.viewed.explored
        sizes = {"channel": len(explored.channels)}
        if name == "limits":
            return self._limits(**_numbers(query, sizes))
        sizes |= {"init": len(explored.init_times), "view": len(explored.views)}
        rows, columns = explored.grid.shape
        if name == "field":
            numbers = _numbers(query, {**sizes, "lead": len(explored.lead_times.values)})
            return _binary(explored.field(**numbers))
        if name == "series":
            numbers = _numbers(query, {**sizes, "cell": rows * columns})
            row, column = divmod(numbers.pop("cell"), columns)
            return _binary(explored.series(**numbers, row=row, column=column))
        raise NoAnswerError(name)

    @cached_property
    def _axes(self) -> Answer:
        explored = self.viewed.explored
        record = axes_record(
            explored,
            channels=range(len(explored.channels)),
            init_times=range(len(explored.init_times)),
            lead_times=range(len(explored.lead_times.values)),
            with_limits=False,
        )
        return _json(record)

    @cached_property
    def _curves(self) -> Answer:
        scores = self.viewed.scores
        return _json(None if scores is None else curves_record(scores))

    @cached_property
    def _page(self) -> Answer:
        page_scripts = scripts("assets/served.js")
        environment = Environment(
            loader=PackageLoader("fourcastnet_afno.report"), autoescape=True,
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        text = environment.get_template("view.html.j2").render(
            title=self.viewed.name, style=style(), scripts=page_scripts
        )
        content = text.encode(errors="backslashreplace")
        return Answer(content, _HTML, policy(page_scripts, connect="'self'"))

    def _limits(self, channel: int) -> Answer:
        explored = self.viewed.explored
        return _json(limits(explored, channel, 0, points_of(explored, 1)))


def _numbers(query: str, sizes: Mapping[str, int]) -> dict[str, int]:
    """The positions of a query, each below the size of its axis."""
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=8
        )
    except ValueError as error:
        raise BadRequestError(str(error)) from error
    found = dict(pairs)
    if found.keys() != sizes.keys() or len(pairs) != len(found):
        raise BadRequestError(f"expected {', '.join(sizes) or 'no numbers'}")
    for name, text in pairs:
        if not _NUMBER.fullmatch(text) or int(text) >= sizes[name]:
            raise BadRequestError(f"{name} is a number below {sizes[name]}")
    return {name: int(text) for name, text in pairs}


def _json(record: object) -> Answer:
    return Answer(json.dumps(record).encode(), _JSON)


def _binary(values: np.ndarray) -> Answer:
    return Answer(values.astype("<f4").tobytes(), _BINARY)
