"""Where preparations and evaluations run: on threads of this machine, or on a dask cluster."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, Literal, NamedTuple

import psutil
from annotated_types import Ge, Gt, Le
from dask.base import compute
from dask.delayed import Delayed, delayed

from data_pipeline.bounds import check_bounds
from data_pipeline.errors import InputError
from data_pipeline.sources.retry import read_errors_as_input_errors, with_retries

_RETRIES = 3


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig:
    """Machines on which a preparation or an evaluation runs; the result is the same everywhere.

    Args:
        scheduler_address: A running dask scheduler, such as tcp://host:8786. Its workers need this
            package, the source and the folder of the store.
        jobqueue: Start workers as jobs of a batch system, by dask-jobqueue.
        jobqueue_options: Options of dask-jobqueue's cluster class, such as {queue: cpu, cores: 16,
            memory: 64GB, walltime: "02:00:00"}.
        num_jobs: Jobs to start.
        memory_gib: Bound of the memory for data on this machine; on a cluster that of each worker.
        connect_seconds: Time after which a scheduler that does not answer is an error.
    """

    scheduler_address: str | None = None
    jobqueue: Literal["slurm", "pbs", "sge", "lsf", "htcondor", "oar", "local"] | None = None
    jobqueue_options: dict[str, str | Annotated[int, Ge(0), Le(2**63 - 1)]] = field(
        default_factory=dict
    )
    num_jobs: Annotated[int, Ge(1), Le(100_000)] = 1
    memory_gib: Annotated[float, Gt(0), Le(1e6)] = 4.0
    connect_seconds: Annotated[float, Gt(0), Le(1e6)] = 30.0

    def __post_init__(self) -> None:
        check_bounds(self, "execution")
        if self.scheduler_address and self.jobqueue:
            message = "give either a scheduler address or a jobqueue, not both"
            raise InputError(message, code="bad-setting")

    @property
    def has_cluster(self) -> bool:
        """Whether the work is done by a dask cluster."""
        return self.scheduler_address is not None or self.jobqueue is not None


class Task(NamedTuple):
    """A graph to compute, and the name of the data that it reads, for messages."""

    key: int
    reads: str
    work: Delayed


@contextmanager
def executor(config: ExecutionConfig) -> Iterator["Executor"]:
    """The executor of a configuration; a cluster that it starts ends with the block."""
    if config.has_cluster:
        with cluster_client(config) as client:
            yield _Cluster(client)
    else:
        yield _Threads(config.memory_gib)


@contextmanager
def cluster_client(config: ExecutionConfig) -> Iterator[Any]:
    """A ``distributed.Client`` of the cluster that a configuration names or starts.

    Raises:
        InputError: If the cluster cannot be reached or its packages are missing.
    """
    with _require_cluster_packages():
        from distributed import Client
    with ExitStack() as stack:
        address = config.scheduler_address
        if config.jobqueue is not None:
            address = stack.enter_context(_start_jobs(config)).scheduler_address
        try:
            client = Client(address, timeout=config.connect_seconds, set_as_default=False)
        except OSError as error:
            message = f"no scheduler answers at {address} ({error}); correct --scheduler_address"
            raise InputError(message, code="no-scheduler") from error
        yield stack.enter_context(client)


@contextmanager
def _require_cluster_packages() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        message = f"a dask cluster needs packages that are not installed ({error}); "
        message += "pip install 'fourcastnet-afno[cluster]'"
        raise InputError(message, code="missing-package") from error


def _start_jobs(config: ExecutionConfig) -> Any:  # noqa: ANN401
    with _require_cluster_packages():
        import dask_jobqueue
        from dask_jobqueue.local import LocalCluster
    assert config.jobqueue is not None
    names = {"slurm": "SLURM", "htcondor": "HTCondor", "pbs": "PBS", "lsf": "LSF"}
    name = f"{names.get(config.jobqueue, config.jobqueue.upper())}Cluster"
    kind: Any = LocalCluster if config.jobqueue == "local" else getattr(dask_jobqueue, name)
    try:
        return kind(n_workers=config.num_jobs, **config.jobqueue_options)
    except (TypeError, ValueError) as error:
        message = f"jobqueue_options do not suit {kind.__name__}: {error}; see dask-jobqueue's docs"
        raise InputError(message, code="bad-setting") from error


class _Threads:
    """Tasks on threads of this process, each computing its graph by itself.

    ``broadcast`` gives a handle for the tasks to a large value that all of them need; ``run`` gives
    (key, result) pairs of tasks that need ``bytes_each`` of memory, as they finish.
    """

    def __init__(self, memory_gib: float) -> None:
        self._memory_gib = memory_gib

    def broadcast(self, value: Any) -> Any:  # noqa: ANN401
        return delayed(value, traverse=False)

    def run(self, tasks: Iterator[Task], bytes_each: int) -> Iterator[Any]:
        memory = self._memory_gib * 2**30
        if bytes_each > memory:
            message = f"a block needs about {bytes_each / 2**30:.2f} GiB and memory_gib is "
            message += f"{self._memory_gib:g}; raise it, or lower data.storage.shard_mib"
            raise InputError(message, code="too-little-memory")
        workers = max(1, min(psutil.cpu_count() or 1, int(memory // bytes_each)))
        pool = ThreadPoolExecutor(workers, "prepare")
        try:
            waiting = {pool.submit(_compute_with_retries, task) for task in islice(tasks, workers)}
            while waiting:
                done: Future[tuple[int, Any]] = next(as_completed(waiting))
                waiting.remove(done)
                yield done.result()
                waiting |= {pool.submit(_compute_with_retries, task) for task in islice(tasks, 1)}
        finally:
            pool.shutdown(cancel_futures=True)


def _compute_with_retries(task: Task) -> tuple[int, Any]:
    with read_errors_as_input_errors(task.reads):
        (result,) = with_retries(lambda: compute(task.work, scheduler="synchronous"), task.reads)
    return task.key, result


class _Cluster:
    """Tasks on the workers of a dask cluster; those of a worker that dies are done by others."""

    def __init__(self, client: Any) -> None:  # noqa: ANN401
        self._client = client

    def broadcast(self, value: Any) -> Any:  # noqa: ANN401
        self._client.wait_for_workers(1)
        # Not by content: equal values of two calls would be one, which ends with the first.
        return self._client.scatter(value, broadcast=True, hash=False)

    def run(self, tasks: Iterator[Task], bytes_each: int) -> Iterator[Any]:
        from distributed import as_completed as futures_as_completed

        threads = sum(self._client.nthreads().values())
        running: dict[Any, Task] = {}
        lost: Counter[int] = Counter()

        def submit(some: Iterable[Task]) -> list[Any]:
            compute = self._client.compute
            futures = {compute(task.work, retries=_RETRIES): task for task in some}
            running.update(futures)
            return list(futures)

        queue = futures_as_completed(submit(islice(tasks, 2 * threads)), loop=self._client.loop)
        for future in queue:
            task = running.pop(future)
            # The scheduler forgot the result of a worker that died just then.
            if future.cancelled() and lost[task.key] < _RETRIES:
                lost[task.key] += 1
                for again in submit([task]):
                    queue.add(again)
                continue
            with read_errors_as_input_errors(task.reads):
                result = future.result()
            yield task.key, result
            for following in submit(islice(tasks, 1)):
                queue.add(following)


Executor = _Threads | _Cluster
