import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "netcdf4": "netcdf4", "matplotlib": "matplotlib-base"}
# Conda has no extras: what jsonargparse[signatures] installs is listed there by itself.
CONDA_ONLY = {"python", "pip", "docstring_parser", "typeshed_client"}


def split(requirement: str) -> tuple[str, str]:
    match = re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[.*\])?(.*)", requirement.strip())
    assert match is not None
    return match[1].lower(), match[2]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def conda() -> list[str]:
    text = (ROOT / "environment.yml").read_text().split("dependencies:")[1]
    return re.findall(r"^  - ([^:\n]+)$", text, re.MULTILINE)


def test_environment_and_project_need_the_same() -> None:
    wanted = dict(split(line) for line in project()["dependencies"])
    found = {k: v for k, v in map(split, conda()) if k not in CONDA_ONLY}
    assert found == {CONDA_NAMES.get(name, name): bounds for name, bounds in wanted.items()}


def test_the_unrelated_apex_is_never_installed() -> None:
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    names = {split(line)[0] for group in groups for line in group} | {split(c)[0] for c in conda()}
    locks = "\n".join(path.read_text() for path in ROOT.glob("*.lock"))
    assert "apex" not in names
    assert not re.search(r"^apex\b", locks, re.MULTILINE)


def test_the_lock_satisfies_every_dependency() -> None:
    locked = {
        split(line)[0]
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if "==" in line
    }
    assert {split(line)[0] for line in project()["dependencies"]} <= locked


def pinned(lock: Path) -> dict[str, str]:
    pairs = (line.split("==") for line in lock.read_text().splitlines() if "==" in line)
    return {re.sub(r"[-_.]+", "-", name.lower()): version for name, version in pairs}


def test_the_tools_of_the_documentation_are_locked() -> None:
    tools = project()["optional-dependencies"]["docs"]
    locked = pinned(ROOT / "requirements-docs.lock")
    assert {split(line)[0] for line in tools} <= set(locked)


def test_locks_agree_so_that_all_fit_into_one_environment() -> None:
    """Otherwise the tools of the documentation would replace what was tested."""
    versions: dict[str, set[str]] = {}
    for lock in ROOT.glob("requirements*.lock"):
        for name, version in pinned(lock).items():
            versions.setdefault(name, set()).add(version)
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


@pytest.mark.parametrize("arguments", [[], ["--output", "runs/mine"], ["--training.seed=1"]])
def test_the_quickstart_script_hands_on_its_arguments(tmp_path: Path, arguments: list[str]) -> None:
    """With an environment that is installed already and a program that prints its arguments."""
    program = tmp_path / "bin" / "fourcastnet-afno"
    program.parent.mkdir()
    program.write_text('#!/usr/bin/env bash\necho "called: $*"\n')
    program.chmod(0o755)
    locks = sorted(ROOT.glob("requirements*.lock"))
    stamp = "".join(path.read_text() for path in [*locks, ROOT / "pyproject.toml"])
    (tmp_path / ".installed-run").write_text(stamp)
    result = subprocess.run(
        ["bash", str(ROOT / "scripts" / "quickstart.sh"), *arguments],
        env={**os.environ, "VENV": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == " ".join(["called: quickstart", *arguments])
