"""Preparations on clusters, within bounds of memory and disk, with a plan; stores behind URLs."""

import asyncio
import errno
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from distributed import LocalCluster

from data_pipeline.errors import InputError
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.periods import Period
from data_pipeline.preparation import prepare as preparation
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.preparation.prepare import open_store, prepare
from data_pipeline.store.packing import StorageConfig
from data_pipeline.store.reader import PreparedStore
from data_pipeline.store.writer import StoreWriter
from fourcastnet_afno.cli.main import main
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset, make_experiment
from tests.builders.processes import fast_workers
from tests.data_pipeline.preparation.test_blocks import contents

STORAGE = StorageConfig(dtype="int16", shard_mib=0.002)


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return make_data_config(tmp_path / "data.nc", storage=STORAGE)


def wait_for(killed: Path, ledger: Path, *arguments: Any) -> dict[str, Any]:  # noqa: ANN401
    """Process a block; of those after the third, not before a process is killed."""
    from data_pipeline.preparation.blocks import process_block

    while num_lines(ledger) >= 3 and not killed.exists():
        time.sleep(0.01)
    return process_block(*arguments)


def num_lines(ledger: Path) -> int:
    return ledger.read_bytes().count(b"\n") if ledger.exists() else 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_that_loses_a_worker_writes_the_same_store(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(config, tmp_path / "here.zarr")
    ledger = tmp_path / ".there.zarr.partial/ledger-0.jsonl"
    killed = tmp_path / "killed"
    monkeypatch.setattr(preparation, "process_block", partial(wait_for, killed, ledger))
    lines = []

    def kill_one(pids: list[int]) -> None:
        while num_lines(ledger) < 3:
            time.sleep(0.01)
        os.kill(pids[0], 9)
        lines.append(num_lines(ledger))
        killed.touch()

    with (
        fast_workers(),
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        cluster.get_client() as client,
    ):
        pids = list(client.run(os.getpid).values())
        killer = threading.Thread(target=kill_one, args=(pids,))
        killer.start()
        execution = ExecutionConfig(scheduler_address=cluster.scheduler_address)
        prepare(config, tmp_path / "there.zarr", execution)
        killer.join()
    assert lines[0] < 30
    assert contents(tmp_path / "there.zarr") == contents(tmp_path / "here.zarr")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_of_a_batch_system_write_the_same_store(config: DataConfig, tmp_path: Path) -> None:
    """dask-jobqueue's local pseudo-queue runs each job's script as a process."""
    prepare(config, tmp_path / "here.zarr")
    options: dict[str, str | int] = {"cores": 1, "memory": "1GB", "processes": 1}
    execution = ExecutionConfig(jobqueue="local", jobqueue_options=options)
    prepare(config, tmp_path / "there.zarr", execution)
    gc.collect()  # dask-jobqueue leaves the job's process to the collector, which warns
    assert contents(tmp_path / "there.zarr") == contents(tmp_path / "here.zarr")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_clusters_that_are_not_there_are_named(config: DataConfig, tmp_path: Path) -> None:
    wrong = ExecutionConfig(jobqueue="local", jobqueue_options={"cores": 1, "nonsense": 2})
    with rejects("bad-setting", "jobqueue_options"):
        prepare(config, tmp_path / "data.zarr", wrong)
    gc.collect()
    with rejects("bad-setting", "jobqueue"):
        ExecutionConfig(jobqueue="slurm", scheduler_address="tcp://host:1")


def test_no_scheduler(config: DataConfig, tmp_path: Path) -> None:
    nobody = ExecutionConfig(scheduler_address="tcp://127.0.0.1:9", connect_seconds=0.2)
    with rejects("no-scheduler", "tcp://127.0.0.1:9"):
        prepare(config, tmp_path / "data.zarr", nobody)


PREPARE_LARGE = """
import sys, threading, time
from pathlib import Path
import dask.array, numpy as np, xarray as xr
from data_pipeline.periods import Period
from data_pipeline.preparation import prepare as preparation
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.store.packing import StorageConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config

def anonymous():  # without pages of mapped files, which the system takes back when it needs them
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 2**10 for line in lines if line.startswith("RssAnon"))

def watch(peak, done):
    while not done.wait(0.002):
        peak[0] = max(peak[0], anonymous())

def field(low, block_info=None):
    (first, _), *_ = block_info[None]["array-location"]
    return np.full((4, 128, 256), low + first % 97, np.float32)

def prepare(num_times, path):
    grid, times = LatLonGrid.equiangular(128, 256), np.datetime64("2001-01-01", "ns")
    times = times + np.arange(num_times) * np.timedelta64(24, "h")
    data = {}
    chunks = (4,) * (num_times // 4), (128,), (256,)
    for name, units, low in (("mean_sea_level_pressure", "Pa", 1e5), ("2m_temperature", "K", 240)):
        array = dask.array.map_blocks(field, low, chunks=chunks, dtype="f4")
        data[name] = (("time", *grid.dims), array, {"units": units})
    dataset = xr.Dataset(data, {"time": times, **grid.coords})
    end = str(times[-1])[:10]
    periods = {
        "train": Period(start="2001-01-01", end=str(times[-60])[:10]),
        "validation": Period(start=str(times[-50])[:10], end=str(times[-30])[:10]),
        "test": Period(start=str(times[-20])[:10], end=end),
    }
    config = make_data_config(
        Path("pyproject.toml"), static=[], storage=StorageConfig(shard_mib=2.0), **periods
    )
    execution = ExecutionConfig(memory_gib=float(sys.argv[2]))
    return preparation.prepare(config, path, execution, read=lambda config: dataset)

prepare(100, Path(sys.argv[1], "small.zarr"))  # imports, caches and arenas
before = anonymous()
peak, done = [0], threading.Event()
watcher = threading.Thread(target=watch, args=(peak, done))
watcher.start()
store = prepare(800, Path(sys.argv[1], "large.zarr"))
done.set()
watcher.join()
print(4 * np.prod(store.states.shape), peak[0] - before)
"""


@pytest.mark.slow
def test_memory_stays_within_its_bound(tmp_path: Path) -> None:
    """A store of six times the bound, in a process of its own."""
    bound = 0.03
    command = [sys.executable, "-c", PREPARE_LARGE, str(tmp_path), str(bound)]
    environment = {**os.environ, "PYTHONPATH": "."}
    result = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    written, used = (int(word) for word in result.stdout.split()[-2:])
    assert written > 6 * bound * 2**30
    assert used < bound * 2**30


def test_a_block_that_does_not_fit_into_memory_is_rejected(
    config: DataConfig, tmp_path: Path
) -> None:
    with rejects("too-little-memory", "memory_gib is 1e-06"):
        prepare(config, tmp_path / "data.zarr", ExecutionConfig(memory_gib=1e-6))


def test_a_full_disk_keeps_finished_blocks(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, written = StoreWriter.write, []

    def fill_up(layout: StoreWriter, start: int, stored: np.ndarray) -> list[str]:
        if len(written) == 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(start)
        return write(layout, start, stored)

    with monkeypatch.context() as patch:
        patch.setattr(StoreWriter, "write", fill_up)
        with rejects("disk-full", str(tmp_path)):
            prepare(config, tmp_path / "data.zarr")
    ledger = (tmp_path / ".data.zarr.partial/ledger-0.jsonl").read_bytes()
    assert 4 <= ledger.count(b"\n") <= 5
    prepare(config, tmp_path / "data.zarr")
    prepare(config, tmp_path / "whole.zarr")
    assert contents(tmp_path / "data.zarr") == contents(tmp_path / "whole.zarr")


def test_a_plan_writes_nothing(
    config: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = make_experiment(tmp_path / "data.nc")
    (tmp_path / "config.yaml").write_text(experiment.to_yaml())
    run = tmp_path / "run"
    words = ["prepare", f"--config={tmp_path / 'config.yaml'}", f"--output={run}"]
    assert main([*words, "--plan"]) == 0
    assert "120 states in 1 blocks: reads 0.00 GiB" in capsys.readouterr().out.replace("\n", " ")
    assert not run.exists()
    assert main([*words, "--scheduler-address", "x", "--execution.jobqueue", "slurm"]) == 2


class Served:
    """A folder behind HTTP with ranges, which counts requests and can fail."""

    def __init__(self, folder: Path) -> None:
        self.requests, self.failures, self.port = 0, 0, 0
        self._folder, self._started = folder, threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:  # noqa: ANN401
        self.requests += 1
        if self.failures > 0:
            self.failures -= 1
            raise web.HTTPServiceUnavailable
        return await handler(request)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        application = web.Application(middlewares=[self._count])
        application.router.add_static("/", self._folder)
        runner = web.AppRunner(application)
        self._loop.run_until_complete(runner.setup())
        site = web.TCPSite(runner, "127.0.0.1", 0)
        self._loop.run_until_complete(site.start())
        self.port = runner.addresses[0][1]
        self._started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()


@pytest.fixture
def served(config: DataConfig, tmp_path: Path) -> Iterator[Served]:
    prepare(config, tmp_path / "data.zarr")
    with Served(tmp_path) as server:
        yield server


def test_a_store_behind_a_url_is_read_like_a_local_one(
    served: Served, config: DataConfig, tmp_path: Path
) -> None:
    remote = open_store(f"{served.url}/data.zarr", config)
    local = PreparedStore(tmp_path / "data.zarr")
    assert remote.fingerprint == local.fingerprint
    loaders = [
        Loader(
            WindowDataset(store, Period(start="2001-01-01", end="2001-03-01"), 1, 1),
            7,
            seed=0,
            shuffle=True,
        )
        for store in (remote, local)
    ]
    served.failures = 1  # a second's wait
    for ours, theirs in zip(*(loader.epoch(0) for loader in loaders), strict=True):
        np.testing.assert_array_equal(ours.state, theirs.state)
    before = served.requests
    assert sum(1 for _ in loaders[0].epoch(0)) > 0
    assert served.requests == before  # all of it from the cache
    with rejects("other-configuration", "data.levels"):
        open_store(f"{served.url}/data.zarr", make_data_config(tmp_path / "data.nc", levels=[5]))
    with pytest.raises(InputError) as info:
        PreparedStore(f"{served.url}/nothing")
    assert f"{served.url}/nothing" in str(info.value)
