"""Partitions of rows; what processes exchange over them is tested with real ones, see training."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.losses.loss import FieldStatistics, Loss
from fourcastnet_afno.parallel.row_sharding import (
    AllRows,
    RowPartition,
    RowRange,
    Rows,
    ShardedRows,
    balanced_counts,
)

SIZES = st.integers(min_value=1, max_value=9)


@given(total=st.integers(min_value=0, max_value=50), size=SIZES)
def test_counts_are_balanced(total: int, size: int) -> None:
    counts = balanced_counts(total, size)
    assert len(counts) == size
    assert sum(counts) == total
    assert max(counts) - min(counts) <= 1


@given(
    patches=st.integers(min_value=4, max_value=20), patch=st.integers(2, 4), size=st.integers(1, 4)
)
def test_rows_of_all_processes_are_the_field(patches: int, patch: int, size: int) -> None:
    """Each has whole patches of the padded field, and pads at the edges of the field alone."""
    num_rows, padding = patches * patch - 2, (1, 1)
    if patches // size * patch < 3:
        return
    partition = RowPartition(num_rows, padding, patch, size)
    shards = [ShardedRows(partition, Parts(rank)) for rank in range(size)]
    rows = [row for shard in shards for row in range(num_rows)[shard.field_slice]]
    assert rows == list(range(num_rows))
    for rank, shard in enumerate(shards):
        count = shard.field_slice.stop - shard.field_slice.start
        top, bottom = shard.edge_padding(count, padding)
        assert (top + count + bottom) == patch * partition.token_rows[rank]
        assert (top > 0, bottom > 0) == (rank == 0, rank == size - 1)
        assert shard.full_shape((3, count, 5)) == [3, num_rows, 5]
        with pytest.raises(ValueError, match=f"holds {count} rows"):
            shard.edge_padding(count + 1, padding)


def test_all_rows_change_nothing() -> None:
    field = torch.randn(2, 3, 4, 5)
    rows = AllRows()
    assert rows.full_shape(field.shape) == list(field.shape)
    assert rows.edge_padding(4, (1, 2)) == (1, 2)
    assert rows.gather(field) is rows.sum(field) is rows.broadcast_from_first(field) is field
    assert torch.equal(rows.mean(field), field.mean(dim=(-2, -1)))
    assert torch.equal(field[..., rows.field_slice, :], field)


def test_too_few_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="4 processes that share 6 rows"):
        RowPartition(6, (0, 0), 2, 4)
    with pytest.raises(ValueError, match="mirrors"):
        RowPartition(25, (3, 4), 8, 4, mirrored=True)


class Parts:
    """An exchange whose sums stay parts, to be added up by the test."""

    def __init__(self, rank: int) -> None:
        self.rank, self.size = rank, 2

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def broadcast_from_first(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def transpose(self, tensor: torch.Tensor, split: RowRange, join: RowRange) -> torch.Tensor:
        raise AssertionError("no loss transposes")


def test_shards_of_rows_add_up_to_the_weighted_loss_of_the_field() -> None:
    """The weights have mean 1 over the whole field, wherever the filled points are."""
    generator = torch.Generator().manual_seed(0)
    predictions, targets = torch.randn(2, 3, 2, 7, 5, generator=generator)
    filled = torch.ones(2, 7, 5)
    filled[0, :3] = 0
    one = torch.ones(2)

    def loss(rows: Rows) -> torch.Tensor:
        statistics = FieldStatistics(
            area_weights=torch.linspace(0.5, 1.5, 7)[:, None].expand(7, 5),
            mean=0 * one,
            std=one,
            diff_std=one,
            labels=["a", "b"],
            levels=[None, None],
            field_weights=filled,
            rows=rows,
        )
        mine = rows.field_slice
        return Loss(LossConfig(), statistics).by_channel(
            predictions[..., mine, :], targets[..., mine, :]
        )

    partition = RowPartition(7, (0, 0), 1, 2)
    parts = [loss(ShardedRows(partition, Parts(rank))) for rank in range(2)]
    torch.testing.assert_close(parts[0] + parts[1], loss(AllRows()))
