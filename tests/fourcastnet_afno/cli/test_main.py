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


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["--help"], ["torch", "xarray", "numpy", "jsonargparse", "rich"]),
        (["--version"], ["torch", "xarray", "numpy", "jsonargparse", "rich"]),
        (["forcast"], ["torch", "xarray", "numpy", "jsonargparse", "rich"]),
        (["--print_completion=bash"], ["torch", "dask.array", "scipy", "matplotlib"]),
        *(([verb, "--help"], ["torch", "dask.array", "scipy", "matplotlib"]) for verb in VERBS),
        (["runs", "nowhere"], ["torch"]),
        (["score", *(f"--{n}=nowhere" for n in ("forecast", "truth", "climatology"))], ["torch"]),
    ],
    ids=str,
)
def test_nothing_heavy_is_imported_without_need(words: list[str], unneeded: list[str]) -> None:
    code = (
        "import sys\nfrom fourcastnet_afno.cli import main\n"
        f"try:\n    main({words})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"sys.exit(', '.join(sys.modules.keys() & {set(unneeded)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr in ("", "\n") or words[0] in ("forcast", "runs", "score"), done.stderr
    assert not set(done.stderr.split()) & set(unneeded)


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
