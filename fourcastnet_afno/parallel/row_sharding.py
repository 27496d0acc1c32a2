"""Row sharding: a field whose rows are distributed over processes, neighboring rows in each.

Every layer of the network but the mixer treats patches by themselves. The mixer's transform along
longitude takes whole rows; then an all-to-all exchange turns

    my rows, all zonal wavenumbers    into    all rows, my zonal wavenumbers,

so that the transform along latitude and the perceptron, which treats wavenumbers by themselves, are
local again; the same exchange leads back. Sums over a field, such as a loss, are added up over the
processes. Communication is behind ``Exchange``: this module knows tensors only.

A loss is the same on all processes of a field, and gradients are those of its mean over them: the
backward pass of each operation is its adjoint over all processes together.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Exchange(Protocol):
    """Communication of the processes that share a field; all of them must call."""

    rank: int  # of this process among them, from north to south
    size: int

    def transpose(self, tensor: Tensor, split: "RowRange", join: "RowRange") -> Tensor:
        """Distribute the axis of ``split``, complete here, and collect that of ``join``.

        The adjoint, and the inverse, is the same with ``split`` and ``join`` swapped.
        """
        ...

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes, in all of them; it has a gradient."""
        ...

    def broadcast_from_first(self, tensor: Tensor) -> Tensor:
        """The tensor of the first process."""
        ...


@dataclass(frozen=True)
class RowRange:
    """An axis of a tensor that is distributed over processes.

    Args:
        axis: Number of the axis.
        counts: How many of its entries each process has, in order.
    """

    axis: int
    counts: tuple[int, ...]

    def slice_of(self, rank: int) -> slice:
        """The entries of a process."""
        start = sum(self.counts[:rank])
        return slice(start, start + self.counts[rank])


def balanced_counts(total: int, size: int) -> tuple[int, ...]:
    """Entries by process, of ``total``; no two counts differ by more than one."""
    edges = [total * rank // size for rank in range(size + 1)]
    return tuple(b - a for a, b in itertools.pairwise(edges))


@dataclass(frozen=True)
class RowPartition:
    """How the rows of a field are distributed: full patches for each process.

    Args:
        num_rows: Rows of the field.
        padding: Rows added above and below the field.
        patch_rows: Rows of a patch.
        size: Number of processes.
        mirrored: Whether the rows that are added are those of the field, mirrored at its edges.

    Raises:
        ValueError: If a process would hold fewer than two rows of the field, or fewer than it needs
            to mirror.
    """

    num_rows: int
    padding: tuple[int, int]
    patch_rows: int
    size: int
    mirrored: bool = False

    def __post_init__(self) -> None:
        fewest = min(rows.stop - rows.start for rows in self.rows)
        if fewest < 2:
            patches = sum(self.token_rows)
            raise ValueError(
                f"{self.size} processes that share {self.num_rows} rows, {patches} patches high "
                f"with their padding, would leave one of them {fewest}, and each needs 2"
            )
        if self.mirrored:
            first, last = self.rows[0], self.rows[-1]
            edges = zip((first, last), self.padding, strict=True)
            if any(rows.stop - rows.start <= padding for rows, padding in edges):
                raise ValueError(
                    f"padding.latitude=reflect mirrors {self.padding} rows at the edges, and the "
                    f"processes there hold {first.stop - first.start} and {last.stop - last.start} "
                    "rows; use padding.latitude=zero"
                )

    @property
    def token_rows(self) -> tuple[int, ...]:
        """Rows of patches of each process."""
        return balanced_counts((self.num_rows + sum(self.padding)) // self.patch_rows, self.size)

    @property
    def rows(self) -> list[slice]:
        """Rows of the field of each process."""
        edges = itertools.accumulate(self.token_rows, initial=0)
        inside = [
            min(max(edge * self.patch_rows - self.padding[0], 0), self.num_rows) for edge in edges
        ]
        return [slice(a, b) for a, b in itertools.pairwise(inside)]


@dataclass(frozen=True)
class AllRows:
    """All rows of a field are in this process, which is the usual case; see ``ShardedRows``."""

    is_sharded: ClassVar = False
    field_slice: ClassVar = slice(None)
    token_slice: ClassVar = slice(None)

    def full_shape(self, shape: Sequence[int]) -> list[int]:
        """The shape as it is."""
        return list(shape)

    def edge_padding(self, num_rows: int, padding: tuple[int, int]) -> tuple[int, int]:
        """The padding of the field, above and below."""
        return padding

    def mean(self, values: Float[Tensor, "*lead lat lon"]) -> Float[Tensor, "*lead"]:
        """Mean over the field."""
        return values.mean(dim=(-2, -1))

    def norm(self, values: Float[Tensor, "*lead lat lon"], dims: Sequence[int]) -> Tensor:
        """Euclidean norm over ``dims``."""
        return torch.linalg.vector_norm(values, dim=tuple(dims))

    def gather(self, field: Float[Tensor, "*lead lat lon"]) -> Float[Tensor, "*lead lat lon"]:
        """The field as it is."""
        return field

    def sum(self, tensor: Tensor) -> Tensor:
        """The value of this process alone."""
        return tensor

    def broadcast_from_first(self, tensor: Tensor) -> Tensor:
        """The value of this process alone."""
        return tensor


@dataclass(frozen=True)
class ShardedRows:
    """Some neighboring rows of a field are in this process, the others in other processes.

    Args:
        partition: How all rows are distributed.
        exchange: With the processes that hold the others.
    """

    partition: RowPartition
    exchange: Exchange

    is_sharded: ClassVar = True

    @property
    def field_slice(self) -> slice:
        """Rows of the field."""
        return self.partition.rows[self.exchange.rank]

    @property
    def token_slice(self) -> slice:
        """Rows of patches."""
        return RowRange(0, self.partition.token_rows).slice_of(self.exchange.rank)

    def full_shape(self, shape: Sequence[int]) -> list[int]:
        """Shape (..., lat, lon) of the full field, from that of the rows of this process."""
        return [*shape[:-2], self.partition.num_rows, shape[-1]]

    def edge_padding(self, num_rows: int, padding: tuple[int, int]) -> tuple[int, int]:
        """Rows to add above and below, at the edges of the full field alone.

        Those are in the partition, the ``padding`` of one process is ignored.
        """
        rows = self.field_slice
        if num_rows != rows.stop - rows.start:
            raise ValueError(
                f"this process holds {rows.stop - rows.start} rows of a field, got {num_rows}"
            )
        (top, bottom), rank = self.partition.padding, self.exchange.rank
        return top if rank == 0 else 0, bottom if rank == self.partition.size - 1 else 0

    def mean(self, values: Float[Tensor, "*lead lat lon"]) -> Float[Tensor, "*lead"]:
        """Mean over the full field."""
        count = self.partition.num_rows * values.shape[-1]
        return self.sum(values.sum(dim=(-2, -1))) / count

    def norm(self, values: Float[Tensor, "*lead lat lon"], dims: Sequence[int]) -> Tensor:
        """Euclidean norm of the full field over ``dims``, which include the rows."""
        norm = torch.linalg.vector_norm(values, dim=tuple(dims))
        norms = norm.new_zeros(self.partition.size, *norm.shape)
        norms[self.exchange.rank] = norm
        return torch.linalg.vector_norm(self.sum(norms), dim=0)

    def gather(self, field: Float[Tensor, "*lead lat lon"]) -> Float[Tensor, "*lead all_lat lon"]:
        """The full field, in all processes."""
        full = field.new_zeros(self.full_shape(field.shape))
        full[..., self.field_slice, :] = field
        return self.sum(full)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over the processes that hold the field; it has a gradient."""
        return self.exchange.sum(tensor)

    def broadcast_from_first(self, tensor: Tensor) -> Tensor:
        """The tensor of the process with the first rows."""
        return self.exchange.broadcast_from_first(tensor)


Rows = AllRows | ShardedRows
"""Which rows of a field a process holds. Losses and layers ask it and need no branches."""

ALL_ROWS = AllRows()
