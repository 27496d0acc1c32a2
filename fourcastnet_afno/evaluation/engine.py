"""The engine: statistics of all forecasts, in one pass, in bounded memory.

The work is cut into tasks of one variable, some initial times and some lead times. A task reads
truth and climatology once, every forecast once, and gives statistics of each field, which are put
where they belong, and sums over initial times of spectra, histograms and maps, which are added in
the order of the tasks. So the results do not depend on the cut beyond rounding in float64, and a
pass that was interrupted goes on bit for bit.
"""

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from data_pipeline.files.atomic import replacing
from data_pipeline.files.progress import track
from fourcastnet_afno.evaluation.plan import Result, ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.tasks import run_task

_SAVE_SECONDS = 30.0
_KINDS = ("series", "sums", "grouped")


def run(
    plan: ScoringPlan,
    tasks: Sequence[ScoringTask],
    *,
    num_threads: int = 2,
    executor: Executor | None = None,
    share: Callable[[ScoringPlan], Any] = lambda plan: plan,
    state: Path | None = None,
    key: str = "",
) -> Result:
    """Do all tasks.

    Args:
        plan: The work.
        tasks: See ``split``.
        num_threads: Threads of this process, where no executor is given.
        executor: Where tasks run, as ``Client.get_executor()`` of dask.distributed for many
            machines; it must serialize functions as cloudpickle does.
        share: What to give to tasks in place of the plan, as ``Client.scatter``, so that it is sent
            once.
        state: File that holds what is done so far, to go on from after an interruption.
        key: What the state belongs to; another key starts anew.
    """
    if executor is not None:
        return _run(plan, tasks, executor, 2 * num_threads, share, state, key)
    own = ThreadPoolExecutor(num_threads)
    try:
        with threadpool_limits(1, "blas"):  # its threads and ours would wait for each other
            return _run(plan, tasks, own, 2 * num_threads, share, state, key)
    finally:
        own.shutdown(cancel_futures=True)


def _run(
    plan: ScoringPlan,
    tasks: Sequence[ScoringTask],
    pool: Executor,
    ahead: int,
    share: Callable[[ScoringPlan], Any],
    state: Path | None,
    key: str,
) -> Result:
    total, done = _load(state, key)
    saved = monotonic()
    try:
        results = _ordered(pool, share(plan), tasks[done:], ahead)
        for task, result in track(
            zip(tasks[done:], results, strict=True), "Evaluating", len(tasks) - done
        ):
            _merge(total, plan, task, result)
            done += 1
            if state is not None and monotonic() - saved > _SAVE_SECONDS:
                _save(total, done, state, key)
                saved = monotonic()
    except BaseException:
        if state is not None:
            _save(total, done, state, key)
        raise
    if state is not None:
        state.unlink(missing_ok=True)
    return total


def _ordered(
    pool: Executor,
    plan: Any,  # noqa: ANN401  the plan, or what stands for it
    tasks: Sequence[ScoringTask],
    ahead: int,
) -> Iterator[dict[int, Result]]:
    """Results in order, with a bounded number of tasks under way."""
    waiting: deque[Future] = deque()
    for task in tasks:
        waiting.append(pool.submit(run_task, plan, task))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _merge(
    total: Result, plan: ScoringPlan, task: ScoringTask, results: Mapping[int, Result]
) -> None:
    shape = (len(plan.init_times), len(plan.lead_times), len(plan.channels))
    for channel, result in results.items():
        for name, values in result.series.items():
            if name not in total.series:
                total.series[name] = np.full((*shape, *values.shape[2:]), np.nan)
            total.series[name][task.inits, task.leads, channel] = values
        for name, values in result.sums.items():
            if name not in total.sums:
                total.sums[name] = np.zeros((*shape[1:], *values.shape[1:]))
            total.sums[name][task.leads, channel] += values
        for name, values in result.grouped.items():
            if name not in total.grouped:
                total.grouped[name] = np.zeros((*shape[1:], plan.num_groups, *values.shape[2:]))
            total.grouped[name][task.leads, channel, plan.groups_of(task.inits)] += values


def _save(total: Result, done: int, state: Path, key: str) -> None:
    arrays = {
        f"{kind}/{'/'.join(name)}": values
        for kind in _KINDS
        for name, values in getattr(total, kind).items()
    }
    header = np.frombuffer(json.dumps({"key": key, "done": done}).encode(), np.uint8)
    with replacing(state) as temporary, temporary.open("wb") as file:
        np.savez(file, header=header, **arrays)  # type: ignore[arg-type]


def _load(state: Path | None, key: str) -> tuple[Result, int]:
    if state is None or not state.exists():
        return Result(), 0
    with np.load(state, allow_pickle=False) as stored:
        header = json.loads(stored["header"].tobytes())
        if header["key"] != key:
            return Result(), 0
        result = Result()
        for full in stored.files:
            kind, _, name = full.partition("/")
            if kind in _KINDS:
                forecast, _, statistic = name.rpartition("/")
                getattr(result, kind)[forecast, statistic] = stored[full]
    return result, header["done"]
