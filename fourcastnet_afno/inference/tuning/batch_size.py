"""``forecast.batch_size: auto``: as many forecasts together as this machine steps fastest.

A few steps of batches of doubling size decide in the first seconds. The size is recorded with the
forecasts, as a batch of another size has other roundings: a forecast that resumes takes it from
there, on any machine.
"""

import math
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from data_pipeline.bounds import Count
from data_pipeline.errors import InputError
from data_pipeline.records import from_plain
from fourcastnet_afno.forecaster.boundaries import with_boundary
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.inference.rollout import Stepper
from fourcastnet_afno.parallel.environment import memory_of

_LEAST_GAIN = 0.03  # of the time of a forecast's step; less is within the noise of the measurement
_LARGEST = 1024
_REPEATS = 8
_ALL_SECONDS = 5.0
_SECONDS = 1.0  # of a step, beyond which no larger batch is tried
_MEMORY_SHARE = 0.5  # of the device's memory, for a step


class Measured(NamedTuple):
    """Seconds of a step of each forecast in batches of a size."""

    size: int
    seconds: float


def settle_batch_size(
    config: ForecastConfig,
    stepper: Stepper,
    init_times: np.ndarray,
    recorded: Mapping[str, Any],
    *,
    world_size: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[ForecastConfig, str | None]:
    """Settings with the batch size that ``auto`` stands for.

    Args:
        config: Which forecasts.
        stepper: The forecaster, on its device.
        init_times: Initial times (datetime64).
        recorded: What is known of the forecast that would be resumed, see ``recorded_provenance``.
        world_size: Processes that share the forecasts.
        clock: Seconds.

    Returns:
        The settings, and what was chosen and why; None without ``auto``.

    Raises:
        InputError: If several processes would have to agree.
    """
    if config.batch_size != "auto":
        return config, None
    size = recorded.get("forecast.batch_size", recorded.get("batch_size"))
    if size is not None:
        size = from_plain(Count, int(size) if str(size).isdecimal() else size, "batch_size")
        why = "as the forecast began"
    elif world_size > 1:
        raise InputError(
            f"forecast.batch_size=auto is measured by one process, here are {world_size}; set a "
            "number, such as 16",
            code="bad-setting",
        )
    else:
        members = len(config.ensemble.numbers)
        measured = measure(config, stepper, init_times, even_sizes(len(init_times), members), clock)
        best = fastest(measured)
        size, first = best.size, measured[0]
        why = f"as a step of each takes {1e3 * best.seconds:.3g} ms"
        if first.size != size:
            why += f", {1e3 * first.seconds:.3g} ms in batches of {first.size}"
    return replace(config, batch_size=size), f"forecast.batch_size: {size}, {why}"


def even_sizes(num_inits: int, num_members: int) -> list[int]:
    """Sizes of batches that divide all forecasts evenly, about doubling.

    They are equal shares of the members of an initial time, or of the initial times with all
    members.
    """
    sizes = []
    for power in range(_LARGEST.bit_length()):
        size = 2**power
        if size < num_members:
            even = math.ceil(num_members / math.ceil(num_members / size))
        else:
            inits = min(size // num_members, num_inits)
            even = num_members * math.ceil(num_inits / math.ceil(num_inits / inits))
        sizes.append(even)
    return sorted(set(sizes))


def fastest(measured: Sequence[Measured]) -> Measured:
    """The smallest batch whose forecasts step about as fast as those of any."""
    least = min(each.seconds for each in measured)
    return next(each for each in measured if each.seconds * (1 - _LEAST_GAIN) <= least)


def measure(
    config: ForecastConfig,
    stepper: Stepper,
    init_times: np.ndarray,
    sizes: Sequence[int],
    clock: Callable[[], float],
) -> list[Measured]:
    """Measure batches of increasing sizes, as far as time and memory allow.

    Steps of all sizes take turns, and the shortest of each counts: what else runs on the machine
    slows down all of them.
    """
    device, memory, started = stepper.scales.mean.device, list[int](), clock()
    steps, seconds = dict[int, Callable[[], float]](), dict[int, float]()
    for size in sizes:
        steps[size] = partial(_seconds_of_step, config, stepper, init_times, size, clock)
        try:
            seconds[size] = min(steps[size]() for _ in range(2))  # the first one prepares
        except torch.OutOfMemoryError:
            if not seconds:
                raise
            break
        memory.append(peak_memory(device))
        # The next one has about twice the size.
        grown = memory[-1] + 2 * (memory[-1] - memory[0])
        is_slower = seconds[size] / size > 1.5 * min(s / n for n, s in seconds.items())
        if is_slower or seconds[size] > _SECONDS or grown > _MEMORY_SHARE * memory_of(device):
            break
    for _ in range(_REPEATS):
        for size in seconds:
            if clock() - started < _ALL_SECONDS:
                seconds[size] = min(seconds[size], steps[size]())
    return [Measured(size, max(value, 1e-9) / size) for size, value in seconds.items()]


def _seconds_of_step(
    config: ForecastConfig,
    stepper: Stepper,
    init_times: np.ndarray,
    size: int,
    clock: Callable[[], float],
) -> float:
    """Seconds of a step of ``size`` forecasts from the mean state."""
    mean, spec = stepper.scales.mean, stepper.spec
    shape = size, stepper.num_history, len(spec.channels), *spec.grid.shape
    state, forcing = mean.expand(shape).contiguous(), _forcing(stepper, init_times, size)
    use_bfloat16 = config.precision == "bfloat16"
    with (
        torch.inference_mode(),
        torch.autocast(mean.device.type, torch.bfloat16, enabled=use_bfloat16),
    ):
        _wait_for(mean.device)
        started = clock()
        stepper(state, forcing)
        _wait_for(mean.device)
    return clock() - started


def _forcing(stepper: Stepper, init_times: np.ndarray, size: int) -> Tensor:
    forcing = stepper.forcing_at(init_times[:1])
    if stepper.spec.boundary_width:
        forcing = with_boundary(
            forcing, stepper.scales.mean.expand(1, -1, *stepper.spec.grid.shape)
        )
    if isinstance(stepper, Forecaster) and stepper.noise is not None:
        noise = forcing.new_zeros(1, stepper.noise.num_channels, *forcing.shape[2:])
        forcing = torch.cat([forcing, noise], dim=1)
    return forcing.expand(size, -1, -1, -1)


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
