"""Signals that ask a run to stop: they are recorded, and all processes stop after the same step."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from fourcastnet_afno.parallel.environment import CollectiveStop

# SLURM sends SIGUSR1 before the time limit when a job asks for it, and SIGTERM at preemption.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_PATIENCE_SECONDS = 1.0
_CTRL_C, _TRY_AGAIN = 130, 75


class TrainingInterruptedError(CollectiveStop):
    """A signal, from a person (``by_ctrl_c``) or the system, ended a run that can resume."""

    def __init__(self, message: str, *, by_ctrl_c: bool = True) -> None:
        super().__init__(message)
        self.exit_code = _CTRL_C if by_ctrl_c else _TRY_AGAIN  # EX_TEMPFAIL of sysexits.h


@dataclass(frozen=True, kw_only=True)
class StepVote:
    """Decisions of all processes together at a step: ``loss`` is their mean."""

    loss: float
    by_ctrl_c: bool  # A person stops the run.
    by_system: bool
    checkpoint_due: bool


class StopRequests:
    """Signals that this process has received."""

    def __init__(self) -> None:
        self.by_ctrl_c, self.by_system, self._first = False, False, 0.0

    def handle_signal(self, number: int, frame: FrameType | None) -> None:
        """Record a signal. A second Ctrl-C, a second after the first one, raises at once."""
        now = time.monotonic()
        # torchrun passes on a Ctrl-C that the terminal has sent to the workers already.
        if number == signal.SIGINT and self.by_ctrl_c and now - self._first > _PATIENCE_SECONDS:
            raise KeyboardInterrupt
        if number == signal.SIGINT:
            self.by_ctrl_c, self._first = True, self._first or now
        else:
            self.by_system = True


@contextmanager
def stop_requests() -> Iterator[StopRequests]:
    """Record SIGINT, SIGTERM and SIGUSR1 while the block runs, instead of ending in a step."""
    requests = StopRequests()
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    previous = {number: signal.signal(number, requests.handle_signal) for number in _SIGNALS}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
