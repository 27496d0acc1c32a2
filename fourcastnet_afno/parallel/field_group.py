"""Processes that share the rows of each field, or the members of each window."""
# pyright: reportPrivateImportUsage=false

import math
from datetime import timedelta

import torch
import torch.cuda.nccl
import torch.distributed as dist
from torch import Tensor

from fourcastnet_afno.parallel.row_sharding import RowRange


class FieldGroup:
    """The processes that share a field, see ``row_sharding.Exchange``, or the members of a window.

    Args:
        group: Their process group, by rank from north to south, or from the first member on.
    """

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def transpose(self, tensor: Tensor, split: RowRange, join: RowRange) -> Tensor:
        """See ``row_sharding.Exchange``."""
        shards = tensor.split(split.counts, dim=split.axis)
        shape, axis = shards[self.rank].shape, join.axis
        shapes = [(*shape[:axis], count, *shape[axis + 1 :]) for count in join.counts]
        outgoing = [shard.numel() for shard in shards]
        incoming = [math.prod(shape) for shape in shapes]
        received = tensor.new_empty(sum(incoming))
        sent = torch.cat([shard.reshape(-1) for shard in shards])
        dist.all_to_all_single(received, sent, incoming, outgoing, group=self._group)
        flat = zip(received.split(incoming), shapes, strict=True)
        return torch.cat([values.view(shape) for values, shape in flat], dim=join.axis)

    def sum(self, tensor: Tensor) -> Tensor:
        """See ``row_sharding.Exchange``."""
        return _Sum.apply(tensor, self._group)

    def broadcast_from_first(self, tensor: Tensor) -> Tensor:
        """See ``row_sharding.Exchange``."""
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
