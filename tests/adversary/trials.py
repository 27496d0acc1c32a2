"""Commands in forked processes whose time and memory are bounded, and what they leave behind."""

import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fourcastnet_afno.cli.main import main
from tests.builders.processes import start

SECONDS = 300
"""Time of a command, on a machine that does other work too."""
MEMORY = 3 * 2**30
"""Bytes that a command may allocate."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command did.

    Args:
        code: Its exit code; negative for the signal that ended it.
        text: What it printed.
        seconds: How long it took.
    """

    code: int | None
    text: str
    seconds: float


def run_command(
    words: Sequence[str], folder: Path, log: Path, command: Callable[[list[str]], int] = main
) -> Outcome:
    """Call ``command(words)`` in ``folder``, and write what it prints to ``log``."""
    started = time.monotonic()
    process = start(_bounded, command, list(words), str(folder), str(log))
    process.join(SECONDS)
    seconds = time.monotonic() - started
    if process.is_alive():
        process.kill()
        process.join()
    text = log.read_text(errors="replace") if log.exists() else ""
    return Outcome(code=process.exitcode, text=text, seconds=seconds)


def _bounded(command: Callable[[list[str]], int], words: list[str], folder: str, log: str) -> None:
    os.chdir(folder)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", encoding="utf-8") for n in (1, 2))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        code = command(words)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def faults_of(outcome: Outcome, names: Sequence[str], allowed: Sequence[int] = (0, 2)) -> list[str]:
    """What is wrong with the end of a command that had a hostile input.

    Args:
        outcome: Of the command.
        names: An error has to name one of them.
        allowed: Exit codes.
    """
    text, faults = outcome.text, []
    if outcome.seconds > SECONDS:
        faults.append(f"it took more than {SECONDS} s")
    elif outcome.code not in allowed:
        faults.append(f"it ended with {outcome.code}")
    if "Traceback (most recent call last)" in text:
        faults.append("it printed a traceback")
    if "\x1b" in text:
        faults.append("it printed an escape sequence")
    if outcome.code == 2:
        if not text.lstrip().startswith("error: ") and "\nerror: " not in text:
            faults.append("it printed no error")
        elif len(text[text.index("error: ") :]) > 4000:
            faults.append("its message is longer than a screen")
    words = "|".join(map(re.escape, names))
    if outcome.code in (1, 2) and not re.search(rf"(?<!\w)({words})(?!\w)", text):
        faults.append(f"it named none of {list(names)}")
    return faults
