"""What this machine is, and how fast it loads and trains."""

import os
import platform
import resource
import time
from collections.abc import Callable, Generator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from data_pipeline import Loader
from data_pipeline.doctor.findings import Finding, finding
from data_pipeline.errors import InputError
from data_pipeline.loading.windows import WindowDataset
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.losses.loss import area_weighted_mse
from fourcastnet_afno.parallel.environment import select_device
from fourcastnet_afno.parallel.process import nccl_version
from fourcastnet_afno.training.config import TrainingConfig

_SECONDS = 3.0  # of each measurement
_SLOWEST_CPU = 2e10  # multiplications and additions in a second, of a small machine
_LONGEST_STEP = 20.0  # seconds, expected of that machine; longer steps are not tried
_GIB = 2**30


def describe_machine() -> dict[str, Any]:
    """Processor, memory, accelerators, and the libraries that join them; plain values."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": memory_limit(),
        "available_memory_bytes": available_memory(),
        "open_files_allowed": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "torch_cuda": torch.version.cuda,
        "gpus": [_gpu(index) for index in range(torch.cuda.device_count())],
        "nccl": nccl_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_limit() -> int:
    """Bytes of memory of the machine, or of the control group that this process is in."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(total, int(text)) if text.isdigit() else total


def available_memory() -> int:
    """Bytes of memory that can be had without swapping."""
    info = Path("/proc/meminfo")
    if not info.exists():
        return memory_limit()
    fields = dict(line.split(":", 1) for line in info.read_text().splitlines())
    return min(memory_limit(), 1024 * int(fields["MemAvailable"].split()[0]))


def _gpu(index: int) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(index)
    free, _ = torch.cuda.mem_get_info(index)
    return {
        "name": properties.name,
        "memory_bytes": properties.total_memory,
        "free_bytes": free,
        "compute_capability": f"{properties.major}.{properties.minor}",
    }


def check_device(config: TrainingConfig) -> list[Finding]:
    """Whether the device of the configuration is there and suits the precision."""
    try:
        device = select_device(config.device)
    except InputError as error:
        return [
            finding(
                "device",
                "error",
                str(error).split("; ")[0],
                "training.device",
                "Use a machine with a GPU, or set training.device=cpu.",
            )
        ]
    if device.type == "cpu" and config.precision == "bfloat16":
        return [
            finding(
                "device",
                "info",
                "bfloat16 is configured and training here runs on the CPU, where it "
                "is rarely faster",
                "training.precision",
                "Set training.precision=float32 for the CPU.",
            )
        ]
    if device.type == "cuda" and config.precision == "bfloat16":
        weak = [i for i in range(torch.cuda.device_count()) if _capability(i) < 8]
        if weak:
            return [
                finding(
                    "device",
                    "warning",
                    f"{torch.cuda.get_device_name(weak[0])} computes bfloat16 in software",
                    "training.precision",
                    "Set training.precision=float32.",
                )
            ]
    return []


def _capability(index: int) -> int:
    return torch.cuda.get_device_capability(index)[0]


def check_batches(window_bytes: int, batch_size: int, available: int) -> list[Finding]:
    """Whether the batches that are read ahead fit into memory.

    Args:
        window_bytes: Of the states of a window.
        batch_size: Windows in a batch.
        available: Bytes of memory.
    """
    needed = 3 * batch_size * window_bytes
    if needed < 0.5 * available:
        return []
    return [
        finding(
            "memory",
            "error" if needed > available else "warning",
            f"the batches that are read ahead take {needed / _GIB:.2f} GiB of "
            f"{available / _GIB:.2f} GiB of memory",
            "training.batch_size",
            "Lower training.batch_size or the num_steps of the stages.",
        )
    ]


def loader_rate(dataset: WindowDataset, config: TrainingConfig) -> float | None:
    """Samples a second that the loader gives in shuffled order, measured for a few seconds.

    The first batch is left out; ``None`` where the data has only one.
    """
    device = select_device(config.device)
    size = min(config.batch_size, len(dataset))
    loader = Loader(dataset, size, seed=config.seed, shuffle=True, device=device)

    def batches() -> Generator[int]:
        epoch = 0
        while True:
            for sample in loader.epoch(epoch):
                yield len(sample.state)
            epoch += 1

    endless = batches()
    next(endless)
    started, count = time.perf_counter(), 0
    while (seconds := time.perf_counter() - started) < _SECONDS:
        count += next(endless)
    endless.close()
    return count / seconds


def expected_step_seconds(forecaster: Forecaster, num_steps: int) -> float:
    """Time of a training step of one window on a small CPU: 6 operations a weight and token."""
    weights = sum(parameter.numel() for parameter in forecaster.parameters())
    rows, columns = forecaster.config.network.token_grid(forecaster.network_grid.shape)
    return 6 * weights * rows * columns * num_steps / _SLOWEST_CPU


def model_rate(
    forecaster: Forecaster, config: TrainingConfig, num_steps: int
) -> tuple[dict[str, Any], list[Finding]]:
    """Samples a second that a training step takes, measured with random states.

    A model that would keep a CPU busy for long is not tried; on a CPU the batch is made smaller
    until a step is short.

    Args:
        forecaster: With any weights.
        config: Batch size, precision and device.
        num_steps: Steps of the rollout that is trained.

    Returns:
        samples_per_second (``None`` where it was not measured), batch_size and device; findings.
    """
    device, size = select_device(config.device), config.batch_size
    expected = expected_step_seconds(forecaster, num_steps)
    facts: dict[str, Any] = {"device": str(device), "batch_size": size, "samples_per_second": None}
    if device.type == "cpu":
        if expected > _LONGEST_STEP:
            return facts, [
                finding(
                    "throughput",
                    "info",
                    "the model is too large to try on this CPU",
                    "model",
                    "Run the doctor on the machine that trains.",
                )
            ]
        size = facts["batch_size"] = max(1, min(size, int(_SECONDS / max(expected, 1e-9))))
    try:
        seconds = _step_seconds(forecaster.to(device), config, num_steps, size)
    except (torch.OutOfMemoryError, MemoryError) as error:
        what = f"a training step of {size} windows does not fit: {str(error).splitlines()[0]}"
        return facts, [
            finding(
                "memory",
                "error",
                what,
                "training.batch_size",
                "Lower training.batch_size, or set model.network.checkpoint_activations=true.",
            )
        ]
    facts["samples_per_second"] = size / seconds
    return facts, []


def _step_seconds(
    forecaster: Forecaster, config: TrainingConfig, num_steps: int, size: int
) -> float:
    """Median time of a step, after one to warm up."""
    step = _training_step(forecaster, config, num_steps, size)
    step()
    seconds: list[float] = []
    while sum(seconds) < _SECONDS and len(seconds) < 20:
        started = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - started)
    return median(seconds)


def _training_step(
    forecaster: Forecaster, config: TrainingConfig, num_steps: int, size: int
) -> Callable[[], None]:
    device, spec = forecaster.diff_std.device, forecaster.spec
    generator = torch.Generator().manual_seed(0)
    fields = (len(spec.channels), *spec.grid.shape)

    def draw(*leading: int, channels: int = fields[0]) -> torch.Tensor:
        shape = (size, *leading, channels, *spec.grid.shape)
        return torch.randn(shape, generator=generator).to(device)

    state, target = draw(forecaster.config.num_history), draw(num_steps)
    forcing = draw(num_steps, channels=len(spec.forcings))
    weights = torch.from_numpy(spec.grid.area_weights()).float().to(device)
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=0.0, fused=True)

    def step() -> None:
        enabled = config.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            steps = rollout(forecaster.train(), state, forcing.unbind(1), num_steps)
            losses = [
                area_weighted_mse(prediction, truth, weights, forecaster.diff_std)
                for prediction, truth in zip(steps, target.unbind(1), strict=True)
            ]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).mean().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def judge_throughput(loader: float | None, model: float | None) -> list[Finding]:
    """Compare what the loader gives with what the model takes, in samples a second."""
    if loader is None or model is None or loader >= model:
        return []
    return [
        finding(
            "throughput",
            "warning",
            f"the loader gives {loader:.3g} samples/s and the model can use {model:.3g}: the "
            f"device waits {100 * (1 - loader / model):.0f} % of the time",
            "data.store",
            "Put the store on a local disk, or in memory; a larger model or longer rollouts cost "
            "nothing until then.",
        )
    ]
