"""The report: one file, whatever was scored."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.report.plots import relative_change
from fourcastnet_afno.report.report import picture_channel, write_report
from tests.builders.forecasts import make_climatology, make_forecast, make_truth


def test_the_report_holds_everything(scored_folder: Path) -> None:
    text = (scored_folder / "out" / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert len(sources) > 8
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert (scored_folder / "out" / "report.html").stat().st_size < 8_000_000
    assert '<h2 id="explorer" hidden data-needs-script>' in text
    for title in ("Scorecard", "Scores", "Maps", "Spectra", "Ensembles and events", "Conventions"):
        assert re.search(rf"<h2[^>]*>{title}", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    for fact in (
        "exact cell areas",
        "fingerprint of truth",
        "ours against theirs",
        "missing values",
    ):
        assert fact in text
    names = {path.name for path in (scored_folder / "out" / "figures").iterdir()}
    assert {"scores.png", "scores.pdf", "scorecard_ours.pdf", "maps.png", "rollout.gif"} <= names
    assert {"spread_skill_ours.png", "reliability.png", "crps.png", "spectra.pdf"} <= names


def test_the_scorecard_shows_the_scores(scored_folder: Path) -> None:
    with xr.open_dataset(scored_folder / "out" / "scores.nc") as scores:
        first = scores.isel(region=0).load()
    change, certain = relative_change(first, "ours")
    channel = change["channel"].values[0]
    ours, theirs = (
        float(first["rmse"].sel(forecast=n, channel=channel)[0]) for n in ("ours", "theirs")
    )
    assert float(change.sel(channel=channel)[0]) == pytest.approx(100 * (ours / theirs - 1))
    assert certain.all()
    text = (scored_folder / "out" / "report.html").read_text()
    assert f"{100 * (ours / theirs - 1):+.0f} % ▼" in text


class Page(HTMLParser):
    """Every element is closed by its own end tag; links lead to headings of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.anchors, self.links = set(), set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        values = dict(attrs)
        self.anchors |= {f"#{values['id']}"} if "id" in values else set()
        assert not {name for name in values if name.startswith("on")}  # no script in attributes
        self.links |= {values["href"]} if "href" in values else set()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_report_of_few_times_on_a_region(tmp_path: Path) -> None:
    """No intervals, no spectra, missing lead times: the report leaves out what there is not."""
    box = {"latitude": slice(60, -60), "longitude": slice(0, 200)}
    truth = make_truth().sel(box)
    forecasts = {
        "ours": make_forecast(truth, 4),
        "theirs & <others>": make_forecast(truth, 4).isel(lead_time=[0]),
    }
    config = EvaluationConfig(channels=["z500", "t2m"])
    scores = evaluate(forecasts, truth, make_climatology(truth), config)
    assert "spectrum" not in scores
    assert picture_channel(scores) == "geopotential_500"
    path = write_report(
        tmp_path / "report.html",
        scores=scores,
        truth=truth,
        forecasts=forecasts,
        config_text="a: <b>\n  c: 1\n",
        facts={"run_time": "3 s"},
        max_curves=1,
    )
    text = path.read_text()
    page = Page(text)
    assert not page.open
    assert page.links == page.anchors
    assert "#spectra" not in page.links
    assert "#stability" not in page.links
    assert "theirs &amp; &lt;others&gt; lacks 3 of 4 lead times" in text
    assert "<others>" not in text
    assert "<pre>a: &lt;b&gt;\n  c: 1\n</pre>" in text
    assert "<dt>run time</dt><dd>3 s</dd>" in text
    assert "1 further channels: see the table" in text
