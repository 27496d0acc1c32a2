"""Facts about this machine, and the speed at which it loads and trains."""

import platform
import resource
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch

from data_pipeline.doctor.findings import Finding, finding, finding_from_error
from data_pipeline.errors import InputError
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.memory import available_memory, memory_limit
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.noise import append_noise
from fourcastnet_afno.inference.rollout import rollout
from fourcastnet_afno.losses.loss import area_weighted_mse
from fourcastnet_afno.parallel.environment import select_device
from fourcastnet_afno.parallel.process import nccl_version
from fourcastnet_afno.training.config import TrainingConfig

_SLOWEST_CPU = 2e10  # multiplications and additions in a second, of a small machine
_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time that the measurements of speed may take.

    Args:
        seconds: Length of each measurement.
        longest_step: Seconds that a training step is expected to take on a small CPU; a model
            that takes longer is not tried on a CPU.
    """

    seconds: float = 3.0
    longest_step: float = 20.0


def describe_machine() -> dict[str, Any]:
    """Processor, memory, accelerators, and the libraries that join them; values for JSON."""
    process = psutil.Process()
    usable = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None  # not on macOS
    gpus = []
    for index in range(torch.cuda.device_count()):
        properties, free = (
            torch.cuda.get_device_properties(index),
            torch.cuda.mem_get_info(index)[0],
        )
        capability = f"{properties.major}.{properties.minor}"
        memory = {"memory_bytes": properties.total_memory, "free_bytes": free}
        gpus.append({"name": properties.name, **memory, "compute_capability": capability})
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "num_cpus": len(usable) if usable else psutil.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "memory_bytes": memory_limit(),
        "available_memory_bytes": available_memory(),
        "open_files_allowed": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "torch_cuda": torch.version.cuda,
        "gpus": gpus,
        "nccl": nccl_version(),
    }


def _processor() -> str:
    """The processor's model, which psutil does not know and platform rarely does on Linux."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def check_device(config: TrainingConfig) -> list[Finding]:
    """Check that the configured device exists and suits the precision."""
    try:
        device = select_device(config.device)
    except InputError as error:
        return [finding_from_error("device", error, "training.device")]
    where, remedy = "training.precision", "Set training.precision=auto, which finds out."
    if config.precision != "bfloat16":
        return []
    if device.type == "cpu":
        message = "training here runs on the CPU, where bfloat16 is faster on some processors alone"
        return [finding("device", "info", message, where, remedy)]
    for index in range(torch.cuda.device_count()):
        if torch.cuda.get_device_capability(index)[0] < 8:
            message = f"{torch.cuda.get_device_name(index)} computes bfloat16 in software"
            return [finding("device", "warning", message, where, remedy)]
    return []


def check_batches(window_bytes: int, batch_size: int, available: int) -> list[Finding]:
    """Check that the batches that are read ahead fit into the available bytes of memory."""
    needed = 3 * batch_size * window_bytes
    if needed < 0.5 * available:
        return []
    what = f"batches read ahead take {needed / _GIB:.2f} of {available / _GIB:.2f} GiB of memory"
    severity = "error" if needed > available else "warning"
    remedy = "Lower training.batch_size or the num_steps of the stages."
    return [finding("memory", severity, what, "training.batch_size", remedy)]


def loader_rate(dataset: WindowDataset, config: TrainingConfig, seconds: float) -> float:
    """Measure the samples a second that the loader yields in shuffled order.

    The first batch is left out; data of one batch is read again and again.
    """
    device = select_device(config.device)
    size = min(config.batch_size, len(dataset))
    loader = Loader(dataset, size, seed=config.seed, shuffle=True, device=device)

    def batch_sizes() -> Generator[int]:
        epoch = 0
        while True:
            for sample in loader.epoch(epoch):
                yield len(sample.state)
            epoch += 1

    endless = batch_sizes()
    next(endless)
    started, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - started) < seconds:
        count += next(endless)
    endless.close()
    return count / elapsed


def expected_step_seconds(forecaster: Forecaster, num_steps: int) -> float:
    """Time of a training step of one window on a small CPU: 6 operations a weight and token."""
    weights = sum(parameter.numel() for parameter in forecaster.parameters())
    rows, columns = forecaster.config.network.token_grid(forecaster.network_grid.shape)
    return 6 * weights * rows * columns * num_steps / _SLOWEST_CPU


def training_step(
    forecaster: Forecaster, config: TrainingConfig, num_steps: int, size: int
) -> Callable[[], None]:
    """Build a training step of ``size`` random windows that leaves the weights as they are."""
    device, spec = forecaster.diff_std.device, forecaster.spec
    generator = torch.Generator().manual_seed(0)

    def draw(length: int, channels: int) -> torch.Tensor:
        shape = (size, length, channels, *spec.grid.shape)
        return torch.randn(shape, generator=generator).to(device)

    num_channels = len(spec.channels)
    state, target = draw(forecaster.config.num_history, num_channels), draw(num_steps, num_channels)
    forcing = append_noise(forecaster.noise, draw(num_steps, spec.num_step_fields))
    weights = torch.from_numpy(spec.grid.area_weights()).float().to(device)
    optimizer = torch.optim.AdamW(forecaster.parameters(), lr=0.0, fused=True)

    def step() -> None:
        enabled = config.precision == "bfloat16"
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            predictions = rollout(forecaster.train(), state, forcing.unbind(1), num_steps)
            losses = [
                area_weighted_mse(prediction, truth, weights, forecaster.diff_std)
                for prediction, truth in zip(predictions, target.unbind(1), strict=True)
            ]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).mean().backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def model_rate(
    forecaster: Forecaster,
    config: TrainingConfig,
    num_steps: int,
    timing: Timing,
    build_step: Callable[..., Callable[[], None]] = training_step,
) -> tuple[dict[str, Any], list[Finding]]:
    """Measure the samples a second that training steps take; the first step is left out.

    A model that would keep a CPU busy for long is not tried, for which ``samples_per_second`` is
    ``None``; on a CPU the batch is made smaller until a step is short.
    """
    device, size = select_device(config.device), config.batch_size
    facts: dict[str, Any] = {"device": str(device), "batch_size": size, "samples_per_second": None}
    if device.type == "cpu":
        expected = expected_step_seconds(forecaster, num_steps)
        if expected > timing.longest_step:
            what = "the model is too large to try on this CPU"
            remedy = "Run the doctor on the machine that trains."
            return facts, [finding("throughput", "info", what, "model", remedy)]
        size = facts["batch_size"] = max(1, min(size, int(timing.seconds / max(expected, 1e-9))))
    durations: list[float] = []
    try:
        step = build_step(forecaster.to(device), config, num_steps, size)
        step()
        while sum(durations) < timing.seconds and len(durations) < 20:
            started = time.perf_counter()
            step()
            durations.append(time.perf_counter() - started)
    except (torch.OutOfMemoryError, MemoryError) as error:
        what = f"a training step of {size} windows does not fit: {str(error).splitlines()[0]}"
        remedy = "Lower training.batch_size, or set model.network.checkpoint_activations=true."
        return facts, [finding("memory", "error", what, "training.batch_size", remedy)]
    facts["samples_per_second"] = size / median(durations)
    return facts, []


def judge_throughput(loader: float | None, model: float | None) -> list[Finding]:
    """Compare the samples a second that the loader yields with those that the model takes."""
    if loader is None or model is None or loader >= model:
        return []
    what = f"the loader yields {loader:.3g} samples/s and the model can use {model:.3g}: the "
    what += f"device waits {100 * (1 - loader / model):.0f} % of the time"
    remedy = "Put the store on a local disk, or in memory; until then a larger model costs nothing."
    return [finding("throughput", "warning", what, "data.store", remedy)]
