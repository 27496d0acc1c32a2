"""Medians of interleaved repeats, and the rate of matrix products of the machine."""

import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode


def median_seconds(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    device: str = "cpu",
    *,
    warm: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, and the first turn is not counted.

    With ``warm`` each call runs once untimed right before it is timed: the system may take back
    memory that was not used while the other calls had their turns. ``time.process_time`` as the
    ``clock`` leaves out the time of other programs, and adds up that of all threads.
    """
    seconds = median_seconds_by_clock(calls, repeats, {"": clock}, device, warm=warm)
    return {name: value for (name, _), value in seconds.items()}


def median_seconds_by_clock(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    clocks: Mapping[str, Callable[[], float]],
    device: str = "cpu",
    *,
    warm: bool = False,
) -> dict[tuple[str, str], float]:
    """``median_seconds`` of each call by each of several clocks that run at the same time."""
    times: dict[tuple[str, str], list[float]] = {(n, c): [] for n in calls for c in clocks}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            if warm:
                call()
            for clock, value in _seconds(call, device, clocks).items():
                times[name, clock].append(value)
    return {key: statistics.median(values[1:]) for key, values in times.items()}


def waiting_for(device: str) -> Callable[[], object]:
    """A function that waits until the device has finished its work; a CPU has always."""
    return torch.cuda.synchronize if device == "cuda" else lambda: None


def _seconds(
    call: Callable[[], object], device: str, clocks: Mapping[str, Callable[[], float]]
) -> dict[str, float]:
    synchronize = waiting_for(device)
    synchronize()
    started = {name: clock() for name, clock in clocks.items()}
    call()
    synchronize()
    return {name: clock() - started[name] for name, clock in clocks.items()}


def large_product(device: str = "cpu", dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """A product of large square matrices, to be timed between other calls."""
    size = _size(device)
    left, right = (torch.rand(size, size, device=device, dtype=dtype) for _ in range(2))
    return lambda: left @ right


def _size(device: str) -> int:
    return 2048 if device == "cpu" else 8192


def rate_of(seconds: float, device: str = "cpu") -> float:
    """Floating-point operations per second of a ``large_product``."""
    return 2 * _size(device) ** 3 / seconds


def count_operations(call: Callable[[], object]) -> float:
    """Floating-point operations of a call's matrix products; an FFT has none."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def describe(device: str = "cpu") -> str:
    """Hardware, versions, date and commit."""
    hardware = f"{torch.get_num_threads()} threads of {_processor()}"
    if device == "cuda":
        hardware = torch.cuda.get_device_name()
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{hardware}; {versions}; {time.strftime('%Y-%m-%d')}; commit {commit or 'unknown'}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
