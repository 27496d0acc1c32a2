"""The explorer of a report in a browser: what it shows is what the data hold."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.evaluation.inputs.open import open_with_layouts
from fourcastnet_afno.report.explorer.fields import Explored, explore_forecasts
from fourcastnet_afno.report.explorer.page import explorer_data, policy, scripts, style
from tests.builders.browser import Browser
from tests.builders.forecasts import make_forecast
from tests.builders.planes import make_advection

READY = "document.querySelector('section.explorer').dataset.ready !== undefined"
SHOWN = "document.querySelector('.map').dataset.shown === arguments[0]"


@pytest.fixture(scope="module")
def explored(scored_folder: Path) -> Explored:
    truth = open_source(SourceConfig(path=str(scored_folder / "truth.nc")))
    names = ("ours", "theirs")
    forecasts = {n: open_with_layouts(str(scored_folder / f"{n}.zarr"))[0] for n in names}
    result = explore_forecasts(truth, forecasts)
    assert result is not None
    return result


@pytest.fixture
def show(browser: Browser, scored_folder: Path) -> Callable[..., None]:
    def opened(**screen: int) -> None:
        browser.open((scored_folder / "out/report.html").as_uri(), **screen)
        browser.wait(READY)

    return opened


def choose(browser: Browser, label: str, text: str) -> None:
    """Choose an entry of a select element, as a person does."""
    browser.run(
        """const label = [...document.querySelectorAll('.explorer label')]
             .find((each) => each.firstChild.textContent.trim() === arguments[0]);
           const select = label.querySelector('select');
           select.value = [...select.options].find((o) => o.text === arguments[1]).value;
           select.dispatchEvent(new Event('change', {bubbles: true}));""",
        label,
        text,
    )


def point_at(browser: Browser, chart: str, across: float, down: float, click: bool = False) -> None:
    """Move the mouse to a share of the width and of the height of a chart."""
    x, y = browser.run(
        """const over = document.querySelector(arguments[0] + ' .u-over');
           over.scrollIntoView({block: 'center'});
           const box = over.getBoundingClientRect();
           return [box.left + arguments[1] * box.width, box.top + arguments[2] * box.height];""",
        chart, across, down,
    )  # fmt: skip
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    for kind in ("mousePressed", "mouseReleased") if click else ():
        button = {"button": "left", "clickCount": 1}
        browser.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)


def press(browser: Browser, *keys: str) -> None:
    for key in keys:
        text = {"text": "\r"} if key == "Enter" else {}
        codes = {"Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        browser.command("Input.dispatchKeyEvent", type="keyDown", **event, **text)
        browser.command("Input.dispatchKeyEvent", type="keyUp", **event)


def text_of(browser: Browser, selector: str) -> str:
    return browser.run("return document.querySelector(arguments[0]).textContent", selector)


def legend(browser: Browser, chart: str) -> dict[str, str]:
    """Names of lines and the values that hovering shows."""
    pairs = browser.run(
        """return [...document.querySelectorAll(arguments[0] + ' .u-series:not(.bound)')]
             .map((row) => [row.querySelector('.u-label').textContent,
                            row.querySelector('.u-value').textContent]);""",
        chart,
    )
    return dict(pairs)


def number(text: str) -> float:
    return float(text.replace(",", "").replace("−", "-"))


def read(text: str) -> tuple[str, float, float]:
    """What is described, the value and its precision."""
    match = re.fullmatch(r"(.*): ([-\d.,e]+) ± ([-\d.,e]+)( .*)?", text)
    assert match, text
    return match[1], number(match[2]), float(match[3])


def test_sliders_and_choices_move_the_map(
    browser: Browser, show: Callable[..., None], explored: Explored
) -> None:
    show()
    choose(browser, "Channel", "2m_temperature")
    choose(browser, "Initial time", "2001-03-20 00:00 UTC")
    choose(browser, "Show", "theirs")
    slider = "document.querySelector('.explorer input[type=range]')"
    browser.run(f"{slider}.value = 2; {slider}.dispatchEvent(new Event('input'))")
    channel = explored.channels.labels.index("2m_temperature")
    init = explored.init_times.tolist().index(np.datetime64("2001-03-20", "ns").item())
    views = [view.name for view in explored.views]
    theirs = views.index("theirs")
    browser.wait(SHOWN, f"{channel} {init} {theirs} -1 2")
    assert text_of(browser, ".explorer .lead") == "18 h"
    for row, column in ((0, 0), (2, 5), (5, 7)):
        point_at(browser, ".map", (column + 0.5) / 8, (row + 0.5) / 6)
        described, value, precision = read(text_of(browser, ".explorer .readout"))
        field = explored.field(channel, init, theirs, 2)
        assert value == pytest.approx(field[row, column], abs=1.1 * precision)
        assert precision < 0.02
        latitude = explored.grid.coords["latitude"][row]
        assert described.startswith(f"theirs at {abs(latitude):g}°{'N' if latitude > 0 else 'S'}")
        assert described.endswith("after 18 h")
    choose(browser, "minus", "truth")
    browser.wait(SHOWN, f"{channel} {init} {theirs} 0 2")
    difference = explored.field(channel, init, theirs, 2) - explored.field(channel, init, 0, 2)
    described, value, precision = read(text_of(browser, ".explorer .readout"))
    assert described.startswith("theirs minus truth at")
    assert value == pytest.approx(difference[5, 7], abs=1.1 * precision)
    colors = browser.run(
        """const {ctx, bbox} = document.querySelector('.map').chart;
           return [...ctx.getImageData(bbox.left + 0.44 * bbox.width,
                                       bbox.top + 0.42 * bbox.height, 1, 1).data];"""
    )
    is_warm = colors[0] > colors[2]
    assert is_warm == (difference[2, 3] > 0)


def test_a_click_draws_the_values_at_a_point(
    browser: Browser, show: Callable[..., None], explored: Explored
) -> None:
    show()
    point_at(browser, ".map", 2.5 / 8, 4.5 / 6, click=True)
    browser.wait("document.querySelector('.series .u-legend') !== null")
    assert "at 45°S, 90°E, from" in text_of(browser, ".explorer h3")
    point_at(browser, ".series", 1 / 3, 0.5)
    shown = legend(browser, ".series")
    assert shown.pop("lead time") == "12 h"
    names = [view.name for view in explored.views if view.kind != "spread"]
    titles = [f"{n} ± spread" if n == "ours, mean" else n for n in names]
    assert list(shown) == [*titles, "climatology", "linear"]
    for name in titles:
        text = shown[name]
        view = [view.name for view in explored.views].index(name.removesuffix(" ± spread"))
        expected = explored.series(0, 0, view, 4, 2)[1]
        assert number(text) == pytest.approx(expected, abs=0.02), name


def test_curves_show_the_scores(
    browser: Browser, show: Callable[..., None], scored_folder: Path
) -> None:
    show()
    choose(browser, "Score", "bias")
    choose(browser, "Region", "global_land")
    scores_channel = "section.explorer .scores"
    browser.run(  # the second choice of this name, after the one of fields
        """const label = [...document.querySelectorAll(arguments[0] + ' label')].at(-1);
           const select = label.querySelector('select');
           select.value = [...select.options].find((o) => o.text === '2m_temperature').value;
           select.dispatchEvent(new Event('change'));""",
        scores_channel,
    )
    point_at(browser, ".curves", 0.98, 0.5)
    shown = legend(browser, ".curves")
    assert shown.pop("lead time") == "24 h"
    with xr.open_dataset(scored_folder / "out/scores.nc", decode_timedelta=True) as scores:
        bias = scores["bias"].sel(region="global_land", channel="2m_temperature").isel(lead_time=3)
        expected = dict(zip(bias["forecast"].values, bias.values, strict=True))
    known = {name: value for name, value in expected.items() if np.isfinite(value)}
    assert shown.keys() == known.keys()
    for name, text in shown.items():
        assert number(text) == pytest.approx(known[name], rel=1e-3, abs=1e-4)


def test_keys_reach_everything(
    browser: Browser, show: Callable[..., None], explored: Explored
) -> None:
    show()
    browser.run("document.querySelector('.explorer input[type=range]').focus()")
    press(browser, "ArrowRight", "ArrowRight")
    browser.wait(SHOWN, "0 0 1 -1 2")
    browser.run("document.querySelector('.map .u-over').focus()")
    press(browser, "ArrowUp", "ArrowLeft")
    described, value, precision = read(text_of(browser, ".explorer .readout"))
    assert described == "ours, mean at 15°N, 135°E after 18 h"
    assert value == pytest.approx(explored.field(0, 0, 1, 2)[2, 3], abs=1.1 * precision)
    press(browser, "Enter")
    browser.wait("document.querySelector('.series .u-legend') !== null")
    browser.run("document.querySelector('.series .u-over').focus()")
    press(browser, "ArrowRight", "ArrowRight")
    assert legend(browser, ".series")["lead time"] == "12 h"


def test_it_plays(browser: Browser, show: Callable[..., None]) -> None:
    show()
    button = "document.querySelector('.explorer button')"
    browser.run(f"{button}.click()")
    browser.wait(SHOWN, "0 0 1 -1 2")
    assert text_of(browser, ".explorer button") == "Pause"
    browser.run(f"{button}.click()")
    assert text_of(browser, ".explorer button") == "Play"


def test_a_finger_on_a_small_screen(
    browser: Browser, show: Callable[..., None], explored: Explored
) -> None:
    show(width=400)
    assert browser.run("return document.documentElement.scrollWidth") <= 400
    x, y = browser.run(
        """const over = document.querySelector('.map .u-over');
           over.scrollIntoView({block: 'center'});
           const box = over.getBoundingClientRect();
           return [box.left + 6.5 / 8 * box.width, box.top + 1.5 / 6 * box.height];"""
    )
    browser.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x, "y": y}])
    browser.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    browser.wait("document.querySelector('.series .u-legend') !== null")
    described, value, precision = read(text_of(browser, ".explorer .readout"))
    assert described == "ours, mean at 45°N, 90°W after 6 h"
    assert value == pytest.approx(explored.field(0, 0, 1, 0)[1, 6], abs=1.1 * precision)


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_is_quiet_and_accessible(
    browser: Browser, show: Callable[..., None], dark: bool
) -> None:
    show(dark=dark)
    point_at(browser, ".map", 0.3, 0.3, click=True)
    browser.wait("document.querySelector('.series .u-legend') !== null")
    assert browser.accessibility_faults() == []
    assert browser.messages() == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests())
    assert browser.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []


def test_without_scripts_the_pictures_remain(browser: Browser, scored_folder: Path) -> None:
    browser.open((scored_folder / "out/report.html").as_uri(), script=False)
    heights = browser.run(
        """return ['section.explorer', 'h2#explorer', 'h2#maps + figure img']
             .map((each) => document.querySelector(each).getBoundingClientRect().height);"""
    )
    assert heights[:2] == [0, 0]
    assert heights[2] > 100
    browser.command("Emulation.setScriptExecutionDisabled", value=False)


def page_of(explored: Explored, path: Path) -> str:
    """The address of a page that holds the explorer alone."""
    parts = scripts()
    data = explorer_data(explored, xr.Dataset(), 10**6)
    texts = [f'<script type="text/plain" data-explorer="{k}">{v}</script>' for k, v in data.items()]
    texts += [f"<script>{part}</script>" for part in parts]
    path.write_text(
        f'<!doctype html><meta charset="utf-8"><style>{style()}</style><meta '
        f'http-equiv="Content-Security-Policy" content="{policy(parts)}">'
        f'<section class="explorer" hidden></section>{"".join(texts)}',
        encoding="utf-8",
    )
    return path.as_uri()


@pytest.mark.parametrize("rows", [1, 8])
def test_a_line_is_drawn_in_space_and_time_and_a_plane_to_scale(
    browser: Browser, tmp_path: Path, rows: int
) -> None:
    truth = make_advection(PlaneGrid.regular(rows, 8, extent=(1.0, 1.0)), length=24)
    leads = np.arange(1, 5) * np.timedelta64(1, "h").astype("timedelta64[ns]")
    explored = explore_forecasts(truth, {"ours": make_forecast(truth, 4, leads)})
    assert explored is not None
    browser.open(page_of(explored, tmp_path / "page.html"))
    browser.wait(READY)
    slider = "document.querySelector('.explorer input[type=range]')"
    browser.run(f"{slider}.value = 2; {slider}.dispatchEvent(new Event('input'))")
    browser.wait(SHOWN, "0 0 1 -1 2")
    point_at(browser, ".map", 2.5 / 8, 1 - 1.5 / (4 if rows == 1 else rows), click=True)
    browser.wait("document.querySelector('.series .u-legend') !== null")
    if rows == 1:  # the click has chosen the second lead time, too
        browser.wait(SHOWN, "0 0 1 -1 1")
    described, value, precision = read(text_of(browser, ".explorer .readout"))
    expected = explored.field(0, 0, 1, 1)[0, 2] if rows == 1 else explored.field(0, 0, 1, 2)[1, 2]
    assert value == pytest.approx(expected, abs=1.1 * precision)
    assert f"x {explored.grid.coords['x'][2]:g} after" in described
    width, height = browser.run(
        """const {width, height} = document.querySelector('.map').chart.bbox;
           return [width, height];"""
    )
    assert width / height == pytest.approx(2 if rows == 1 else 1, rel=0.1)
    assert browser.messages() == []
