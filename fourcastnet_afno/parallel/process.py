"""Processes that train together. No other module touches ``torch.distributed``.

``torchrun`` or ``srun`` starts the processes; a plain ``python`` is one process, and nothing is
initialized. Every process asks a small store, by a thread, whether another one has failed: a rank
that raises stops all of them with its message, even those that wait in a collective.

Several processes may share each field, see ``row_sharding``: they are neighbors by rank, and a
batch is distributed over such groups. Gradients are means over all processes, whether they share a
field or not.

Values are exchanged as tensors and JSON, never pickled.
"""
# pyright: reportPrivateImportUsage=false

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.cuda.nccl
import torch.distributed as dist
from torch import Tensor

from fourcastnet_afno.parallel.field_group import FieldGroup
from fourcastnet_afno.parallel.watchdog import POLL_SECONDS

Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Process:
    """One of the processes that train together. With one process everything is local.

    Args:
        rank: Rank of this process, from 0.
        world_size: Number of processes.
        local_rank: Rank of this process on its node.
        device: Device of its tensors.
        group: Processes that share the batches; all of them where it is None.
        spatial: Processes that share each field with this one; none where it is None.
        members: Processes that share the members of each window with this one, likewise.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    group: dist.ProcessGroup | None = field(default=None, repr=False, compare=False)
    store: dist.Store | None = field(default=None, repr=False, compare=False)
    spatial: "FieldGroup | None" = field(default=None, repr=False, compare=False)
    members: "FieldGroup | None" = field(default=None, repr=False, compare=False)

    @property
    def data_rank(self) -> int:
        """Rank of the group that shares windows with this process, among all groups."""
        return self.rank // self._num_sharing

    @property
    def data_size(self) -> int:
        """Number of such groups, over which each batch is distributed."""
        return self.world_size // self._num_sharing

    @property
    def _num_sharing(self) -> int:
        shared = self.spatial or self.members
        return shared.size if shared else 1

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and messages."""
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
        texts = torch.zeros(self.world_size, int(lengths.max()), dtype=torch.uint8)
        texts[self.rank, : len(text)] = text
        rows = self.reduce_sum(texts).cpu().numpy()
        return [
            json.loads(row[:length].tobytes())
            for row, length in zip(rows, lengths.tolist(), strict=True)
        ]

    def broadcast(self, value: Any) -> Any:  # noqa: ANN401
        """The value of the main process; anything that JSON can hold."""
        return self.gather(value if self.is_main else None)[0]

    def broadcast_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the main process, which alone has read them; empty in the others."""
        if self.world_size == 1:
            return dict(tensors)
        kinds = {k: [list(v.shape), str(v.dtype)] for k, v in tensors.items()}
        received = {}
        for name, (shape, dtype) in self.broadcast(kinds).items():
            kind = getattr(torch, dtype.removeprefix("torch."))
            value = tensors[name] if self.is_main else torch.empty(shape, dtype=kind)
            moved = value.to(self.device)
            dist.broadcast(moved, src=0)
            received[name] = moved.cpu()
        return received

    def main_first(self, name: str, function: Callable[[], Value]) -> Value:
        """Call ``function`` in the main process, however long it takes, then in the others.

        The ``name`` is that of a point of the program that a run passes once.
        """
        while self.store is not None and not self.is_main and not self.store.check([name]):
            time.sleep(POLL_SECONDS)  # A failure meanwhile ends this process.
        value = function()
        if self.store is not None and self.is_main:
            self.store.set(name, "done")
        return value


def nccl_version() -> str | None:
    """Version of NCCL, where torch has it."""
    if not (dist.is_available() and dist.is_nccl_available()):
        return None
    return ".".join(map(str, torch.cuda.nccl.version()))
