"""The engine: statistics of all forecasts, in one pass, in bounded memory.

The work is cut into tasks of one variable, some initial times and some lead times. A task reads
truth and climatology once, every forecast once, and gives the state of its part. The states are
added in the order of the tasks, so the results do not depend on the cut beyond rounding in
float64, and a pass that was interrupted resumes to the same bits.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any

from threadpoolctl import threadpool_limits

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import writing_to
from data_pipeline.files.progress import track
from data_pipeline.preparation.execution import ExecutionConfig, cluster_client
from fourcastnet_afno.evaluation.aggregation import AggregationState, StateFile
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.tasks import run_task

_SAVE_SECONDS = 30.0
_RETRIES = 3  # of a task whose worker died


def run_tasks(
    plan: ScoringPlan,
    tasks: Sequence[ScoringTask],
    *,
    num_threads: int = 2,
    executor: Executor | None = None,
    execution: ExecutionConfig | None = None,
    state_file: StateFile | None = None,
) -> AggregationState:
    """Do all tasks, by default in threads of this process.

    An executor that serializes functions as cloudpickle does, or a dask cluster, runs them instead.
    """
    if execution is not None and execution.has_cluster:
        with cluster_client(execution) as client:
            client.wait_for_workers(1)
            num_ahead = 2 * sum(client.nthreads().values())
            workers = client.get_executor(retries=_RETRIES)
            shared_plan = client.scatter(plan, broadcast=True, hash=False)
            return _run(plan, tasks, workers, num_ahead, shared_plan, state_file)
    if executor is not None:
        return _run(plan, tasks, executor, 2 * num_threads, plan, state_file)
    threads = ThreadPoolExecutor(num_threads)
    try:
        with threadpool_limits(1, "blas"):  # its threads and ours would wait for each other
            return _run(plan, tasks, threads, 2 * num_threads, plan, state_file)
    finally:
        threads.shutdown(cancel_futures=True)


def _run(
    plan: ScoringPlan,
    tasks: Sequence[ScoringTask],
    executor: Executor,
    num_ahead: int,
    shared_plan: Any,  # noqa: ANN401  the plan, or a reference to it
    state_file: StateFile | None,
) -> AggregationState:
    total, names = AggregationState.empty(plan), [s.name for s in plan.statistics]
    done = 0 if state_file is None else state_file.load(total, names)
    saved = monotonic()

    def results() -> Iterator[list[AggregationState]]:
        """States in the order of the tasks, with a bounded number of tasks under way."""
        waiting: deque[Future] = deque()
        for task in tasks[done:]:
            waiting.append(executor.submit(run_task, shared_plan, task))
            if len(waiting) >= num_ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    try:
        for parts in track(results(), "Evaluating", len(tasks) - done):
            for part in parts:
                total += part
            done += 1
            if state_file is not None and monotonic() - saved > _SAVE_SECONDS:
                state_file.save(total, done, names)
                saved = monotonic()
    except BaseException:
        if state_file is not None:
            with suppress(InputError):  # the disk is full; the first error is what counts
                state_file.save(total, done, names)
        raise
    if state_file is not None:
        with writing_to(state_file.path):
            state_file.path.unlink(missing_ok=True)
    return total
