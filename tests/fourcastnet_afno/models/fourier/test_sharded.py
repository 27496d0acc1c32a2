"""Shards of a transform, in threads that exchange tensors, are the transform of the full grid."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from fourcastnet_afno.models.fourier.sharded import ShardedTransform
from fourcastnet_afno.models.fourier.transforms import ModeSelection, transform_for
from fourcastnet_afno.parallel.row_sharding import RowPartition, RowRange, ShardedRows

SHAPE, CHANNELS = (9, 8), slice(0, 4)


class ThreadExchange:
    """One of some threads that hold the rows of a field."""

    def __init__(self, rank: int, board: list[Tensor | None], barrier: threading.Barrier) -> None:
        self.rank, self.size, self._board, self._barrier = rank, len(board), board, barrier

    def transpose(self, tensor: Tensor, split: RowRange, join: RowRange) -> Tensor:
        self._board[self.rank] = tensor
        self._barrier.wait(10)
        shards = [
            t.split(split.counts, split.axis)[self.rank] for t in self._board if t is not None
        ]
        self._barrier.wait(10)
        return torch.cat(shards, dim=join.axis)

    def sum(self, tensor: Tensor) -> Tensor:
        raise AssertionError("no transform sums over processes")

    def broadcast_from_first(self, tensor: Tensor) -> Tensor:
        raise AssertionError("no transform broadcasts")


@pytest.mark.parametrize(
    "selection",
    [
        ModeSelection(fraction=0.7, transform="matrix"),
        ModeSelection(fraction=0.7, transform="fft"),
        ModeSelection(boundary=("reflected", "zero_padded")),
        ModeSelection(pole="double_fourier_sphere", vector_channels=2),
    ],
)
@pytest.mark.parametrize("adjoint", [False, True])
def test_shards_are_parts_of_the_full_transform(selection: ModeSelection, adjoint: bool) -> None:
    full = transform_for(selection.to_json(), SHAPE, 4, torch.float64, torch.device("cpu"))
    fields = torch.randn(2, *SHAPE, 4, dtype=torch.float64)
    modes = full.to_modes(fields, CHANNELS, adjoint)
    expected = torch.empty_like(fields)
    full.add_to_grid(modes, fields, expected, CHANNELS, adjoint)
    size = 3
    board: list[Tensor | None] = [None] * size
    barrier, partition = threading.Barrier(size), RowPartition(9, (0, 0), 1, size)

    def work(rank: int) -> tuple[Tensor, Tensor]:
        rows = ShardedRows(partition, ThreadExchange(rank, board, barrier))
        shard = ShardedTransform(full, rows)
        mine = fields[:, rows.field_slice]
        found, output = shard.to_modes(mine, CHANNELS, adjoint), torch.empty_like(mine)
        shard.add_to_grid(found, mine, output, CHANNELS, adjoint)
        return found, output

    with ThreadPoolExecutor(size) as pool:
        results = list(pool.map(work, range(size)))
    torch.testing.assert_close(torch.cat([found for found, _ in results], dim=2), modes)
    torch.testing.assert_close(torch.cat([output for _, output in results], dim=1), expected)
