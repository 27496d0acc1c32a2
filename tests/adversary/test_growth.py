"""Long runs: memory, tensors, descriptors and threads do not grow with the number of steps."""

import gc
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch

from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.inference.config import ForecastConfig, StoreConfig
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.training.monitoring.record import StepRecord
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset, make_experiment, make_untrained_run

_MIB = 2**20
_IN_FLIGHT = 24  # tensors that a step, or a thread that writes, may hold
_OPEN = 4  # files that threads may be writing just then, and threads that may start to help


class Usage(NamedTuple):
    """What this process holds."""

    tensors: int
    files: int
    threads: int
    memory: int

    @classmethod
    def now(cls) -> "Usage":
        """The present usage, without what only waits to be collected."""
        gc.collect()
        return cls(
            tensors=sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects()),
            files=len(os.listdir("/proc/self/fd")),
            threads=threading.active_count(),
            memory=psutil.Process().memory_info().rss,
        )


class Measure:
    """Measures the usage after two steps of a training or of a forecast.

    Args:
        first: A step after which everything is there that a run needs.
        last: A later one.
    """

    def __init__(self, first: int, last: int) -> None:
        self._steps, self._count, self._usage = (first, last), 0, []

    def on_step(self, record: StepRecord | None = None) -> None:
        """Measure where it is due."""
        self._count += 1
        if self._count in self._steps:
            self._usage.append(Usage.now())

    def check(self) -> None:
        """Compare the usage after both steps."""
        before, after = self._usage
        assert after.tensors <= before.tensors + _IN_FLIGHT
        assert after.files <= before.files + _OPEN
        assert after.threads <= before.threads + _OPEN
        assert after.memory <= before.memory + 24 * _MIB


@pytest.mark.parametrize(
    ("what", "make"),
    [("tensors", lambda: nullcontext(torch.zeros(1))), ("files", tempfile.TemporaryFile)],
)
def test_one_more_a_step_is_growth(
    what: str, make: Callable[[], AbstractContextManager[object]]
) -> None:
    measure = Measure(8, 40)
    with ExitStack() as kept:
        for _ in range(40):
            kept.enter_context(make())
            measure.on_step()
    with pytest.raises(AssertionError, match=what):
        measure.check()


LONG = pytest.mark.slow


@pytest.mark.parametrize(("first", "last"), [(8, 40), pytest.param(500, 3000, marks=LONG)])
def test_training_does_not_grow(first: int, last: int, tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    config = make_experiment(
        tmp_path / "data.nc",
        stages=[Stage(epochs=-(-last // 4))],  # of four steps each
        batch_size=16,
        validation=ValidationConfig(num_steps=0, every_epochs=10),
    )
    config = replace(config, training=replace(config.training, input_noise=0.0))
    measure = Measure(first, last)
    train_run(config, tmp_path / "run", callbacks=[measure])
    measure.check()


@pytest.mark.parametrize(("first", "last"), [(8, 40), pytest.param(200, 2000, marks=LONG)])
def test_a_forecast_does_not_grow(first: int, last: int, tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    checkpoint, store = make_untrained_run(make_experiment(tmp_path / "data.nc"), tmp_path / "run")
    forecaster, data = load_forecaster(checkpoint), store.prognostic.dataset()
    for parameter in forecaster.network.patch_recovery.parameters():  # its noise would blow up
        torch.nn.init.zeros_(parameter)
    measure = Measure(first, last)
    forecaster.register_forward_hook(lambda *_: measure.on_step())
    config = ForecastConfig(num_steps=last, store=StoreConfig(chunks="lead_time"))
    path = tmp_path / "forecast.zarr"
    write_forecast(forecaster, data, data["time"].values[2:3], config, path, {}, restart_every=20)
    measure.check()
