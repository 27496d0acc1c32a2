"""The one exception that stands for a mistake in what the user gave us."""


class InputError(ValueError):
    """A mistake in the input: data, configuration or paths.

    The message names the thing, what was expected, what was found and the remedy. The command line
    prints it alone, without a traceback, and exits with status 2; any other exception is a defect
    of this package and keeps its traceback.
    """


class TransferError(InputError):
    """Data that cannot be read or written now but may be later; work already done is kept."""
