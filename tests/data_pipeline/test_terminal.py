"""Names, paths and units of others in a terminal: all of it is shown, and nothing of it acts."""

import io

import pytest
from rich.console import Console

from data_pipeline.files.progress import track
from data_pipeline.printable import PrintableStream, printable
from data_pipeline.terminal import TextTable, new_console, plain, print_line, print_tables

# Markup, a closing tag without an opening one, an emoji and a link.
BRACKETS = ["RMSE [m s-1]", "[red]", "runs/[/x]", "[bold]t[/bold]", ":smile:", "[link=a]b[/link]"]
# Colors, a title of the window, a cleared line, C1 and text that runs from right to left.
COMMANDS = ["\x1b[31mred", "\x1b]0;title\x07", "a\rb", "\x9b2J", "\u202eabc", "\x00", "\ud800"]


def console_of(width: int = 200) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, width=width), text


@pytest.mark.parametrize("name", BRACKETS)
def test_brackets_are_text(name: str) -> None:
    console, text = console_of()
    print_line(console, f"Written: {name}", style="red")
    table = TextTable(name)
    table.add_columns(name, name)
    table.add_row(name, plain(name, "bold"))
    print_tables(console, table)
    assert text.getvalue().count(name) == 6


@pytest.mark.parametrize("name", COMMANDS)
def test_what_a_terminal_would_obey_is_written_out(name: str) -> None:
    console, text = console_of()
    print_line(console, name)
    table = TextTable(name)
    table.add_columns(name)
    table.add_row(name)
    print_tables(console, table)
    assert text.getvalue().count(printable(name)) == 4
    assert not set(text.getvalue()) & {"\x1b", "\x07", "\r", "\x9b", "\u202e", "\x00", "\ud800"}


def test_long_lines_are_not_broken() -> None:
    console, text = console_of(width=20)
    print_line(console, "/a/long/path/with spaces/and/more/of/it.nc")
    assert text.getvalue() == "/a/long/path/with spaces/and/more/of/it.nc\n"


def test_progress_shows_its_description_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([1, 2], "Reading [/x] \x1b[31m")) == [1, 2]
    assert r"Reading [/x] \x1b[31m" in capsys.readouterr().out


def test_colors_of_a_console_pass_a_stream_that_writes_out_those_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = io.StringIO()
    monkeypatch.setattr("sys.stdout", PrintableStream(text))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    print_line(new_console(), "wrong \x1b[2J", style="red")
    assert text.getvalue().startswith("\x1b[31m")
    assert r"wrong \x1b[2J" in text.getvalue()
