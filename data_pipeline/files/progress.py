"""Progress bars with rate and time left, for everything that takes longer than two seconds."""

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from data_pipeline.printable import printable
from data_pipeline.terminal import new_console

_Item = TypeVar("_Item")


class RateColumn(ProgressColumn):
    """Completed items per second."""

    def render(self, task: Task) -> Text:
        """Show the rate that rich measures over its last samples."""
        rate = task.finished_speed or task.speed
        return Text("" if rate is None else f"{rate:.3g}/s", style="progress.data.speed")


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Show a bar while the block runs.

    Yields:
        ``advance(count=1, note="")``: counts finished items and shows ``note`` after the bar.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=new_console()) as bar:
        task = bar.add_task(printable(description), total=total, note="")

        def advance(count: int = 1, note: str = "") -> None:
            bar.update(task, advance=count, note=printable(note))

        yield advance


def track(items: Iterable[_Item], description: str, total: int | None = None) -> Iterator[_Item]:
    """Iterate with a progress bar; ``total`` is the number of items without a length."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(description, total) as advance:
        for item in items:
            yield item
            advance()
