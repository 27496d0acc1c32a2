"""The page of the server in a browser: what it shows is what the store holds."""

import re
from collections.abc import Iterator

import pytest

from fourcastnet_afno.viewer.answers import Answers
from fourcastnet_afno.viewer.opening import Viewed
from fourcastnet_afno.viewer.server import ViewServer, serving
from tests.builders.browser import Browser

READY = "document.querySelector('section.explorer').dataset.ready !== undefined"
SHOWN = "document.querySelector('.map').dataset.shown === arguments[0]"


@pytest.fixture(scope="module")
def url(viewed: Viewed) -> Iterator[str]:
    with serving(ViewServer(Answers(viewed))) as url:
        yield url


@pytest.mark.parametrize("dark", [False, True])
def test_the_page_shows_the_store(browser: Browser, url: str, viewed: Viewed, dark: bool) -> None:
    browser.open(url, dark=dark)
    browser.wait(READY)
    slider = "document.querySelector('.explorer input[type=range]')"
    browser.run(f"{slider}.value = 2; {slider}.dispatchEvent(new Event('input'))")
    browser.wait(SHOWN, "0 0 1 -1 2")
    field = viewed.explored.field(0, 0, 1, 2)
    drawn = browser.run(
        """const over = document.querySelector('.map .u-over');
           over.scrollIntoView({block: 'center'});
           const box = over.getBoundingClientRect();
           return [box.left + 6.5 / 8 * box.width, box.top + 1.5 / 6 * box.height];"""
    )
    browser.command("Input.dispatchMouseEvent", type="mouseMoved", x=drawn[0], y=drawn[1])
    text = browser.run("return document.querySelector('.explorer .readout').textContent")
    match = re.search(r": ([-\d.,]+) ± ", text)
    assert match, text
    assert float(match[1].replace(",", "")) == pytest.approx(float(field[1, 6]), rel=1e-5)
    for kind in ("mousePressed", "mouseReleased"):
        point = {"x": drawn[0], "y": drawn[1], "button": "left", "clickCount": 1}
        browser.command("Input.dispatchMouseEvent", type=kind, **point)
    browser.wait("document.querySelector('.series .u-legend') !== null")
    assert browser.accessibility_faults() == []
    assert browser.messages() == []
    assert all(request.startswith((url, "data:")) for request in browser.requests())
