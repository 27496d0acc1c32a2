"""Scripts, styles and data of the explorer in a page that needs no other file.

A policy in the page's head lets the browser run these scripts alone, and load nothing.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import xarray as xr

from fourcastnet_afno.report.explorer.curves import curves_record
from fourcastnet_afno.report.explorer.embedded import embed
from fourcastnet_afno.report.explorer.fields import Explored
from fourcastnet_afno.report.explorer.packed import deflate

_LIBRARY = ("uplot/LICENSE", "uplot/uPlot.iife.min.js")
_SHARED = ("assets/data.js", "assets/charts.js", "assets/explorer.js")
_MOST_FIELD_BYTES = 5_000_000


@cache
def _text(name: str) -> str:
    return (files("fourcastnet_afno.report.explorer") / name).read_text(encoding="utf-8")


def scripts(start: str = "assets/embedded.js") -> list[str]:
    """Texts of the scripts of a page: the library, the explorer, and what starts it."""
    notice, library = map(_text, _LIBRARY)
    return [f"/*\nuPlot\n{notice}\n*/\n{library}", *map(_text, _SHARED), _text(start)]


def style() -> str:
    """The style sheet of the explorer, in the colors of the report's."""
    return _text("uplot/uPlot.min.css") + _text("assets/explorer.css")


def policy(page_scripts: Iterable[str], connect: str = "'none'") -> str:
    """A Content-Security-Policy that allows these scripts and pictures in the page, nothing else.

    Args:
        page_scripts: Texts as they are in the page.
        connect: Where fields may be fetched from.
    """
    digests = (hashlib.sha256(script.encode()).digest() for script in page_scripts)
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        f"img-src data:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )


def explorer_data(explored: Explored | None, scores: xr.Dataset, max_bytes: int) -> dict[str, str]:
    """Texts by name that ``assets/embedded.js`` finds in the page; together about ``max_bytes``."""
    texts, blocks = {}, {}
    if curves := curves_record(scores):
        texts["curves"] = deflate(json.dumps(curves))
    rest = max_bytes - sum(map(len, texts.values()))
    if explored is not None and (embedded := embed(explored, min(_MOST_FIELD_BYTES, rest))):
        scales = {key: [block.low, block.quantum] for key, block in embedded.blocks.items()}
        texts["fields"] = deflate(json.dumps({"axes": embedded.axes, "scales": scales}))
        blocks = {key: block.text for key, block in embedded.blocks.items()}
    return texts | blocks
