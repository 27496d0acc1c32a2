"""A headless Chromium that tests of pages drive; where there is none, they are skipped."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # which root cannot have
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
_SECONDS = 300  # that anything may take on a busy machine


@contextmanager
def open_browser() -> Iterator["Browser"]:
    """Start Chromium, or skip the test with a reason."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = next(filter(None, map(shutil.which, _NAMES)), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed (Debian: chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for flag in _FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = selenium.ChromeService(executable_path=driver)  # or it would look in the network
    chrome = selenium.Chrome(options=options, service=service)
    try:
        chrome.set_script_timeout(_SECONDS)
        yield Browser(chrome)
    finally:
        chrome.quit()


class Browser:
    """What tests do with a page.

    Args:
        chrome: Selenium's driver.
    """

    def __init__(self, chrome: "Chrome") -> None:
        self.chrome = chrome

    def open(self, url: str, *, dark: bool = False, width: int = 1200, script: bool = True) -> None:
        """Open a page on a screen, and forget the logs of earlier ones."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", features=scheme)
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        screen = {"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": width < 600}
        self.command("Emulation.setDeviceMetricsOverride", **screen)
        self.command("Emulation.setTouchEmulationEnabled", enabled=width < 600)
        for log in ("browser", "performance"):
            self.chrome.get_log(log)
        self.chrome.get(url)

    def command(self, name: str, **parameters: Any) -> Any:  # noqa: ANN401
        """A command of the DevTools protocol."""
        return self.chrome.execute_cdp_cmd(name, parameters)

    def run(self, script: str, *arguments: Any) -> Any:  # noqa: ANN401
        """The value that a script returns."""
        return self.chrome.execute_script(script, *arguments)

    def wait(self, expression: str, *arguments: Any) -> None:  # noqa: ANN401
        """Wait until an expression of JavaScript holds, which sees ``arguments``."""
        script = """
            const done = arguments[arguments.length - 1];
            const args = Array.prototype.slice.call(arguments, 0, -1);
            const holds = (function () { return EXPRESSION; });
            const look = () => holds.apply(null, args) ? done(true) : setTimeout(look, 20);
            look();"""
        self.chrome.execute_async_script(script.replace("EXPRESSION", expression), *arguments)

    def messages(self) -> list[str]:
        """Everything that the console of the page got."""
        return [entry["message"] for entry in self.chrome.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that the page has requested."""
        events = [json.loads(e["message"])["message"] for e in self.chrome.get_log("performance")]
        sent = (e["params"] for e in events if e["method"] == "Network.requestWillBeSent")
        return [params["request"]["url"] for params in sent]

    def accessibility_faults(self) -> list[str]:
        """Serious and critical faults of the page, as axe-core finds them."""
        self.run((Path(__file__).parent / "axe/axe.min.js").read_text())
        found = self.chrome.execute_async_script(
            "const done = arguments[0]; axe.run().then((result) => done(result.violations));"
        )
        return [
            f"{fault['id']}: {fault['help']}: {fault['nodes'][0]['html'][:200]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
