"""Choices that ``auto`` stands for in the settings of training: what is fastest on this machine.

``training.precision: auto`` is bfloat16 where it trains faster. GPUs with products in bfloat16 take
it. Of processors only those with instructions for it are tried, where a few steps in each precision
decide: bfloat16 halves the time of large products, and small networks lose more by conversions.

``training.num_threads: auto`` is the number of threads, of 1, 2, 4, ... and those that torch starts
with, in which a few steps take the least time: small networks spend more on waking many threads
than these save.

What is chosen is kept in a checkpoint before the first step, and a run that resumes takes it from
there, on any machine, as sums have other orders otherwise.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch

from data_pipeline.loading.windows import Sample
from data_pipeline.records import from_plain
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.training.config import TrainingConfig
from fourcastnet_afno.training.objectives import Objective
from fourcastnet_afno.training.stages import StagePlan, WindowsOf

Chosen = Literal["float32", "bfloat16"]
_Choice = TypeVar("_Choice", bound=str | int)

_LEAST_GAIN = 0.05  # of the time of a step; less is within the noise of a measurement
_SECONDS = 1.0  # of a step that is measured
_REPEATS = 3
_INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "bf16")  # the last one is Arm's


def settle(
    objective: Objective,
    windows: WindowsOf,
    config: TrainingConfig,
    folder: Path,
    process: Process,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, Any], list[str]]:
    """Replace ``auto`` in precision and number of threads; all processes must call.

    The values are those of the checkpoint ``last`` in ``folder``, where there is one. The precision
    becomes that of the objective, the number of threads that of torch in this process.

    Returns:
        What checkpoints must record beside the precision, and what was chosen and why.
    """
    last, record = folder / "last.safetensors", dict[str, Any]()
    told, kept = list[str](), dict[str, Any]()
    if "auto" in (config.precision, config.num_threads):
        if process.is_main and last.exists():
            record = read_checkpoint(last, "none")[1]
        record = process.broadcast(record)

    def measured(measure: Callable[..., tuple[_Choice, str]]) -> tuple[_Choice, str]:
        objective.to(process.device)
        with closing(StagePlan(0, windows, config, process).training(0).epoch(0)) as samples:
            return process.broadcast(measure(objective, next(samples), process, clock))

    if config.precision == "auto":
        known = from_plain(Chosen, record.get("precision"), "precision") if record else None
        precision, why = (known, "as the run began") if known else measured(faster_precision)
        objective.precision = precision
        told.append(f"precision: {precision}, {why}")
    if config.num_threads == "auto":
        began = from_plain(int | None, record.get("num_threads"), "num_threads")
        count, why = (began, "as the run began") if began else measured(fastest_threads)
        torch.set_num_threads(count)
        kept["num_threads"] = count
        told.append(f"threads: {count}, {why}")
    elif config.num_threads is not None:
        torch.set_num_threads(config.num_threads)
    return kept, told


@contextmanager
def threads_kept() -> Iterator[None]:
    """Give torch the number of threads back that it had before."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


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

    def choose(precision: Chosen) -> None:
        objective.precision = precision

    before = objective.precision
    seconds = _measure(objective, sample, process, clock, get_args(Chosen), choose)
    objective.precision = before
    gain = 1 - seconds["bfloat16"] / seconds["float32"]
    times = " and ".join(f"{value:.3g} s in {name}" for name, value in seconds.items())
    return "bfloat16" if gain > _LEAST_GAIN else "float32", f"as a step takes {times}"


def fastest_threads(
    objective: Objective,
    sample: Sample,
    process: Process,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[int, str]:
    """The number of threads in which an objective trains fastest on batches, and why.

    Fewer than torch starts with are chosen where they save more than a measurement is off.
    """
    most = torch.get_num_threads()
    if process.device.type != "cpu" or most == 1:
        return most, "as there is one" if most == 1 else "as the network is not on the processor"
    counts = [most, *(2**power for power in range(most.bit_length()) if 2**power < most)]
    with threads_kept():
        seconds = _measure(objective, sample, process, clock, counts, torch.set_num_threads)
    best = min(counts, key=lambda count: seconds[count])
    times = " and ".join(f"{value:.3g} s in {count}" for count, value in sorted(seconds.items()))
    return best if seconds[best] < (1 - _LEAST_GAIN) * seconds[most] else most, f"of {times}"


def _measure(
    objective: Objective,
    sample: Sample,
    process: Process,
    clock: Callable[[], float],
    choices: Sequence[_Choice],
    choose: Callable[[_Choice], None],
) -> dict[_Choice, float]:
    """Seconds of forward and backward by each choice, the shortest of interleaved repeats."""
    times = dict[_Choice, list[float]]()

    def take_step(choice: _Choice, rows: int) -> float:
        choose(choice)
        started = clock()
        objective(sample.state[:rows], sample.forcing[:rows], sample.target[:rows]).sum().backward()
        return clock() - started

    objective.trained.train()
    with torch.random.fork_rng([]):  # from which dropout draws
        take_step(choices[0], 1)  # prepares what later ones find
        seconds = max(take_step(choices[0], 1), 1e-9)
        rows = min(len(sample.state), max(1, int(_SECONDS / seconds)))
        rows = process.broadcast(rows)  # processes may share the fields
        for choice in _REPEATS * list(choices):
            times.setdefault(choice, []).append(take_step(choice, rows))
    objective.zero_grad(set_to_none=True)
    return {choice: min(measured) for choice, measured in times.items()}
