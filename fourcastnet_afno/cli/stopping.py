"""Signals of the system that end a verb which can resume."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# SLURM sends SIGUSR1 before the time limit when a job asks for it, and SIGTERM at preemption.
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class SystemStopError(KeyboardInterrupt):
    """A signal of the system ends the verb wherever it is, as Ctrl-C does.

    Args:
        number: The signal.
    """

    exit_code = 75  # EX_TEMPFAIL of sysexits.h: start it again

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")


@contextmanager
def stopped_by_system() -> Iterator[None]:
    """Raise ``SystemStopError`` at SIGTERM and SIGUSR1 while the block runs.

    Training has handlers of its own, which wait for the end of a step.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a child that a library has forked ends as usual
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise SystemStopError(number)

    previous = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
