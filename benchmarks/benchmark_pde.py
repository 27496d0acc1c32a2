"""AFNO and other operators on partial differential equations, also at other resolutions.

    python -m benchmarks.benchmark_pde run --output runs/pde
    python -m benchmarks.benchmark_pde run --output runs/pde_quick --quick true
    python -m benchmarks.benchmark_pde ablation --output runs/pde
    python -m benchmarks.benchmark_pde cost --output runs/pde
    python -m benchmarks.benchmark_pde table --output runs/pde
    python -m benchmarks.benchmark_pde pictures --output runs/pde --images docs/images

All networks have the same inputs, at most 64 channels and 140,000 weights, and the same epochs; all
but the U-Net have the same trunk. ``LEARNING_RATES`` holds, for each kind, the better of 0.002 and
0.008 after six epochs of the public Darcy problems, and 0.004 for attention, for which both were
equal, and for ``afno``, whose error on other data of Navier-Stokes was a sixth less than with
0.008. Every run writes a file into the output folder and is not repeated, so that an interrupted
table resumes. A run is a process with one thread. ``--darcy_folder`` has neuraloperator's small
Darcy problems, see ``PublicDarcy``; the table leaves them out without it.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import auto_cli
from rich.console import Console
from torch import Tensor

from benchmarks.pde.ablation import forms, variants
from benchmarks.pde.pictures import draw
from benchmarks.pde.problems import (
    KINDS,
    Darcy,
    Data,
    FineShallowWater,
    NavierStokes,
    Problem,
    PublicDarcy,
    SphericalShallowWater,
    VorticityAlone,
)
from benchmarks.pde.runs import Run, run_missing, surrogate_of
from benchmarks.pde.tables import ablation_table, read_results, scores_table
from benchmarks.timing import describe, median_seconds
from data_pipeline.files.atomic import replacing

console = Console()
_ABLATION_EPOCHS = 8


def problems(quick: bool, darcy_folder: Path | None) -> list[Problem]:
    """All problems; neuraloperator's Darcy if its folder is given."""
    if quick:
        return [
            Darcy(num_train=100, num_test=10, epochs=4),
            NavierStokes(num_train=10, num_test=3, epochs=2),
            SphericalShallowWater(
                num_train=2, num_test=1, days=25, epochs=1, samples_per_epoch=160
            ),
        ]
    public = [PublicDarcy(folder=darcy_folder)] if darcy_folder else []
    flows = [NavierStokes(), VorticityAlone(), SphericalShallowWater(), FineShallowWater()]
    return [*public, Darcy(), *flows]


def run(
    output: Path,
    only: list[str] | None = None,
    kinds: list[str] | None = None,
    num_seeds: int = 3,
    darcy_folder: Path | None = None,
    quick: bool = False,
    processes: int = 2,
) -> None:
    """Train and score all networks on all problems, and show the table.

    Args:
        output: Folder of data, weights and results.
        only: Names of problems; all by default.
        kinds: Kinds of networks; all by default.
        num_seeds: Runs of each network; 1 with ``quick``.
        darcy_folder: Folder of neuraloperator's small Darcy problems.
        quick: Smaller problems, for a first look.
        processes: Runs at a time.
    """
    seeds = range(1 if quick else num_seeds)
    selected = [p for p in problems(quick, darcy_folder) if not only or p.name in only]
    for problem in selected:
        problem.load(output / "data")
    runs = [
        Run(problem=problem, label=kind, kind=kind, seed=seed)
        for problem in selected
        for seed in seeds
        for kind in kinds or KINDS
        if kind in problem.kinds
    ]
    run_missing(runs, output, processes)
    table(output)


def ablation(output: Path, darcy_folder: Path | None = None, processes: int = 2) -> None:
    """AFNO with one thing changed at a time, fewer epochs, one seed.

    The paper's on Darcy's problem, and forms of the mixer on Darcy's, Navier-Stokes and the sphere.

    Args:
        output: Folder of data, weights and results.
        darcy_folder: Folder of neuraloperator's small Darcy problems; our solver's by default.
        processes: Runs at a time.
    """
    darcy = PublicDarcy(folder=darcy_folder) if darcy_folder else Darcy()
    runs = list(variants(replace(darcy, epochs=_ABLATION_EPOCHS)))
    for problem in (Darcy(), NavierStokes(), SphericalShallowWater()):
        runs += forms(problem)
    for problem in {run.problem.name: run.problem for run in runs}.values():
        problem.load(output / "data")
    run_missing(runs, output, processes)
    table(output)


def cost(output: Path, repeats: int = 20) -> None:
    """Measure the time of a step of each network at the resolution of its training, one thread.

    Args:
        output: Folder of data, to which the times are written.
        repeats: Interleaved repeats; the median counts.
    """
    torch.set_num_threads(1)
    for problem in problems(False, None):
        data = problem.load(output / "data")
        state = torch.from_numpy(data["train"][0, :1])
        steps = {kind: _step(problem, kind, data, state) for kind in problem.kinds}
        seconds = median_seconds(steps, repeats)
        with replacing(output / f"cost_{problem.name}.json") as temporary:
            temporary.write_text(json.dumps({k: 1000 * s for k, s in seconds.items()}))
        console.print(problem.name, {k: f"{1000 * s:.2f} ms" for k, s in seconds.items()})
    console.print(describe())


def _step(problem: Problem, kind: str, data: Data, state: Tensor) -> Callable[[], Tensor]:
    run = Run(problem=problem, label=kind, kind=kind, seed=0)
    surrogate = surrogate_of(run, data).eval()
    return torch.inference_mode()(lambda: surrogate(state))


def table(output: Path) -> None:
    """Write ``table.md`` of all results so far, and show it.

    Args:
        output: Folder of the results.
    """
    lines = []
    for folder in sorted(path for path in output.iterdir() if any(path.glob("*_*.json"))):
        results = read_results(folder)
        costs = output / f"cost_{folder.name}.json"
        lines += [f"## {folder.name}", ""]
        if folder.name.startswith(("ablation_", "forms_")):
            lines += ablation_table(results)
        else:
            known = json.loads(costs.read_text()) if costs.exists() else {}
            lines += scores_table(results, known)
        lines += ["", results[0]["machine"], ""]
    with replacing(output / "table.md") as temporary:
        temporary.write_text("\n".join(lines))
    print("\n".join(lines))


def pictures(output: Path, images: Path) -> None:
    """Draw fields, predictions and errors of AFNO at each resolution, and their spectra.

    Args:
        output: Folder of data, weights and results.
        images: Folder for the pictures.
    """
    for problem in problems(False, None):
        draw(problem, output, images)


if __name__ == "__main__":
    auto_cli([run, ablation, cost, table, pictures], as_positional=False)
