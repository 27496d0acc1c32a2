"""Functions in several processes of gloo, in processes that are killed, and in stopped runs."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dask
import torch

from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.training.monitoring.record import StepRecord

_ports = itertools.count(os.getpid())
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "pytest",
        "distributed",
        "torch._dynamo",
        "tests.builders.processes",
        "tests.builders.runs",
        "tests.builders.warm",
        "fourcastnet_afno.cli.run_verb",
        "fourcastnet_afno.workflows.evaluate_run",
        "fourcastnet_afno.workflows.forecast",
        "fourcastnet_afno.workflows.train_diagnostic",
    ]
)


def start(function: Callable[..., Any], *arguments: object) -> multiprocessing.process.BaseProcess:
    """A process that calls ``function``, made from one that has imported everything already."""
    process = _context.Process(target=_alone, args=(function, arguments))
    process.start()
    return process


@contextlib.contextmanager
def fast_workers() -> Iterator[None]:
    """Make the processes of a dask cluster likewise, instead of with imports of their own."""
    ensure_running()  # with the modules of above: dask would name others
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


@contextlib.contextmanager
def fast_spawning() -> Iterator[None]:
    """Make the processes likewise that others would spawn."""
    with patch("multiprocessing.get_context", lambda method=None: _context):
        yield


def _alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    function(*arguments)


def _rank(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    environment: dict[str, str],
    answer: Connection,
    errors: Path | None,
    joined: bool,
) -> None:
    os.environ |= environment
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if errors is not None:
            sys.stderr = stack.enter_context(errors.open("w"))
        try:
            if joined:
                with process_group("cpu") as process:
                    answer.send(function(process, *arguments))
            else:
                answer.send(function(*arguments))
        except SystemExit as stop:
            os._exit(stop.code if isinstance(stop.code, int) else 1)
        except BaseException:
            sys.stderr.write(traceback.format_exc())
            sys.stderr.flush()
            os._exit(1)


def start_ranks(
    world_size: int,
    function: Callable[..., Any],
    *arguments: object,
    errors: Path | None = None,
    joined: bool = True,
) -> tuple[list[multiprocessing.process.BaseProcess], list[Connection]]:
    """Call ``function(process, *arguments)`` on ranks of gloo; the pipes bring the results.

    Args:
        world_size: Number of processes.
        function: Of a module, so that it can be found by name.
        arguments: Handed to it.
        errors: Folder for the messages of the ranks, a file for each.
        joined: Whether they are joined already; otherwise ``function`` has no first argument and
            finds its place in the environment.
    """
    port = _free_port()
    processes, answers = [], []
    for rank in range(world_size):
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
        environment = {name: str(value) for name, value in numbers.items()}
        environment["MASTER_ADDR"] = "127.0.0.1"
        receive, send = _context.Pipe(duplex=False)
        messages = errors / f"rank{rank}.txt" if errors else None
        process = _context.Process(
            target=_rank, args=(function, arguments, environment, send, messages, joined)
        )
        process.start()
        send.close()
        processes.append(process)
        answers.append(receive)
    return processes, answers


def _free_port() -> int:
    """A port for the ranks to meet at.

    Systems hand out none below 32768 by themselves, and each process that runs tests tries others
    than its neighbors: so nobody takes it before the ranks do.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    while True:
        port = 12_000 + 500 * (worker % 40) + next(_ports) % 500
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port


def on_ranks(
    world_size: int, function: Callable[..., Any], *arguments: object, joined: bool = True
) -> list[Any]:
    """Results of ``function`` on each rank, see ``start_ranks``."""
    processes, answers = start_ranks(world_size, function, *arguments, joined=joined)
    results = [answer.recv() for answer in answers]
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    return results


class SignalAfter:
    """Sends this process a signal after steps of a training, once for each.

    Args:
        steps: Steps of the run.
        number: The signal.
    """

    def __init__(self, steps: Iterable[int], number: signal.Signals = signal.SIGTERM) -> None:
        self.left, self._number = set(steps), number

    def on_step(self, record: StepRecord) -> None:
        """Send the signal where it is time."""
        if record.step in self.left:
            self.left.remove(record.step)
            os.kill(os.getpid(), self._number)


class SlowDown:
    """Sleeps after each step of a training.

    Args:
        seconds: How long.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def on_step(self, record: StepRecord) -> None:
        """Sleep."""
        time.sleep(self._seconds)


class FailAfter:
    """Raises an error of a defect after a step of a training.

    Args:
        step: Step of the run.
        message: Message of the error.
    """

    def __init__(self, step: int, message: str) -> None:
        self._step, self._message = step, message

    def on_step(self, record: StepRecord) -> None:
        """Raise where it is time."""
        if record.step == self._step:
            raise RuntimeError(self._message)
