"""A thread that ends this process soon after another one has failed."""
# pyright: reportPrivateImportUsage=false

import faulthandler
import json
import os
import re
import select
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from data_pipeline.errors import InputError
from fourcastnet_afno.parallel.environment import LaunchEnvironment

POLL_SECONDS = 0.25
_ROLL_CALL_SECONDS = 2.0
_FAREWELL_SECONDS = 3.0  # that the host of the store waits for others to read the failure
_USER_ERROR, _TRY_AGAIN = 2, 75  # the latter is EX_TEMPFAIL of sysexits.h


class FailureWatchdog:
    """Ends this process within a second after another one has failed, or a few after it was lost.

    A process that is killed says nothing, but its system closes its connections: the rank before
    it, which has one to it, or a rank that meets it in a collective, calls all ranks, and misses
    those that do not answer.

    The main thread may wait in a collective that never ends, so that raising there is no way out.
    The ``timeout`` is for joining.
    """

    def __init__(self, environment: LaunchEnvironment, timeout: timedelta) -> None:
        self.rank, self._others = environment.rank, environment.world_size - 1
        self._restart_command, self._answered = environment.restart_command, False
        self._host_is_rank = not environment.agent_store
        self._hosts_store = environment.rank == 0 and self._host_is_rank
        first, second = (self._client(environment, timeout, host) for host in (True, False))
        # A client blocks while it waits, so the watching thread has one of its own.
        self.base, self._watched = first, second
        self.store = dist.PrefixStore("run", self.base)
        self._door, self._neighbor = _open_door(environment), None
        self.store.set(f"door-{self.rank}", json.dumps(self._door.getsockname()[:2]))
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def _client(
        self, environment: LaunchEnvironment, timeout: timedelta, may_host: bool
    ) -> dist.Store:
        store = dist.TCPStore(
            environment.address,
            environment.port,
            is_master=may_host and self._hosts_store,
            wait_for_workers=False,
            timeout=timeout,
        )
        return dist.PrefixStore(f"fourcastnet_afno/{environment.attempt}", store)

    def stop(self) -> None:
        """Stop watching: the work is done and others may leave."""
        self._done.set()
        self._thread.join()

    def connect(self) -> None:
        """Connect to the next rank, so that its end is noticed; all ranks have joined."""
        key = f"door-{(self.rank + 1) % (self._others + 1)}"
        host, port = json.loads(self.store.get(key))
        with suppress(OSError):  # a rank that is not reached is missed in collectives only
            self._neighbor = socket.create_connection((host, port), timeout=_ROLL_CALL_SECONDS)

    def close(self) -> None:
        """Close the connections: all ranks have stopped watching."""
        for connection in filter(None, (self._door, self._neighbor)):
            connection.close()

    def announce(self, error: BaseException) -> None:
        """Inform the others, and leave by force if the program does not end by itself."""
        self.stop()
        if is_lost_connection(error):
            self._leave_if_ranks_are_lost()
        code = _USER_ERROR if isinstance(error, InputError) else 1
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            code = error.code
        code = getattr(error, "exit_code", code)
        message = f"{type(error).__name__}: {error}" if code == 1 else str(error)
        note = {"rank": self.rank, "words": message, "code": code}
        try:
            known = self._record(note)
            self._wait_until_informed()
        except (RuntimeError, ValueError):  # The store is gone with its host: nobody listens.
            return
        faulthandler.dump_traceback_later(30, exit=True)
        if known["rank"] != self.rank:
            self._leave(known, silently=known["words"] == message)

    def _record(self, note: Mapping[str, Any]) -> dict[str, Any]:
        """Record why the run ends, unless another rank has; returns what is recorded."""
        known = json.loads(self._watched.compare_set("failed", "", json.dumps(note)))
        self._watched.set("trouble", "")
        return known

    def _leave_if_ranks_are_lost(self) -> None:
        """Leave if ranks do not answer, and have not said why they end."""
        until = time.monotonic() + _ROLL_CALL_SECONDS
        try:
            self._watched.set("trouble", "")
            self._answer_roll_call()
            while self._watched.add("present", 0) <= self._others:
                if self._watched.check(["failed"]):
                    return
                if time.monotonic() > until:
                    ranks = range(self._others + 1)
                    lost = [r for r in ranks if not self._watched.check([f"present-{r}"])]
                    words = f"{'ranks' if len(lost) > 1 else 'rank'} {', '.join(map(str, lost))}"
                    note = {"rank": self.rank, "words": "", "code": _TRY_AGAIN, "lost": words}
                    known = self._record(note)
                    self._leave(known, silently=known != note)
                time.sleep(POLL_SECONDS / 5)
        except RuntimeError:
            self._leave(self._lost_host())

    def _answer_roll_call(self) -> None:
        if not self._answered:
            self._answered = True
            self._watched.set(f"present-{self.rank}", "")
            self._watched.add("present", 1)

    def _lost_host(self) -> dict[str, Any]:
        host = "rank 0" if self._host_is_rank else "the agent of torchrun"
        return {"rank": 0, "words": "", "code": _TRY_AGAIN, "lost": host}

    def _wait_until_informed(self) -> None:
        """Count this process as informed; the host of the store waits until all are."""
        informed = self._watched.add("informed", 1)
        until = time.monotonic() + _FAREWELL_SECONDS
        while self._hosts_store and informed <= self._others and time.monotonic() < until:
            time.sleep(POLL_SECONDS / 5)
            informed = self._watched.add("informed", 0)

    def _run(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            try:
                if self._neighbor is not None and _is_closed(self._neighbor):
                    self._leave_if_ranks_are_lost()
                self._leave_if_one_has_failed()
            except RuntimeError:
                if not self._done.is_set():
                    self._leave(self._lost_host())

    def _leave_if_one_has_failed(self) -> None:
        if self._watched.check(["trouble"]):
            self._answer_roll_call()
            if self._watched.check(["failed"]):
                note = json.loads(self._watched.get("failed"))
                self._wait_until_informed()
                self._leave(note, silently="lost" in note)

    def _leave(self, note: Mapping[str, Any], silently: bool = False) -> None:
        sys.stdout.flush()
        message = f"rank {self.rank} stops, because rank {note['rank']} failed: {note['words']}"
        if "lost" in note:
            message = (
                f"{note['lost']} was lost: killed, or its node or network failed. What is finished "
                f"is kept; resume with: {self._restart_command}"
            )
        if not silently:  # One of the ranks reports an error that all have raised.
            sys.stderr.write(message + "\n")
        sys.stderr.flush()
        os._exit(note["code"])


def _open_door(environment: LaunchEnvironment) -> socket.socket:
    """A socket that listens where the host of the store is reached from."""
    kind = socket.SOCK_DGRAM
    family, *_, host = socket.getaddrinfo(environment.address, environment.port, type=kind)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(host)  # nothing is sent
        return socket.create_server((probe.getsockname()[0], 0), family=family)


def _is_closed(connection: socket.socket) -> bool:
    """Whether the process at the other end, which sends nothing, is gone."""
    try:
        return bool(select.select([connection], [], [], 0)[0]) and not connection.recv(1)
    except ConnectionError:
        return True


def is_lost_connection(error: BaseException) -> bool:
    """Whether a collective has failed, because another process has gone or does not answer."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and bool(re.search("gloo|nccl|onnection", str(error)))
    )
