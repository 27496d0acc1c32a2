"""Functions in several processes of gloo, and in processes that are killed."""

import contextlib
import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from fourcastnet_afno.parallel.launch import process_group

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "tests.builders.processes",
        "tests.builders.experiments",
        "fourcastnet_afno.cli.main",
        "torch._dynamo",
    ]
)


def start(function: Callable[..., Any], *arguments: object) -> multiprocessing.process.BaseProcess:
    """A process that calls ``function``, made from one that has imported everything already."""
    process = _context.Process(target=_alone, args=(function, arguments))
    process.start()
    return process


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
    """``function(process, *arguments)`` on ranks of gloo; what it returns comes by the pipes.

    Args:
        world_size: Number of processes.
        function: Of a module, so that it can be found by name.
        arguments: Handed to it.
        errors: Folder for what the ranks say, a file for each.
        joined: Whether they are joined already; otherwise ``function`` has no first argument and
            finds its place in the environment.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes, answers = [], []
    for rank in range(world_size):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "MASTER_PORT": port}
        environment = {name: str(value) for name, value in place.items()}
        environment["MASTER_ADDR"] = "127.0.0.1"
        receive, send = _context.Pipe(duplex=False)
        said = errors / f"rank{rank}.txt" if errors else None
        process = _context.Process(
            target=_rank, args=(function, arguments, environment, send, said, joined)
        )
        process.start()
        send.close()
        processes.append(process)
        answers.append(receive)
    return processes, answers


def on_ranks(
    world_size: int, function: Callable[..., Any], *arguments: object, joined: bool = True
) -> list[Any]:
    """What ``function`` returns on each rank, see ``start_ranks``."""
    processes, answers = start_ranks(world_size, function, *arguments, joined=joined)
    results = [answer.recv() for answer in answers]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return results
