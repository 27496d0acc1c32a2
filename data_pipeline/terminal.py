"""Text in terminals: names, paths and values of others are shown as they are, and command nothing.

The library rich takes brackets such as ``[m s-1]`` for markup and loses them, and a terminal obeys
escape sequences, also those in the name of a file. Everything that is printed goes through this
module, which a test of the house rules requires.
"""

from typing import Any

from rich.box import SIMPLE
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from data_pipeline.printable import printable


class _Console(Console):
    """A console that writes below a ``PrintableStream``: its texts are printable, and colored."""

    @property
    def file(self) -> Any:  # noqa: ANN401
        stream = super().file
        return getattr(stream, "direct", stream)

    @file.setter
    def file(self, new_file: Any) -> None:  # noqa: ANN401
        Console.file.__set__(self, new_file)


def plain(text: object, style: str = "") -> Text:
    """Text without markup, see ``printable``; one that is styled already stays."""
    return text if isinstance(text, Text) else Text(printable(text), style)


def new_console(*, stderr: bool = False) -> Console:
    """A console that reads no markup; in notebooks it prints lines of text, as into a file."""
    options: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}
    console = _Console(stderr=stderr, **options)
    if console.is_jupyter:
        console = _Console(stderr=stderr, force_jupyter=False, force_terminal=False, **options)
    return console


def print_line(console: Console, *parts: object, style: str = "") -> None:
    """Print text, or parts that are put together, on lines that are not broken."""
    console.print(Text.assemble(*map(plain, parts), style=style), soft_wrap=True)


def print_tables(console: Console, *tables: RenderableType, soft_wrap: bool = False) -> None:
    """Print tables and texts of this module; with ``soft_wrap`` lines may exceed the width."""
    console.print(Group(*tables), soft_wrap=soft_wrap)


class TextTable:
    """A table whose title, headings and cells are text without markup.

    Args:
        title: Line above the table.
        options: Of ``rich.table.Table``.
    """

    def __init__(self, title: object = "", **options: Any) -> None:  # noqa: ANN401
        options = {"box": SIMPLE, "padding": (0, 1, 0, 0), **options}
        self._table = Table(title=plain(title) if title else None, **options)

    def add_columns(self, *headings: object, **options: Any) -> None:  # noqa: ANN401
        """Add columns with the same options of ``rich.table.Table.add_column``."""
        for heading in headings:
            self._table.add_column(plain(heading), **options)

    def add_row(self, *cells: object, style: str = "") -> None:
        """Add a row; cells may be styled, see ``plain``."""
        self._table.add_row(*map(plain, cells), style=style or None)

    def add_section(self) -> None:
        """Draw a line below the rows so far."""
        self._table.add_section()

    def __rich__(self) -> Table:
        """The table for a console."""
        return self._table
