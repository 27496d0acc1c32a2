"""Steps of a unit become chunks of the store, and its state a restart file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fourcastnet_afno.inference.integration import StepResult
from fourcastnet_afno.inference.job import ForecastJob
from fourcastnet_afno.inference.resume import Work
from fourcastnet_afno.inference.store import ForecastStore
from fourcastnet_afno.inference.unit_output import UnitOutput
from tests.builders.forecasters import GRID, Growing, make_config, make_states


class Recorder(ForecastStore):
    """Keeps the blocks instead of writing them."""

    def __init__(self) -> None:
        self.blocks: list[tuple[Any, ...]] = []

    def write(self, block: np.ndarray, *place: Any) -> None:  # noqa: ANN401
        self.blocks.append((block, *place))

    def write_diagnostics(self, statistics: Any, start: Any) -> None:  # noqa: ANN401
        self.blocks.append((statistics["mean"], start, "diagnostics", None))


def make_result(first: int, indices: list[int]) -> tuple[StepResult, np.ndarray]:
    """Fields with the number of each forecast, plus ``first``."""
    values = torch.tensor(indices, dtype=torch.float32) + first
    fields = values[:, None, None, None].expand(-1, 3, *GRID.shape)
    return StepResult(fields, {"mean": values[:, None]}, []), np.array(indices)


@pytest.mark.parametrize("sets", [[[0, 1, 2, 3]], [[0, 2], [1, 3]], [[3], [1], [0], [2]]])
def test_sets_are_merged_to_initial_times_and_members(
    tmp_path: Path, sets: list[list[int]]
) -> None:
    data = make_states()
    config = make_config(
        num_steps=3, num_members=2, perturbation="gaussian", batch_size=4, chunks="lead_time"
    )
    times = data["time"].values[:2]
    job = ForecastJob(steppers=[Growing()], dataset=data, init_times=times, config=config)
    work = Work(tmp_path / "out", {}, num_units=1, num_chunks=job.num_chunks)
    store, (unit,) = Recorder(), job.units
    with work.opened(lambda: work.folder.store.mkdir(), "refuse"):
        output = UnitOutput(job, work, store, unit)
        output.save_restart([{"history": torch.ones(1)}, {"history": torch.zeros(1)}], 1)
        for step in range(2):
            output.collect(step, [make_result(10 * step, part) for part in sets])()
        assert work.missing_chunks(0) == {2}
        resumed = UnitOutput(job, work, store, unit).restart
        assert resumed is not None
        assert [s["history"].item() for s in resumed.sets] == [1, 0]
        output.collect(2, [make_result(20, part) for part in sets])()
        assert not work.units
        assert not work.restart_file(0).exists()
    fields = [block for block in store.blocks if block[2] == ""]
    assert [start for _, start, *_ in fields] == [(0, 0, 0), (0, 0, 1), (0, 0, 2)]
    for step, (block, *_) in enumerate(fields):
        assert block.shape == (2, 2, 1, 3, *GRID.shape)
        assert block[:, :, 0, 0, 0, 0].tolist() == [
            [10 * step, 10 * step + 1],
            [10 * step + 2, 10 * step + 3],
        ]
