"""The workflows of the forge, which only it can run: their syntax, and the commands they name."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from data_pipeline.yaml_text import read_yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
JOBS = [
    pytest.param(job, id=f"{path.stem}-{name}")
    for path in WORKFLOWS
    for name, job in read_yaml(path.read_text(), path.name)["jobs"].items()
]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_workflows_are_as_the_forge_reads_them() -> None:
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema, of the extra dev")
    check = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
    ]
    done = subprocess.run([*check, *WORKFLOWS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("job", JOBS)
def test_actions_have_versions_and_scripts_exist(job: dict) -> None:
    for step in job["steps"]:
        assert re.fullmatch(r"[\w/.-]+@[\w/.]+", step.get("uses", "some/action@v1"))
        for script in re.findall(r"[\w/.-]+\.(?:sh|lock)", step.get("run", "")):
            assert (ROOT / script).is_file()


@pytest.mark.parametrize("job", JOBS)
def test_text_of_others_never_becomes_a_command(job: dict) -> None:
    """Names of branches and titles are values of variables; nothing is pasted into a script."""
    assert all("${{" not in step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_may_only_read_and_publishing_has_a_job_of_its_own(path: Path) -> None:
    workflow = read_yaml(path.read_text(), path.name)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert ("permissions" in job) == (name == "publish")


def test_every_python_that_is_promised_is_tested() -> None:
    workflow = read_yaml((ROOT / ".github/workflows/tests.yml").read_text(), "tests.yml")
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project()["classifiers"]))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == promised
    assert project()["requires-python"] == f">={promised[0]}"
