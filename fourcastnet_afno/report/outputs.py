"""Files of a report, and how those that this package has written are recognized."""

import re
from pathlib import Path

from data_pipeline.files.outputs import Output, read_head, read_tail

MAKER = "fourcastnet_afno"
"""Stored in reports and figures as the program that wrote them."""

_FIGURES = re.compile(
    r"(loss|(mean_)?maps|spectra|crps|reliability|plume|stamps|exceedance|scores(_.*)?|(scorecard|spread_skill)_.*)"
    r"\.(png|pdf)|rollout\.gif",
    re.DOTALL,
)
_TITLE = b": forecasts against truth</title>"  # of all versions
_DRAWN = (b"Matplotlib version", b"Creator (Matplotlib ", b"GIF89a")  # figures of earlier versions
_RUNS_SIZE = (800, 450)  # pixels of ``plot_run_losses``


def report_outputs(path: Path) -> list[Output]:
    """The report, and the figures in the folder next to it that writing it may replace."""
    folder = path.parent / "figures"
    found = folder.iterdir() if folder.is_dir() else (folder / "loss.png",)  # its place is checked
    figures = [file for file in found if _FIGURES.fullmatch(file.name)]
    return [
        Output(path, "the report", _is_report, is_certain=True),
        *(Output(file, "a figure of the report", _is_figure, is_certain=True) for file in figures),
    ]


def runs_output(path: Path) -> Output:
    """The figure of the losses of runs."""
    return Output(path, "the losses of runs", _is_figure_of_runs)


def _is_report(path: Path) -> bool:
    return _TITLE in read_head(path)


def _is_figure(path: Path) -> bool:
    """Whether a figure says so, or is next to a report and drawn as earlier versions did."""
    ends = read_head(path) + read_tail(path)
    if MAKER.encode() in ends:
        return True
    reports = path.parent.parent.glob("*.html")
    return any(mark in ends for mark in _DRAWN) and any(map(_is_report, reports))


def _is_figure_of_runs(path: Path) -> bool:
    head = read_head(path)
    size = tuple(int.from_bytes(head[start : start + 4]) for start in (16, 20))
    return MAKER.encode() in head or (_DRAWN[0] in head and size == _RUNS_SIZE)
