"""The last net below a command: whatever it raises ends in a few lines and an exit code.

A defect of this package goes to a file with its traceback and versions. A standard output that
nobody reads any more ends the command silently, as it ends other tools.
"""

import errno
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import explain_state
from data_pipeline.printable import PrintableStream, printable

_READER_LEFT = 128 + signal.SIGPIPE  # as a shell reports other tools that a closed pipe has ended
_MOST_LETTERS = 400
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


def guard(command: Callable[[], int], words: Sequence[str]) -> int:
    """Run a command, and report what it raises.

    Args:
        command: Returns its exit code.
        words: What was typed, for the record of a defect.

    Returns:
        The exit code: the command's own; 2 for an ``InputError``, for too little memory, for a disk
        that fails or is full, and for a standard output that cannot be written; 70 for a defect;
        130 after Ctrl-C; 141 where nobody reads the output any more.
    """
    output = PrintableStream(_Stream(sys.stdout))
    errors = PrintableStream(_Stream(sys.stderr, is_dropped=True))
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            try:
                return command()
            finally:
                output.flush()
        except SystemExit:
            raise
        except BaseException as error:  # extensions in Rust raise panics that are no Exception
            return _report(error, words)


class OutputFailedError(Exception):
    """The standard output cannot be written; it is no ``OSError``, so that only ``guard`` sees it.

    Args:
        error: The reason.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to the standard output: {error.strerror or error}")
        self.reader_left = error.errno == errno.EPIPE


class _Stream:
    """A stream whose failures raise ``OutputFailedError``, or are ignored.

    Args:
        stream: The stream; None where it is closed.
        is_dropped: Whether what cannot be written is ignored.
    """

    def __init__(self, stream: Any, *, is_dropped: bool = False) -> None:  # noqa: ANN401
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115
        if isinstance(self._stream, TextIOWrapper):  # whatever the encoding of the terminal
            self._stream.reconfigure(errors="backslashreplace")
        self._is_dropped = is_dropped

    def write(self, text: str) -> int:
        return self._attempt(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def _attempt(self, action: Callable[[], Any]) -> Any:  # noqa: ANN401
        try:
            return action()
        except OSError as error:
            with suppress(OSError), open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), self._stream.fileno())  # Python ends without a message
            if not self._is_dropped:
                raise OutputFailedError(error) from error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._stream, name)


def open_standard_streams() -> None:
    """Open those of the first three descriptors that are closed, so that no file becomes one.

    Libraries write messages to the descriptor of the standard error, whatever it is.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _report(error: BaseException, words: Sequence[str]) -> int:
    message = (str(error).strip().splitlines() or ["no message"])[0]
    if len(message) > _MOST_LETTERS:
        message = f"{message[:_MOST_LETTERS]}..."
    if isinstance(error, InputError):
        _print_lines(f"error: {error}")
        return 2
    if isinstance(error, OutputFailedError):
        if not error.reader_left:
            _print_lines(f"error: {error}")
        return _READER_LEFT if error.reader_left else 2
    if isinstance(error, KeyboardInterrupt):
        _print_lines("interrupted; run the same command again", style="")
        return 130
    if isinstance(error, MemoryError) or any(text in message for text in _OUT_OF_MEMORY):
        _print_lines(
            f"error: the memory is too small: {message}; choose a smaller batch, model or grid, or "
            "fewer members, and run the same command again"
        )
        return 2
    if isinstance(error, OSError) and (reason := explain_state(error)):
        _print_lines(f"error: {reason}")
        return 2
    _print_lines(
        f"error: unexpected {type(error).__name__}: {message}",
        "This is a defect of fourcastnet-afno. Finished work is kept.",
        f"Please report it with {_write_record(error, words)}",
    )
    return os.EX_SOFTWARE


def _print_lines(*lines: str, style: str = "red") -> None:
    """Print lines on the standard error, the first one in a style, if it can be written."""
    from data_pipeline.terminal import new_console, print_line

    console = new_console(stderr=True)
    for number, line in enumerate(lines):
        print_line(console, line, style="" if number else style)


def _write_record(error: BaseException, words: Sequence[str]) -> str:
    """Write the command, its versions and the traceback to a new file, and return its path.

    It is in the working directory, or in the folder for temporary files, for its owner alone.
    """
    from fourcastnet_afno.provenance import versions

    command = shlex.join(["fourcastnet-afno", *words])
    trace = "".join(traceback.format_exception(error))
    record = printable(f"{command}\n{versions()}\n\n{trace}").encode()
    name = f"fourcastnet-afno-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    for folder in (".", tempfile.gettempdir()):
        path = Path(folder).absolute() / name
        with suppress(OSError):
            with open(path, "xb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
                file.write(record)
            return str(path)
    _print_lines(record.decode(), style="")
    return "the text above"
