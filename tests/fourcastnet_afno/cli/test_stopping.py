"""Signals of the system."""

import os
import signal
import threading

import pytest

from fourcastnet_afno.cli.stopping import SystemStopError, stopped_by_system


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_of_the_system_ends_the_block_with_a_code_of_its_own(
    number: signal.Signals,
) -> None:
    previous = signal.getsignal(number)
    with pytest.raises(SystemStopError, match=number.name) as stop, stopped_by_system():
        os.kill(os.getpid(), number)
    assert stop.value.exit_code == os.EX_TEMPFAIL
    assert signal.getsignal(number) is previous


def test_a_child_that_is_forked_ends_as_usual() -> None:
    with stopped_by_system():
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_other_threads_have_no_signals() -> None:
    entered = []

    def run() -> None:
        with stopped_by_system():
            entered.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert entered
