"""A thread that ends this process soon after another one has failed."""
# pyright: reportPrivateImportUsage=false

import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from data_pipeline.errors import InputError
from fourcastnet_afno.parallel.environment import LaunchEnvironment

POLL_SECONDS = 0.25
_FAREWELL_SECONDS = 3.0  # that the host of the store waits for others to read the failure
_USER_ERROR = 2


class FailureWatchdog:
    """Ends this process within a second after another one has failed.

    The main thread may wait in a collective that never ends, so that raising there is no way out.
    The ``timeout`` is for joining.
    """

    def __init__(self, environment: LaunchEnvironment, timeout: timedelta) -> None:
        self.rank, self._others = environment.rank, environment.world_size - 1
        self._hosts_store = environment.rank == 0 and not environment.agent_store
        first, second = (self._client(environment, timeout, host) for host in (True, False))
        # A client blocks while it waits, so the watching thread has one of its own.
        self.base, self._watched = first, second
        self.store = dist.PrefixStore("run", self.base)
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

    def announce(self, error: BaseException) -> None:
        """Inform the others, and leave by force if the program does not end by itself."""
        self.stop()
        code = _USER_ERROR if isinstance(error, InputError) else 1
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            code = error.code
        message = f"{type(error).__name__}: {error}" if code == 1 else str(error)
        note = json.dumps({"rank": self.rank, "words": message, "code": code})
        try:
            known = json.loads(self._watched.compare_set("failed", "", note))
            self._wait_until_informed()
        except (RuntimeError, ValueError):  # The store is gone with its host: nobody listens.
            return
        faulthandler.dump_traceback_later(30, exit=True)
        if known["rank"] != self.rank:
            self._leave(known, silently=known["words"] == message)

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
                if self._watched.check(["failed"]):
                    note = json.loads(self._watched.get("failed"))
                    self._wait_until_informed()
                    self._leave(note)
            except RuntimeError:
                if not self._done.is_set():
                    self._leave({"rank": 0, "words": "its store does not answer", "code": 1})

    def _leave(self, note: Mapping[str, Any], silently: bool = False) -> None:
        sys.stdout.flush()
        message = f"rank {self.rank} stops, because rank {note['rank']} failed: {note['words']}"
        if not silently:  # One of the ranks reports an error that all have raised.
            sys.stderr.write(message + "\n")
        sys.stderr.flush()
        os._exit(note["code"])
