"""Bands: a field whose rows are shared by several processes, a band of neighboring rows each.

Every layer of the network but the mixer treats patches by themselves. The mixer's transform along
longitude takes whole rows; then an all-to-all exchange turns

    my rows, all zonal wavenumbers    into    all rows, my zonal wavenumbers,

so that the transform along latitude and the perceptron, which treats wavenumbers by themselves, are
local again; the same exchange leads back. What is a sum over a field, as a loss, is a sum over the
bands. Processes that exchange are behind ``Exchange``: this module knows tensors only.

A loss is the same on all processes of a field, and gradients are those of its mean over them: the
backward pass of each operation is its adjoint over all processes together.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Exchange(Protocol):
    """What processes that share a field tell each other; all of them must call."""

    @property
    def rank(self) -> int:
        """Of this process among them, from north to south."""
        ...

    @property
    def size(self) -> int:
        """Number of them."""
        ...

    def transpose(self, tensor: Tensor, split: "RowRange", join: "RowRange") -> Tensor:
        """Cut an axis that is whole here into the parts of all, and get one that is cut whole.

        Args:
            tensor: Whole along the axis of ``split``, this process's part along that of ``join``.
            split: Axis that is whole here.
            join: Axis that is cut here.

        Returns:
            This process's part along the axis of ``split``, whole along that of ``join``. The
            adjoint, and the inverse, is the same with ``split`` and ``join`` swapped.
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
    """An axis that processes share.

    Args:
        axis: Of a tensor.
        counts: How many of its entries each process has, in order.
    """

    axis: int
    counts: tuple[int, ...]

    def slice_of(self, rank: int) -> slice:
        """The entries of a process."""
        start = sum(self.counts[:rank])
        return slice(start, start + self.counts[rank])


def balanced_counts(total: int, size: int) -> tuple[int, ...]:
    """``total`` entries for ``size`` processes; no two counts differ by more than one."""
    edges = [total * rank // size for rank in range(size + 1)]
    return tuple(b - a for a, b in itertools.pairwise(edges))


@dataclass(frozen=True)
class RowPartition:
    """How the rows of a field are shared: whole patches for each process.

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
class Band:
    """The rows of a field that this process holds.

    Args:
        layout: How all rows are shared.
        exchange: With the processes that hold the others.
    """

    layout: RowPartition
    exchange: Exchange

    @property
    def rows(self) -> slice:
        """Rows of the field."""
        return self.layout.rows[self.exchange.rank]

    @property
    def num_rows(self) -> int:
        """Their number."""
        return self.rows.stop - self.rows.start

    @property
    def padding(self) -> tuple[int, int]:
        """Rows to add above and below them."""
        (top, bottom), rank = self.layout.padding, self.exchange.rank
        return top if rank == 0 else 0, bottom if rank == self.layout.size - 1 else 0

    @property
    def token_rows(self) -> slice:
        """Rows of patches."""
        return RowRange(0, self.layout.token_rows).slice_of(self.exchange.rank)

    def mean(self, values: Float[Tensor, "*lead band lon"]) -> Float[Tensor, "*lead"]:
        """Mean over the whole field of values that each process has on its band."""
        count = self.layout.num_rows * values.shape[-1]
        return self.exchange.sum(values.sum(dim=(-2, -1))) / count

    def norm(self, values: Float[Tensor, "*lead band lon"], dims: Sequence[int]) -> Tensor:
        """Euclidean norm over ``dims``, which hold the rows, of the whole field."""
        mine = torch.linalg.vector_norm(values, dim=tuple(dims))
        return torch.linalg.vector_norm(self._gathered(mine), dim=0)

    def whole(self, field: Float[Tensor, "*lead band lon"]) -> Float[Tensor, "*lead lat lon"]:
        """The whole field, in all processes."""
        *lead, _, columns = field.shape
        whole = field.new_zeros(*lead, self.layout.num_rows, columns)
        whole[..., self.rows, :] = field
        return self.exchange.sum(whole)

    def _gathered(self, value: Tensor) -> Tensor:
        """The values of all processes (process, ...)."""
        values = value.new_zeros(self.layout.size, *value.shape)
        values[self.exchange.rank] = value
        return self.exchange.sum(values)
