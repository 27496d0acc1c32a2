"""A plan counts bytes, blocks and chunks before anything is read."""

from dataclasses import astuple

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.preparation.plan import choose_lengths, make_plan


@pytest.mark.parametrize(
    ("step", "shard", "chunk", "times", "expected"),
    [
        (10, 100, 1, 1000, (10, 10)),  # as many steps as fit
        (10, 100, 4, 1000, (8, 8)),  # whole chunks of the source
        (10, 100, 25, 1000, (5, 25)),  # whole shards in a chunk of the source
        (200, 100, 1, 1000, (1, 1)),  # a state larger than a shard
        (10, 100, 1, 6, (6, 6)),  # all there is
        (10, 100, 40, 12, (10, 20)),
    ],
)
def test_lengths_suit_both_stores(
    step: int, shard: int, chunk: int, times: int, expected: tuple[int, int]
) -> None:
    assert astuple(choose_lengths(step, shard, chunk, times)) == expected


def test_a_plan_counts_chunks_by_hand() -> None:
    """Blocks of 4 of 12 states; chunks of 8 times and 3 of 6 levels on 6 x 12 points."""
    shape = (12, 6, 6, 12)
    coords = {"level": [100, 200, 300, 500, 700, 850]}
    dims = ("time", "level", "latitude", "longitude")
    data = xr.Dataset({"temperature": (dims, np.zeros(shape, "f4"))}, coords)
    data = data.chunk(time=8, level=3)
    channels = Channels.from_dataset(data, ["temperature"], [500])
    lengths = choose_lengths(288, 4 * 288, 1, 12)
    plan = make_plan(data, channels, np.arange(12), lengths, (288, 288))
    plane = 4 * 6 * 12
    assert plan.bytes_needed == 12 * plane
    assert plan.bytes_read == 3 * 8 * 3 * plane  # each block reads one chunk of 8 times, 3 levels
    assert plan.bytes_written == 12 * 288
    assert plan.num_blocks == 3
    assert len(plan.chunks) == 1
    assert "6.0 times the bytes" in plan.chunks[0]
