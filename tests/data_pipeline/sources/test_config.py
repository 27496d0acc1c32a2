"""Settings of sources that contradict each other are rejected."""

import pytest

from data_pipeline.sources.config import BenchmarkConfig, SourceConfig


def test_one_path_is_a_list_of_one() -> None:
    assert SourceConfig(path="a.nc").paths == SourceConfig(path=["a.nc"]).paths == ["a.nc"]


def test_a_benchmark_needs_counts_or_splits() -> None:
    with pytest.raises(ValueError, match=r"data\.source\.benchmark needs either trajectories"):
        BenchmarkConfig(layout="pdebench")
