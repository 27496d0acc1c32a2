"""Input that is rejected, by the code of its error."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from data_pipeline.errors import InputError


@contextmanager
def rejects(code: str, *named: str) -> Iterator[pytest.ExceptionInfo[InputError]]:
    """Expect an ``InputError`` with a code, whose message names all of ``named``.

    Args:
        code: Such as "grid-mismatch".
        named: What the message has to name: settings, files, values; not how it is worded.
    """
    with pytest.raises(InputError) as info:
        yield info
    assert info.value.code == code
    for word in named:
        assert word in str(info.value)
