"""Trajectories through the same verbs as weather: prepare, windows, doctor."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.benchmarks import BenchmarkConfig
from data_pipeline.config import DataConfig, Period
from data_pipeline.dataset import WindowDataset
from data_pipeline.doctor import examine
from data_pipeline.pde import PDEConfig, solve
from data_pipeline.prepare import plan_preparation, prepare
from data_pipeline.sources import SourceConfig
from data_pipeline.trajectories import Splits

SPLITS = Splits(train=6, validation=2, test=2)
DATA = DataConfig(
    pde=PDEConfig(
        equation="gray_scott", resolution=[16, 16], trajectories=SPLITS, num_steps=3, substeps=2
    ),
    prognostic=["u", "v"],
    train=Period(start="2001-01-01", end="2100-12-31"),
    validation=Period(start="2101-01-01", end="2200-12-31"),
    test=Period(start="2201-01-01", end="2261-12-31"),
    timestep_hours=1,
    allow_gaps=True,
    climatology_harmonics=0,
)


def test_a_store_holds_the_trajectories(tmp_path: Path) -> None:
    store = prepare(DATA, tmp_path / "store")
    assert DATA.pde is not None
    values = store.dataset()
    fields = np.stack([values["u"], values["v"]], axis=1).reshape(10, 4, 2, 16, 16)
    np.testing.assert_array_equal(fields, solve(DATA.pde, list(range(10))))
    assert store.grid.shape == (16, 16)
    assert prepare(DATA, tmp_path / "store").path == store.path


def test_examined_by_the_doctor(tmp_path: Path) -> None:
    examined = examine(DATA, str(tmp_path / "store"))
    assert [f for f in examined.report.findings if f.severity == "error"] == []
    assert examined.grid is not None
    assert examined.grid.shape == (16, 16)
