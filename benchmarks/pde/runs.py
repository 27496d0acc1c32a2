"""Runs of ``benchmarks.benchmark_pde``: each trains and scores a network and writes a file."""

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.pde.networks import Surrogate, build, build_afno, count_weights
from benchmarks.pde.problems import Data, Problem
from benchmarks.pde.training import Optimization, baselines, scores, train
from benchmarks.timing import describe
from data_pipeline.files.atomic import replacing
from fourcastnet_afno.models.config import AFNONetConfig

console = Console()
NUM_WEIGHTS = 140_000
LEARNING_RATES = {
    "afno": 4e-3,
    "afno_paper": 8e-3,
    "fno": 8e-3,
    "global_filter": 8e-3,
    "attention": 4e-3,
    "unet": 2e-3,
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """A network to be trained and scored.

    Args:
        problem: The problem to learn.
        label: Name in the table.
        kind: One of ``KINDS``.
        seed: Seed of the weights and of the order of the samples.
        config: The network's configuration in an ablation.
        table: The ablation whose table it is in.
        spectral_norm: Whether layers of the token-wise perceptrons have spectral norm 1.
    """

    problem: Problem
    label: str
    kind: str
    seed: int
    config: AFNONetConfig | None = None
    table: str = ""
    spectral_norm: bool = False

    def path(self, output: Path) -> Path:
        """File of the results."""
        folder = f"{self.table}_{self.problem.name}" if self.table else self.problem.name
        return output / folder / f"{self.label}_{self.seed}.json"


def run_missing(runs: Sequence[Run], output: Path, processes: int) -> None:
    """Carry out the runs that have no file yet."""
    missing = [run for run in runs if not run.path(output).exists()]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        waiting = {pool.submit(train_and_score, run, output): run for run in missing}
        for done in as_completed(waiting):
            result, run = done.result(), waiting[done]
            console.print(f"{run.problem.name} {run.label} {run.seed}: {result['scores']}")


def train_and_score(run: Run, output: Path) -> dict[str, Any]:
    """Train and score a network, and write its weights and the returned results."""
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    problem, data = run.problem, run.problem.load(output / "data")
    surrogate = surrogate_of(run, data)
    plan = Optimization(learning_rate=LEARNING_RATES[run.kind])
    num_weights = count_weights(surrogate)
    trained, seconds = train(surrogate, problem, data, plan, run.seed)
    result = {
        "label": run.label,
        "kind": run.kind,
        "seed": run.seed,
        "weights": num_weights,
        "seconds": seconds,
        "problem": asdict(problem),
        "optimization": asdict(plan),
        "scores": scores(trained, surrogate, problem, data),
        "baselines": {
            name: scores(step, surrogate, problem, data)
            for name, step in baselines(problem, data).items()
        },
        "machine": describe(),
    }
    path = run.path(output)
    with replacing(path.with_suffix(".safetensors")) as temporary:
        save_file(trained.state_dict(), temporary)
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, default=str, indent=1))
    return result


def surrogate_of(run: Run, data: Data) -> Surrogate:
    """The network of a run, with fresh weights."""
    if run.config is None:
        return build(run.kind, run.problem, data, NUM_WEIGHTS)
    surrogate = build_afno(run.config, run.problem, data)
    if run.spectral_norm:
        for block in surrogate.network.blocks:  # pyright: ignore
            for layer in block.mlp:
                if isinstance(layer, nn.Linear):
                    nn.utils.parametrizations.spectral_norm(layer)
    return surrogate


def load_trained(run: Run, data: Data, output: Path) -> Surrogate:
    """The trained network of a run that has ended."""
    surrogate = surrogate_of(run, data)
    surrogate.load_state_dict(load_file(run.path(output).with_suffix(".safetensors")))
    return surrogate.eval()
