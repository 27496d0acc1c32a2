"""Writing while computing: a thread with a short queue."""

import queue
import threading
import time
from collections.abc import Callable


class BackgroundWriter:
    """Runs calls one after the other in a thread, in the order of submission.

    The queue is short, so that memory stays bounded: ``submit`` waits where it is full. An error in
    a call ends the work; it is raised by the next ``submit`` or at the end of the block.
    """

    def __init__(self, length: int = 2) -> None:
        self._queue: queue.Queue[Callable[[], object] | None] = queue.Queue(length)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="forecast-writer", daemon=True)
        self.seconds_waited = 0.0

    def __enter__(self) -> "BackgroundWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        started = time.perf_counter()
        if error is not None and self._error is None:
            self._error = error  # what still waits is dropped
        self._queue.put(None)
        self._thread.join()
        self.seconds_waited += time.perf_counter() - started
        if error is None and self._error is not None:
            raise self._error

    def submit(self, call: Callable[[], object]) -> None:
        """Run ``call`` after those before it; waits where the queue is full."""
        if self._error is not None:
            raise self._error
        started = time.perf_counter()
        self._queue.put(call)
        self.seconds_waited += time.perf_counter() - started

    def _work(self) -> None:
        while (call := self._queue.get()) is not None:
            if self._error is not None:
                continue
            try:
                call()
            except BaseException as error:
                self._error = error
