"""The one exception that stands for a mistake in the user's input."""

import csv
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from data_pipeline.redaction import redact

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    csv.Error,
    pickle.UnpicklingError,
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
)
"""Errors of libraries that read a file which is damaged, or of another kind."""


class InputError(ValueError):
    """A mistake in the input: data, configuration or paths.

    The message names the thing, what was expected, what was found and the remedy. The command line
    prints it alone, without a traceback, and exits with status 2; any other exception is a defect
    of this package, whose traceback goes to a file (exit code 70).

    Args:
        message: For people; its wording may change. It is kept without secrets.
        code: For programs and tests, such as "grid-mismatch"; it stays the same.
    """

    def __init__(self, message: str, *, code: str = "bad-input") -> None:
        super().__init__(redact(message))
        self.code = code


class TransferError(InputError):
    """Data that cannot be read or written now but may be later; work already done is kept."""

    def __init__(self, message: str, *, code: str = "transfer-failed") -> None:
        super().__init__(message, code=code)


@contextmanager
def naming_option(option: str) -> Iterator[None]:
    """Name the option in errors of a source, in place of the setting of an experiment."""
    try:
        yield
    except InputError as error:
        text = str(error).replace("data.source.path", option).replace("data.source", option)
        error.args = (text,)
        raise
