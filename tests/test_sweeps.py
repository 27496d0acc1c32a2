"""The examples of docs/sweeps.md do what they say."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.builders.experiments import make_dataset, make_experiment

TEXT = (Path(__file__).parents[1] / "docs" / "sweeps.md").read_text()


def code(language: str) -> str:
    (block,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return block


def test_the_array_covers_each_setting_once(tmp_path: Path) -> None:
    """With a program that prints its arguments."""
    program = tmp_path / "fourcastnet-afno"
    program.write_text('#!/usr/bin/env bash\necho "$*"\n')
    program.chmod(0o755)
    script = code("bash")
    first, last = map(int, re.findall(r"--array=(\d+)-(\d+)", script)[0])
    calls = [
        subprocess.run(
            ["bash", "-c", script],
            env={
                **os.environ,
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "SLURM_ARRAY_TASK_ID": str(task),
            },
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for task in range(first, last + 1)
    ]
    outputs = [re.findall(r"--output (\S+)", call)[0] for call in calls]
    wanted = {f"sweep/rate{r}-seed{s}" for r in ("1e-3", "5e-4", "2e-4") for s in (0, 1)}
    assert len(outputs) == len(wanted)
    assert set(outputs) == wanted


@pytest.mark.slow
def test_the_search_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna")
    data = tmp_path / "data.nc"
    make_dataset().to_netcdf(data)
    (tmp_path / "config.yaml").write_text(make_experiment(data).to_yaml())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    names: dict = {}
    exec(code("python").replace("n_trials=20", "n_trials=2"), names)
    values = [trial.value for trial in names["study"].trials]
    assert len(values) == 2
    assert names["study"].best_value == min(values)
    assert set(names["study"].best_params) == {
        "learning_rate",
        "sparsity_threshold",
        "weight_decay",
    }
    assert (tmp_path / "sweep" / "trial1" / "checkpoints" / "best.safetensors").exists()
