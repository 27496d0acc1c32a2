"""The verb ``view``: any store in the explorer, in a browser on this machine."""

import threading
from contextlib import suppress
from pathlib import Path

from data_pipeline.sources.config import SourceConfig
from data_pipeline.terminal import print_line
from fourcastnet_afno.viewer.answers import Answers
from fourcastnet_afno.viewer.opening import open_viewed
from fourcastnet_afno.viewer.server import ViewServer, serving, show_in_browser
from fourcastnet_afno.workflows import console


def view(
    path: Path, truth: SourceConfig | None = None, port: int = 0, *, opens_browser: bool = True
) -> None:
    """Serve the page until Ctrl-C.

    The arguments are those that ``fourcastnet-afno view --help`` describes.

    Raises:
        InputError: If nothing is there that can be shown, or the port is taken.
    """
    server = ViewServer(Answers(open_viewed(path, truth)), port)
    with suppress(KeyboardInterrupt), serving(server) as url:
        print_line(console, f"{path} is shown at {url}")
        print_line(console, "The address is for you alone. Ctrl-C ends this.")
        if opens_browser:
            show_in_browser(url)
        threading.Event().wait()
    print_line(console, "Ended.")
