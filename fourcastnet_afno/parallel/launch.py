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
from fourcastnet_afno.parallel.environment import LaunchEnvironment, select_device
from fourcastnet_afno.parallel.field_group import field_group
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.watchdog import FailureWatchdog


class CollectiveStop(Exception):
    """Raised by all ranks together: the others need not be told."""


@contextmanager
def process_group(
    device: DeviceName = "auto", *, timeout_minutes: float = 10.0, spatial_ranks: int = 1
) -> Iterator[Process]:
    """Join the processes that this one was started with, until the block ends.

    Args:
        device: NCCL connects GPUs, gloo CPUs.
        timeout_minutes: How long a collective may take before it counts as failed.
        spatial_ranks: Number of processes that share each field.

    Raises:
        InputError: If the environment, the device or the number of processes does not fit.
    """
    place = LaunchEnvironment.from_environment(os.environ)
    if place.world_size % spatial_ranks:
        raise InputError(
            f"training.spatial_ranks={spatial_ranks} must divide the number of processes, got "
            f"{place.world_size}; start a multiple of {spatial_ranks} of them, as `torchrun "
            f"--nproc-per-node={spatial_ranks} -m fourcastnet_afno train ...`, or set it to 1"
        )
    if place.world_size == 1:
        yield Process(device=select_device(device, place))
        return
    place.require_address()
    timeout = timedelta(minutes=timeout_minutes)
    watch = FailureWatchdog(place, timeout)
    try:
        chosen = select_device(device, place)
        _connect(place, chosen, watch.base, timeout)
        yield Process(
            rank=place.rank,
            world_size=place.world_size,
            local_rank=place.local_rank,
            device=chosen,
            store=watch.store,
            spatial=field_group(spatial_ranks, timeout),
        )
    except CollectiveStop:
        _disconnect(watch)
        raise
    except BaseException as error:
        watch.announce(error)
        raise
    _disconnect(watch)


def _connect(
    place: LaunchEnvironment, device: torch.device, store: dist.Store, timeout: timedelta
) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore("group", store),
        rank=place.rank,
        world_size=place.world_size,
        timeout=timeout,
        device_id=device if device.type == "cuda" else None,
    )


def _disconnect(watch: FailureWatchdog) -> None:
    watch.stop()
    dist.barrier()
    dist.destroy_process_group()
