"""Exchanges of the processes that share a field."""

from datetime import timedelta

import torch
from torch import Tensor

from fourcastnet_afno.parallel.field_group import field_group
from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.parallel.row_sharding import RowRange, balanced_counts
from tests.builders.processes import on_ranks


def check_laws(size: int) -> None:
    """Round trip and adjoints of the exchanges, over all processes together."""
    with process_group("cpu", spatial_ranks=size) as process:
        group = process.spatial
        assert group is not None
        generator = torch.Generator().manual_seed(process.rank)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        def inner(x: Tensor, y: Tensor) -> Tensor:
            return process.reduce_sum((x * y).sum())

        size, rank = group.size, group.rank
        rows, columns = (
            RowRange(1, balanced_counts(5, size)),
            RowRange(2, (0, *balanced_counts(7, size - 1))),
        )
        x, y = random(2, rows.counts[rank], 7, 3), random(2, 5, columns.counts[rank], 3)
        there = group.transpose(x, split=columns, join=rows)
        assert there.shape == y.shape
        assert torch.equal(group.transpose(there, split=rows, join=columns), x)
        back = group.transpose(y, split=rows, join=columns)
        torch.testing.assert_close(inner(there, y), inner(x, back))
        a, b = random(4).requires_grad_(), random(4)
        total = group.sum(a)
        (adjoint,) = torch.autograd.grad((total * b).sum(), a)
        torch.testing.assert_close(inner(total.detach(), b), inner(a.detach(), adjoint))


def test_exchanges_have_inverses_and_adjoints() -> None:
    on_ranks(3, check_laws, 3, joined=False)


def test_one_process_shares_no_field() -> None:
    assert field_group(1, timedelta(seconds=1)) is None
