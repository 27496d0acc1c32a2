"""The verb ``view``, from its address to Ctrl-C."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from fourcastnet_afno.cli.main import main


def test_it_serves_until_it_is_interrupted(scored_folder: Path) -> None:
    command = ["view", str(scored_folder / "theirs.zarr"), "--no-browser"]
    with subprocess.Popen(
        [sys.executable, "-m", "fourcastnet_afno", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
        # Jobs that a shell has put into the background ignore it, and so do the tests within.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            text = ""
            while "http" not in text or not text.endswith("\n"):
                character = process.stdout.read(1)
                assert character, "it has ended before it told its address"
                text += character
            match = re.search(r"http://127\.0\.0\.1:\d+/\S+", text)
            assert match
            with urlopen(match[0] + "axes", timeout=300) as response:
                assert b"2m_temperature" in response.read()
            process.send_signal(signal.SIGINT)
            rest, errors = process.communicate(timeout=300)
        finally:
            process.kill()  # does nothing to one that has ended
    assert process.returncode == 0, errors
    assert "Ended" in rest
    assert errors == ""


def test_nothing_to_show_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    assert main(["view", str(tmp_path / "nowhere"), "--no-browser"]) == 2
