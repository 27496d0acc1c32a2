"""Text that commands nothing, for terminals, figures and records."""

import re
import unicodedata
from typing import Any

from data_pipeline.redaction import redact

_NOT_PLAIN = re.compile(r"[^\n\t -~]")
_HIDDEN_KINDS = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, format, surrogates, separators of lines


def printable(text: object) -> str:
    r"""The text with escapes such as ``\x1b`` in place of characters that a terminal obeys.

    Lines and tabs stay. Secrets are left out, see ``redaction``.
    """

    def written(match: re.Match[str]) -> str:
        is_hidden = unicodedata.category(match[0]) in _HIDDEN_KINDS
        return (
            match[0].encode("unicode_escape", "surrogatepass").decode() if is_hidden else match[0]
        )

    return _NOT_PLAIN.sub(written, redact(str(text)))


class PrintableStream:
    """A stream that writes text as by ``printable``.

    Parsers, warnings and logs of libraries write names of others as they are.

    Args:
        direct: The stream below, for text that is printable already and may have colors.
    """

    def __init__(self, direct: Any) -> None:  # noqa: ANN401
        self.direct = direct

    def write(self, text: str) -> int:
        """Write a text, and return its length."""
        self.direct.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Hand everything to the stream below, and that to the system."""
        self.direct.flush()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Everything else is the stream's below."""
        return getattr(self.direct, name)
