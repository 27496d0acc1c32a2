import os
import subprocess
import sys
from pathlib import Path

import pytest

from fourcastnet_afno.cli import main
from fourcastnet_afno.cli.verbs import VERBS

ROOT = Path(__file__).parents[3]


def test_the_embedded_quickstart_is_the_recipe() -> None:
    embedded = ROOT / "fourcastnet_afno" / "quickstart.yaml"
    assert embedded.read_text() == (ROOT / "configs" / "quickstart.yaml").read_text()


SCORE = ["score", *(f"--{name}=nowhere" for name in ("forecast", "truth", "climatology"))]
NEEDLESS = [
    ([["--help"], ["--version"], ["forcast"]], ["torch", "xarray", "jsonargparse", "rich"]),
    (
        [["--print_completion=bash"], *([verb, "--help"] for verb in VERBS)],
        ["torch", "dask.array", "scipy", "matplotlib"],
    ),
    ([["runs", "nowhere"], SCORE], ["torch"]),
]
"""Commands, each with more than those before, and modules that they have no need of."""


def test_nothing_heavy_is_imported_without_need() -> None:
    code = (
        "import sys\nfrom fourcastnet_afno.cli import main\n"
        f"for commands, needless in {NEEDLESS}:\n"
        "    for words in commands:\n        try:\n            code = main(words)\n"
        "        except SystemExit as stop:\n            code = stop.code\n"
        "        wrong = words[-1].endswith(('cast', 'nowhere'))\n"
        "        assert (code or 0) == 2 * wrong, words\n"
        "    imported = sys.modules.keys() & set(needless)\n    assert not imported, imported\n"
        "import fourcastnet_afno.evaluation.evaluate\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(verb.help in text for verb in VERBS.values())


@pytest.mark.parametrize(("word", "near"), [("forcast", "forecast"), ("zzz", "train-diagnostic")])
def test_an_unknown_verb_names_the_nearest(
    word: str, near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
    assert near in line


def test_errors_of_the_parser_command_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--\x1b]0;title\x07\u202e"])
    assert stop.value.code == 2
    assert r"--\x1b]0;title\x07\u202e" in capsys.readouterr().err


def test_a_path_that_is_not_utf8_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", os.fsdecode(b"/data/caf\xe9")]) == 2
    assert r"/data/caf\udce9" in capsys.readouterr().err
