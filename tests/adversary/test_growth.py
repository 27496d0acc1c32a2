"""Long runs: memory, descriptors and threads do not grow with the number of steps."""

import os
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.training.monitoring.record import StepRecord
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset, make_experiment

_MIB = 2**20


def usage() -> tuple[int, int, int]:
    """Bytes of memory, descriptors and threads of this process."""
    process = psutil.Process()
    return process.memory_info().rss, len(os.listdir("/proc/self/fd")), threading.active_count()


class Measure:
    """Measures the usage after steps of a training.

    Args:
        steps: Steps of the run.
    """

    def __init__(self, *steps: int) -> None:
        self._steps, self.usage = steps, []

    def on_step(self, record: StepRecord) -> None:
        """Measure where it is due."""
        if record.step in self._steps:
            self.usage.append(usage())


@pytest.mark.parametrize(
    ("start", "steps"), [(8, 40), pytest.param(500, 3000, marks=pytest.mark.slow)]
)
def test_training_does_not_grow(start: int, steps: int, tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    stages = [Stage(epochs=-(-steps // 4))]  # of four steps each
    config = make_experiment(
        tmp_path / "data.nc",
        stages=stages,
        batch_size=16,
        validation=ValidationConfig(num_steps=0, every_epochs=10),
    )
    config = replace(config, training=replace(config.training, input_noise=0.0))
    measure = Measure(start, steps)
    train_run(config, tmp_path / "run", callbacks=[measure])
    (memory, files, threads), (later, more_files, more_threads) = measure.usage
    assert more_files <= files
    assert more_threads <= threads
    assert later - memory < 24 * _MIB
