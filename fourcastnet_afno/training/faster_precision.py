"""``training.precision: auto``: bfloat16 where it trains faster.

GPUs with products in bfloat16 take it. Of processors only those with instructions for it are
tried, where a few steps in each precision decide: bfloat16 halves the time of large products, and
small networks lose more by its conversions. The choice is kept in a checkpoint before the first
step, and a run that resumes takes it from there, on any machine.
"""

import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal, get_args

import torch

from data_pipeline.loading.windows import Sample
from data_pipeline.records import from_plain
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.objectives import Objective
from fourcastnet_afno.training.stages import StagePlan, WindowsOf

Chosen = Literal["float32", "bfloat16"]

_LEAST_GAIN = 0.05  # of the time of a step; less is within the noise of the measurement
_SECONDS = 1.0  # of a step that is measured
_REPEATS = 3
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")  # the last one is Arm's


def settle_precision(
    objective: Objective,
    windows: WindowsOf,
    config: TrainingConfig,
    folder: Path,
    process: Process,
    clock: Callable[[], float] = time.perf_counter,
) -> str | None:
    """Give an objective the precision that ``auto`` stands for; all processes must call.

    It is that of the checkpoint ``last`` in ``folder``, where there is one.

    Returns:
        What was chosen and why; None without ``auto``.
    """
    if config.precision != "auto":
        return None
    last, recorded = folder / "last.safetensors", None
    if process.is_main and last.exists():
        record = read_checkpoint(last, "none")[1].get("precision")
        recorded = from_plain(Chosen, record, "precision")
    chosen, why = process.broadcast(recorded), "as the run began"
    if chosen is None:
        objective.to(process.device)
        with closing(StagePlan(0, windows, config, process).training(0).epoch(0)) as samples:
            measured = faster_precision(objective, next(samples), process, clock)
        chosen, why = process.broadcast(measured)  # one clock decides
    objective.precision = chosen
    return f"precision: {chosen}, {why}"


def faster_precision(
    objective: Objective,
    sample: Sample,
    process: Process,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Chosen, str]:
    """The precision in which an objective trains faster on batches like ``sample``, and why."""
    device = process.device
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16", f"of which {name} has fast products"
        return "float32", f"as {name} computes bfloat16 in software"
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has none
    if not any(capabilities.get(name) for name in _INSTRUCTIONS):
        return "float32", "as the processor has no instructions for bfloat16"
    seconds = _measure(objective, sample, process, clock)
    gain = 1 - seconds["bfloat16"] / seconds["float32"]
    times = " and ".join(f"{value:.3g} s in {name}" for name, value in seconds.items())
    return "bfloat16" if gain > _LEAST_GAIN else "float32", f"as a step takes {times}"


def _measure(
    objective: Objective, sample: Sample, process: Process, clock: Callable[[], float]
) -> dict[Chosen, float]:
    """Seconds of forward and backward in each precision, the shortest of interleaved repeats."""
    before, times = objective.precision, dict[Chosen, list[float]]()

    def take_step(precision: Chosen, rows: int) -> float:
        objective.precision = precision
        started = clock()
        objective(sample.state[:rows], sample.forcing[:rows], sample.target[:rows]).sum().backward()
        return clock() - started

    objective.trained.train()
    with torch.random.fork_rng([]):  # from which dropout draws
        take_step("float32", 1)  # prepares what later ones find
        seconds = max(take_step("float32", 1), 1e-9)
        rows = min(len(sample.state), max(1, int(_SECONDS / seconds)))
        rows = process.broadcast(rows)  # processes may share the fields
        for precision in _REPEATS * get_args(Chosen):
            times.setdefault(precision, []).append(take_step(precision, rows))
    objective.precision = before
    objective.zero_grad(set_to_none=True)
    return {precision: min(measured) for precision, measured in times.items()}
