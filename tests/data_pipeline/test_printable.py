"""Text of others, and of libraries that print it as it is."""

import io

import pytest

from data_pipeline.printable import PrintableStream, printable

COMMANDS = ["\x1b[31mred", "\x1b]0;title\x07", "a\rb", "\x9b2J", "\u202eabc", "\x00", "\ud800"]


def test_printable_text_keeps_lines_and_other_letters() -> None:
    assert printable("\x1b[31m") == r"\x1b[31m"
    assert printable("a\n\tb") == "a\n\tb"
    assert printable("Höhe µ 気温 x₁") == "Höhe µ 気温 x₁"
    assert printable(7) == "7"


@pytest.mark.parametrize("text", COMMANDS)
def test_a_stream_writes_out_what_a_terminal_would_obey(text: str) -> None:
    below = io.StringIO()
    stream = PrintableStream(below)
    assert stream.write(f"name {text}\n") == len(text) + 6
    assert below.getvalue() == f"name {printable(text)}\n"
    assert below.getvalue().strip("\n").isprintable()
    stream.direct.write("\x1b[0m")  # of a console that colors its text
    assert below.getvalue().endswith("\x1b[0m")
