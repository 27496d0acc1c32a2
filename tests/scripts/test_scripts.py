"""The SLURM script: what it would submit, and what the job does, with stand-ins for SLURM."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "slurm_train.sh"


def run(*words: str, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    search = f"{path}:{os.environ['PATH']}" if path else os.environ["PATH"]
    return subprocess.run(
        ["bash", str(SCRIPT), *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": search, **environment},
    )


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(("nodes", "gpus", "tasks"), [(1, 4, 4), (16, 8, 8), (2, 0, 1)])
def test_the_dry_run_prints_the_job(nodes: int, gpus: int, tasks: int) -> None:
    words = ["--nodes", str(nodes), "--gpus-per-node", str(gpus), "--sbatch", "--account=abc"]
    result = run(*words, "--dry-run", "--", "--config", "my file.yaml", "--output", "runs/x")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "# sbatch --account=abc"
    assert f"#SBATCH --nodes={nodes}" in lines
    assert f"#SBATCH --ntasks-per-node={tasks}" in lines
    assert (f"#SBATCH --gpus-per-node={gpus}" in lines) == (gpus > 0)
    assert "#SBATCH --signal=USR1@180" in lines
    assert "train --config my\\ file.yaml --output runs/x" in result.stdout
    assert subprocess.run(["bash", "-n"], input=result.stdout, text=True).returncode == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--nodes", "two", "--", "x"], "--nodes takes a number of at least 1, got 'two'"),
        (["--config", "a.yaml"], "unknown option --config; arguments of the training come after"),
        (["--nodes"], "--nodes needs a value"),
        (["--nodes", "2"], "give the arguments of the training after --"),
        (["--"], "nothing comes after --"),
        (["--", "--config", "a.yaml"], "sbatch is not in PATH"),
    ],
)
def test_mistakes_are_named(words: list[str], named: str) -> None:
    result = run(*words)
    assert result.returncode == 2
    assert named in result.stderr


def test_the_job_is_submitted_by_standard_input(tmp_path: Path) -> None:
    program(tmp_path / "bin", "sbatch", 'echo "options: $*"; cat')
    result = run("--sbatch", "--account=abc --qos=high", "--", "--x", path=tmp_path / "bin")
    assert result.stdout.splitlines()[:2] == [
        "options: --account=abc --qos=high",
        "#!/usr/bin/env bash",
    ]


@pytest.mark.parametrize(
    ("code", "restarts", "ends", "queued"),
    [(0, "0", 0, False), (75, "0", 0, True), (75, "50", 75, False), (2, "0", 2, False)],
)
def test_the_job_goes_back_to_the_queue_when_it_was_stopped(
    code: int, restarts: str, ends: int, queued: bool, tmp_path: Path
) -> None:
    called = tmp_path / "called.txt"
    program(tmp_path / "bin", "srun", f'echo "srun $*" >> {called}; exit {code}')
    program(tmp_path / "bin", "scontrol", f'echo "scontrol $*" >> {called}')
    job = run("--dry-run", "--", "--config", "my file.yaml", VENV=str(tmp_path)).stdout
    result = subprocess.run(
        ["bash", "-euo", "pipefail"],
        input=job,
        text=True,
        env={**os.environ, "SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": restarts},
    )
    assert result.returncode == ends
    calls = called.read_text()
    assert "python -m fourcastnet_afno train --config my file.yaml" in calls
    assert ("scontrol requeue 77" in calls) == queued
