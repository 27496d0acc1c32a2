"""Code of equations, which is run only where the user has named it.

An equation may be a class in a file or a module, and checkpoints, stores and run folders, which
others may have made, keep this setting. The command line runs each verb in ``only_code_of_user``
with what the user has named, so that other names are an error wherever they come from. Python
programs choose their configurations themselves, and may call it too.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from data_pipeline.errors import InputError

_named: list[Collection[str]] = []  # by the blocks under way, the innermost last


@contextmanager
def only_code_of_user(names: Collection[str]) -> Iterator[None]:
    """Allow, in the block, no other code than that of these equations, such as "file.py:Class"."""
    _named.append(names)
    try:
        yield
    finally:
        _named.pop()


def require_code_of_user(equation: str) -> None:
    """Reject an equation whose code the user has not named, see ``only_code_of_user``.

    Raises:
        InputError: If its code may not be run ("foreign-code").
    """
    if ":" in equation and _named and equation not in _named[-1]:
        raise InputError(
            f"data.pde.equation is {equation}, the name of code in a checkpoint or config.yaml "
            "of a run folder, which others may have made; read that code, and if you trust it, run "
            f"the same command with --data.pde.equation={equation}, or with --config FILE",
            code="foreign-code",
        )
