"""Modules whose gradients are means over all processes: DDP and FSDP2."""
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch
import torch.cuda.nccl
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from fourcastnet_afno.parallel.config import Parallel
from fourcastnet_afno.parallel.process import Process

# The name since PyTorch 2.13, and before.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)


def wrap(
    module: nn.Module,
    process: Process,
    parallel: Parallel,
    *,
    shards: Sequence[nn.Module] = (),
    static_graph: bool = False,
    compress_gradients: bool = False,
) -> nn.Module:
    """Make the gradients of a module the mean over all processes.

    Args:
        module: Its forward pass gives the loss of this process; its weights are the same in all.
        process: This process; one alone needs no wrapping.
        parallel: ``ddp`` keeps all weights everywhere, ``fsdp`` a shard of them in each process.
        shards: Submodules whose weights ``fsdp`` gathers together, inner ones before outer ones.
        static_graph: Whether every step uses the same weights in the same way.
        compress_gradients: Whether ``ddp`` sends gradients as bfloat16.
    """
    if process.world_size == 1:
        return module
    if parallel == "fsdp":
        mesh = init_device_mesh(process.device.type, (process.world_size,))
        for shard in shards:
            # Weights that stayed gathered after a pass could be neither averaged nor saved.
            fully_shard(shard, mesh=mesh, reshard_after_forward=True)
        return module
    buffers: dict[str, Any] = {_SYNC_BUFFERS: False}
    wrapped = DistributedDataParallel(
        module,
        device_ids=[process.device] if process.device.type == "cuda" else None,
        process_group=process.group,
        gradient_as_bucket_view=True,
        static_graph=static_graph,
        # Weights are the same everywhere; buffers may be those of the rows of a process.
        init_sync=process.spatial is None,
        **buffers,
    )
    if compress_gradients:
        wrapped.register_comm_hook(process, _mean_in_bfloat16)
    return wrapped


def _mean_in_bfloat16(
    process: Process, bucket: dist.GradBucket
) -> torch.futures.Future[torch.Tensor]:
    """PyTorch's ``bf16_compress_hook``, which rejects gloo, for any backend."""
    gradient = bucket.buffer()
    small = gradient.to(torch.bfloat16).div_(process.world_size)
    work = dist.all_reduce(small, group=process.group, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: gradient.copy_(done.value()[0]))


@contextmanager
def sync_gradients(module: nn.Module, last: bool) -> Iterator[None]:
    """Add up gradients in each process, and exchange them only in the ``last`` pass of a step."""
    if isinstance(module, DistributedDataParallel):
        with nullcontext() if last else module.no_sync():
            yield
        return
    for submodule in module.modules():
        if isinstance(submodule, FSDPModule):
            submodule.set_requires_gradient_sync(last, recurse=False)
    yield


def rebuild_ddp_buckets(module: nn.Module, backward: Callable[[], None]) -> None:
    """Let a wrapped module find the messages in which it exchanges gradients, once.

    DDP orders them anew after its first backward pass, or its second one with a static graph. A sum
    over three processes or more depends on where a gradient lies in its message: without this, the
    first steps of a resumed run would have other roundings than those of an unbroken run.

    The ``backward`` is a forward and a backward pass through it, whose gradients are forgotten.
    """
    if isinstance(module, DistributedDataParallel):
        for _ in range(2):
            backward()
            module.zero_grad(set_to_none=True)


def gather_dtensor(tensor: Tensor) -> Tensor:
    """The full tensor, of which each process may hold a shard; all processes must call."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a shard of a tensor."""
    return isinstance(tensor, DTensor)


def shard_like(target: Tensor, value: Tensor) -> Tensor:
    """Inverse of ``gather_dtensor``: a full tensor, or the shard of it that ``target`` holds."""
    value = value.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements)
    return value
