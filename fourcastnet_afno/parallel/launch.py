"""Joining the processes that ``torchrun`` or ``srun`` started."""
# pyright: reportPrivateImportUsage=false

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.cuda.nccl
import torch.distributed as dist

from data_pipeline.errors import InputError
from fourcastnet_afno.parallel.config import DeviceName
from fourcastnet_afno.parallel.environment import CollectiveStop, LaunchEnvironment, select_device
from fourcastnet_afno.parallel.field_group import field_group
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.watchdog import FailureWatchdog


@contextmanager
def process_group(
    device: DeviceName = "auto",
    *,
    timeout_minutes: float = 10.0,
    spatial_ranks: int = 1,
    member_ranks: int = 1,
) -> Iterator[Process]:
    """Join the processes that this one was started with, until the block ends.

    Args:
        device: NCCL connects GPUs, gloo CPUs.
        timeout_minutes: How long a collective may take before it counts as failed.
        spatial_ranks: Number of processes that share each field.
        member_ranks: Number of processes that share the members of each window.

    Raises:
        InputError: If the environment, the device or the number of processes does not fit.
    """
    environment = LaunchEnvironment.from_environment(os.environ)
    for name, size in (("spatial_ranks", spatial_ranks), ("member_ranks", member_ranks)):
        if environment.world_size % size:
            raise InputError(
                f"training.{name}={size} must divide the number of processes, got "
                f"{environment.world_size}; use `torchrun --nproc-per-node={size} -m "
                "fourcastnet_afno train ...` or set it to 1",
                code="bad-setting",
            )
    if environment.world_size == 1:
        yield Process(device=select_device(device, environment))
        return
    environment.require_address()
    timeout = timedelta(minutes=timeout_minutes)
    watchdog = FailureWatchdog(environment, timeout)
    try:
        chosen = select_device(device, environment)
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group(
            "nccl" if chosen.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", watchdog.base),
            rank=environment.rank,
            world_size=environment.world_size,
            timeout=timeout,
            device_id=chosen if chosen.type == "cuda" else None,
        )
        watchdog.connect()
        yield Process(
            rank=environment.rank,
            world_size=environment.world_size,
            local_rank=environment.local_rank,
            device=chosen,
            store=watchdog.store,
            spatial=field_group(spatial_ranks, timeout),
            members=field_group(member_ranks, timeout),
        )
    except CollectiveStop:
        _disconnect(watchdog)
        raise
    except BaseException as error:
        watchdog.announce(error)
        raise
    _disconnect(watchdog)


def _disconnect(watchdog: FailureWatchdog) -> None:
    watchdog.stop()
    dist.barrier()
    watchdog.close()
    dist.destroy_process_group()
