"""Processes that train together. No other module touches ``torch.distributed``.

``torchrun`` or ``srun`` starts the processes; a plain ``python`` is one process, and nothing is
initialized. Every process asks a small store, by a thread, whether another one has failed: a rank
that raises stops all of them with its message, even those that wait in a collective.

Several processes may share each field, see ``bands``: they are neighbors by rank, and a batch is
shared by such groups. Gradients are means over all processes, whether they share a field or not.

Values are exchanged as tensors and JSON, never pickled.
"""
# pyright: reportPrivateImportUsage=false

import faulthandler
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from inspect import signature
from typing import Any, Literal, TypeVar

import torch
import torch.cuda.nccl
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from data_pipeline.errors import InputError
from fourcastnet_afno.bands import Cut
from fourcastnet_afno.placement import DeviceName, Placement, select_device

Parallel = Literal["ddp", "fsdp"]
Value = TypeVar("Value")
# The name since PyTorch 2.13, and before.
_SYNC_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in signature(DistributedDataParallel).parameters
    else "broadcast_buffers"
)
_POLL_SECONDS = 0.25
_FAREWELL_SECONDS = 3.0  # that the host of the store waits for others to read what has failed
_USER_ERROR = 2


class AgreedStop(Exception):
    """Raised by all ranks together: the others need not be told."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """One of the processes that train together. With one process everything is local.

    Args:
        rank: Of this process, from 0.
        world_size: Number of processes.
        local_rank: Of this process on its node.
        device: Where its tensors live.
        group: Processes that share the batches; all of them where it is None.
        spatial: Those of them that share each field with this one; none where it is None.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: dist.ProcessGroup | None = field(default=None, repr=False, compare=False)
    store: dist.Store | None = field(default=None, repr=False, compare=False)
    spatial: "FieldGroup | None" = field(default=None, repr=False, compare=False)

    @property
    def data_rank(self) -> int:
        """Of the processes that share a field with this one, among those that share a batch."""
        return self.rank // (self.spatial.size if self.spatial else 1)

    @property
    def data_size(self) -> int:
        """Number of such groups: parts of each batch."""
        return self.world_size // (self.spatial.size if self.spatial else 1)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def reduce_sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, as a new tensor; of the same shape everywhere."""
        if self.world_size == 1:
            return tensor.clone()
        total = tensor.to(self.device, copy=True)
        dist.all_reduce(total, group=self.group)
        return total.to(tensor.device)

    def reduce_mean(self, tensor: Tensor) -> Tensor:
        """The mean over all processes, as a new tensor; of the same shape everywhere."""
        return self.reduce_sum(tensor) / self.world_size

    def barrier(self) -> None:
        """Wait for all processes."""
        self.reduce_sum(torch.zeros(1))

    def gather(self, value: Any) -> list[Any]:  # noqa: ANN401
        """The value of every process, by rank; anything that JSON can hold."""
        if self.world_size == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.world_size, dtype=torch.int64)
        lengths[self.rank] = len(text)
        lengths = self.reduce_sum(lengths)
        everything = torch.zeros(self.world_size, int(lengths.max()), dtype=torch.uint8)
        everything[self.rank, : len(text)] = text
        rows = self.reduce_sum(everything).cpu().numpy()
        return [
            json.loads(row[:length].tobytes())
            for row, length in zip(rows, lengths.tolist(), strict=True)
        ]

    def broadcast(self, value: Any) -> Any:  # noqa: ANN401
        """The value of the main process; anything that JSON can hold."""
        return self.gather(value if self.is_main else None)[0]

    def share(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the main process, which alone has read them; empty in the others."""
        if self.world_size == 1:
            return dict(tensors)
        kinds = {k: [list(v.shape), str(v.dtype)] for k, v in tensors.items()}
        shared = {}
        for name, (shape, dtype) in self.broadcast(kinds).items():
            kind = getattr(torch, dtype.removeprefix("torch."))
            value = tensors[name] if self.is_main else torch.empty(shape, dtype=kind)
            moved = value.to(self.device)
            dist.broadcast(moved, src=0)
            shared[name] = moved.cpu()
        return shared

    def main_first(self, name: str, function: Callable[[], Value]) -> Value:
        """Call ``function`` in the main process, however long it takes, then in the others.

        Args:
            name: Of this point of the program, used once in a run.
            function: For example reads a file, which the main process also writes.
        """
        if self.store is None:
            return function()
        if self.is_main:
            value = function()
            self.store.set(name, "done")
            return value
        while not self.store.check([name]):  # A failure meanwhile ends this process.
            time.sleep(_POLL_SECONDS)
        return function()


class FieldGroup:
    """The processes that share a field, see ``bands.Exchange``.

    Args:
        group: Of these processes, by rank from north to south.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def transpose(self, tensor: Tensor, split: Cut, join: Cut) -> Tensor:
        """See ``bands.Exchange``."""
        parts = tensor.split(split.counts, dim=split.axis)
        shapes = []
        for count in join.counts:
            shape = list(parts[self.rank].shape)
            shape[join.axis] = count
            shapes.append(shape)
        outgoing, incoming = [p.numel() for p in parts], [math.prod(shape) for shape in shapes]
        received = tensor.new_empty(sum(incoming))
        sent = torch.cat([part.reshape(-1) for part in parts])
        dist.all_to_all_single(received, sent, incoming, outgoing, group=self._group)
        pieces = zip(received.split(incoming), shapes, strict=True)
        return torch.cat([piece.view(shape) for piece, shape in pieces], dim=join.axis)

    def sum(self, tensor: Tensor) -> Tensor:
        """See ``bands.Exchange``."""
        return _Sum.apply(tensor, self._group)

    def of_first(self, tensor: Tensor) -> Tensor:
        """See ``bands.Exchange``."""
        result = tensor.clone()
        dist.broadcast(result, group=self._group, group_src=0)
        return result


class _Sum(torch.autograd.Function):
    """The sum over processes; its adjoint is itself."""

    @staticmethod
    def forward(ctx, tensor, group):  # noqa: ANN001, ANN205 # pyright: ignore
        ctx.group = group
        return _summed(tensor, group)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *gradients):  # noqa: ANN001, ANN002, ANN205 # pyright: ignore
        return _summed(gradients[0], ctx.group), None


def _summed(tensor: Tensor, group: dist.ProcessGroup) -> Tensor:
    total = tensor.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total, group=group)
    return total


@contextmanager
def launched(
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
    place = Placement.from_environment(os.environ)
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
    watch = _Watch(place, timeout)
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
    except AgreedStop:
        _disconnect(watch)
        raise
    except BaseException as error:
        watch.announce(error)
        raise
    _disconnect(watch)


def _connect(place: Placement, device: torch.device, store: dist.Store, timeout: timedelta) -> None:
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


def field_group(size: int, timeout: timedelta) -> FieldGroup | None:
    """The processes that share a field with this one, ``size`` neighbors by rank; all must call."""
    if size == 1:
        return None
    first = dist.get_rank() // size * size
    # The groups need not wait for each other, which may be a thousand.
    group = dist.new_group(
        list(range(first, first + size)), timeout=timeout, use_local_synchronization=True
    )
    assert isinstance(group, dist.ProcessGroup)
    return FieldGroup(group)


def _disconnect(watch: "_Watch") -> None:
    watch.stop()
    dist.barrier()
    dist.destroy_process_group()


class _Watch:
    """Ends this process within a second after another one has failed.

    The main thread may wait in a collective that never ends, so that raising there is no way out.

    Args:
        place: Of this process.
        timeout: For joining.
    """

    def __init__(self, place: Placement, timeout: timedelta) -> None:
        self.rank, self._others = place.rank, place.world_size - 1
        self._hosts_store = place.rank == 0 and not place.agent_store
        first, second = (self._client(place, timeout, host) for host in (True, False))
        # A client blocks while it waits, so the watching thread has one of its own.
        self.base, self._own = first, second
        self.store = dist.PrefixStore("run", self.base)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _client(self, place: Placement, timeout: timedelta, may_host: bool) -> dist.Store:
        store = dist.TCPStore(
            place.address,
            place.port,
            is_master=may_host and self._hosts_store,
            wait_for_workers=False,
            timeout=timeout,
        )
        return dist.PrefixStore(f"fourcastnet_afno/{place.attempt}", store)

    def stop(self) -> None:
        """The work is done: from here on others may leave."""
        self._done.set()
        self._thread.join()

    def announce(self, error: BaseException) -> None:
        """Tell the others, and leave by force if the program does not end by itself."""
        self.stop()
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else 1
        else:
            code = _USER_ERROR if isinstance(error, InputError) else 1
        words = f"{type(error).__name__}: {error}" if code == 1 else str(error)
        note = json.dumps({"rank": self.rank, "words": words, "code": code})
        try:
            known = json.loads(self._own.compare_set("failed", "", note))
            self._part()
        except (RuntimeError, ValueError):  # The store is gone with its host: nobody listens.
            return
        faulthandler.dump_traceback_later(30, exit=True)
        if known["rank"] != self.rank:
            self._leave(known, silently=known["words"] == words)

    def _part(self) -> None:
        """Count this process as informed; the host of the store waits until all are."""
        informed = self._own.add("informed", 1)
        until = time.monotonic() + _FAREWELL_SECONDS
        while self._hosts_store and informed <= self._others and time.monotonic() < until:
            time.sleep(_POLL_SECONDS / 5)
            informed = self._own.add("informed", 0)

    def _run(self) -> None:
        while not self._done.wait(_POLL_SECONDS):
            try:
                if self._own.check(["failed"]):
                    note = json.loads(self._own.get("failed"))
                    self._part()
                    self._leave(note)
            except RuntimeError:
                if not self._done.is_set():
                    self._leave({"rank": 0, "words": "its store does not answer", "code": 1})

    def _leave(self, note: Mapping[str, Any], silently: bool = False) -> None:
        sys.stdout.flush()
        words = f"rank {self.rank} stops, because rank {note['rank']} failed: {note['words']}"
        if not silently:  # An error that all ranks have raised is told by one of them.
            sys.stderr.write(words + "\n")
        sys.stderr.flush()
        os._exit(note["code"])


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
        parallel: ``ddp`` keeps all weights everywhere, ``fsdp`` a part of them in each process.
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
    """As PyTorch's ``bf16_compress_hook``, which refuses gloo."""
    gradient = bucket.buffer()
    small = gradient.to(torch.bfloat16).div_(process.world_size)
    work = dist.all_reduce(small, group=process.group, async_op=True)
    assert work is not None
    return work.get_future().then(lambda done: gradient.copy_(done.value()[0]))


@contextmanager
def accumulating(module: nn.Module, last: bool) -> Iterator[None]:
    """Add up gradients in each process, and exchange them only in the ``last`` pass of a step."""
    if isinstance(module, DistributedDataParallel):
        with nullcontext() if last else module.no_sync():
            yield
        return
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.set_requires_gradient_sync(last, recurse=False)
    yield


def settle(module: nn.Module, backward: Callable[[], None]) -> None:
    """Let a wrapped module find the messages in which it exchanges gradients, once.

    DDP orders them anew after its first backward pass, or its second one with a static graph. A sum
    over three processes or more depends on where a gradient lies in its message: without this, the
    first steps of a run that goes on would have other roundings than those of an unbroken run.

    Args:
        module: By ``wrap``.
        backward: A forward and a backward pass through it, whose gradients are forgotten.
    """
    if isinstance(module, DistributedDataParallel):
        for _ in range(2):
            backward()
            module.zero_grad(set_to_none=True)


def nccl_version() -> str | None:
    """Version of NCCL, where torch has it."""
    if not (dist.is_available() and dist.is_nccl_available()):
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))


def full(tensor: Tensor) -> Tensor:
    """A tensor as a whole, where each process may hold a part; all processes must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def is_part(tensor: Tensor) -> bool:
    """Whether each process holds a part of a tensor."""
    return isinstance(tensor, DTensor)


def placed_as(target: Tensor, value: Tensor) -> Tensor:
    """Inverse of ``full``: a whole tensor, or the part of it that ``target`` would hold."""
    value = value.to(target.device)
    if isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements)
    return value
