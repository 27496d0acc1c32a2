"""The view of a training in a terminal."""

import time
from collections import deque
from collections.abc import Iterable

import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from data_pipeline.terminal import TextTable, plain, print_line
from fourcastnet_afno.training.monitoring.record import StepRecord

_LINE_SECONDS = 30.0
_BLOCKS = "▁▂▃▄▅▆▇█"


def numbers_of(record: StepRecord) -> dict[str, str]:
    """Numbers of a step as text, by name."""
    rates = record.rates
    numbers = {
        "loss": f"{record.loss:.4g}",
        "lr": f"{record.learning_rate:.2e}",
        "samples/s": f"{rates.samples_per_second:.3g}",
        "data wait": f"{rates.data_wait:.1%}",
        "memory": f"{rates.memory_gib:.2f} GiB",
    }
    if rates.flop_utilization is not None:
        numbers["MFU"] = f"{rates.flop_utilization:.1%}"
    minutes, seconds = divmod(round(record.seconds_left), 60)
    return numbers | {"time left": f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"}


def sparkline(values: Iterable[float], width: int = 40) -> str:
    """A line of blocks, each for some neighboring ``values``, by the mean of their logarithms."""
    logarithms = torch.tensor([v for v in values if v > 0], dtype=torch.float64).log()
    if not len(logarithms):
        return ""
    chunks = logarithms.tensor_split(min(width, len(logarithms)))
    means = torch.stack([chunk.mean() for chunk in chunks])
    height = (means - means.min()) / max(float(means.max() - means.min()), 1e-9)
    return "".join(_BLOCKS[round(h * (len(_BLOCKS) - 1))] for h in height.tolist())


class LiveView:
    """Bars and numbers in a terminal that are redrawn; elsewhere a line now and then.

    It is silent without a console, in all but the main process.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
        )
        self._task = self._bar.add_task("", total=None)
        self._losses: deque[float] = deque(maxlen=2000)
        self._record: StepRecord | None = None
        self.notes = ""  # Shown below the numbers.
        self._next_line = 0.0
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)
            self._live.start()

    def show(self, record: StepRecord) -> None:
        """Show a finished step."""
        if self._console is None:
            return
        self._record = record
        self._losses.append(record.loss)
        if self._live is None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            numbers = ", ".join(f"{name} {value}" for name, value in numbers_of(record).items())
            windows = f"{record.samples}/{record.num_samples} windows"
            print_line(self._console, f"{record.title}: {windows}, {numbers}")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._console is not None:
            print_line(self._console, text)

    def _render(self) -> Group:
        if (record := self._record) is None:
            return Group(plain(""))
        samples, total = record.samples, record.num_samples
        self._bar.update(self._task, description=record.title, completed=samples, total=total)
        numbers = numbers_of(record)
        table = TextTable(box=None, pad_edge=False, header_style="dim")
        table.add_columns(*numbers)
        table.add_row(*numbers.values())
        return Group(self._bar, table, sparkline(self._losses), plain(self.notes))

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.stop()
