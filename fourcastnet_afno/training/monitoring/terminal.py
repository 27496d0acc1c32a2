"""What a person sees while a run trains, and the measurements behind it."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

_LINE_SECONDS = 30.0
_BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, kw_only=True)
class ProgressSnapshot:
    """What is shown after a step.

    Args:
        title: Stage and epoch.
        done: Windows of the epoch that are done.
        total: Of the epoch.
        left: Windows until the end of the run.
        loss: Of the step.
        learning_rate: Of the step.
        samples_per_second: Over all processes.
        data_wait: Share of time.
        memory_gib: Peak so far.
        flop_utilization: Share of the device's peak, or None.
        notes: Further words, as the last scores.
    """

    title: str
    done: int
    total: int
    left: int
    loss: float
    learning_rate: float
    samples_per_second: float
    data_wait: float
    memory_gib: float
    flop_utilization: float | None = None
    notes: str = ""

    @property
    def seconds_left(self) -> float:
        """Until the end of the run, at the present rate and without validations."""
        return self.left / max(self.samples_per_second, 1e-9)

    def words(self) -> dict[str, str]:
        """Measurements as text, by name."""
        words = {
            "loss": f"{self.loss:.4g}",
            "lr": f"{self.learning_rate:.2e}",
            "samples/s": f"{self.samples_per_second:.3g}",
            "data wait": f"{self.data_wait:.1%}",
            "memory": f"{self.memory_gib:.2f} GiB",
        }
        if self.flop_utilization is not None:
            words["MFU"] = f"{self.flop_utilization:.1%}"
        return {**words, "time left": _clock(self.seconds_left)}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def sparkline(values: Iterable[float], width: int = 40) -> str:
    """A line of blocks, one for each part of ``values``, by the logarithm of their means."""
    known = torch.tensor([v for v in values if v > 0], dtype=torch.float64).log()
    if not len(known):
        return ""
    means = torch.stack([part.mean() for part in known.tensor_split(min(width, len(known)))])
    height = (means - means.min()) / max(float(means.max() - means.min()), 1e-9)
    return "".join(_BLOCKS[round(h * (len(_BLOCKS) - 1))] for h in height.tolist())


class LiveView:
    """Bars and numbers in a terminal that are redrawn; elsewhere a line now and then.

    Args:
        console: Where to; silent if None, as in all but the main process.
    """

    def __init__(self, console: Console | None) -> None:
        self._console = console
        self._bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self._task = self._bar.add_task("", total=None)
        self._losses: deque[float] = deque(maxlen=2000)
        self._glance: ProgressSnapshot | None = None
        self._next_line = 0.0
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)
            self._live.start()

    def show(self, glance: ProgressSnapshot) -> None:
        """Show the state after a step."""
        if self._console is None:
            return
        self._glance = glance
        self._losses.append(glance.loss)
        if self._live is None and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + _LINE_SECONDS
            words = ", ".join(f"{name} {value}" for name, value in glance.words().items())
            self._console.print(f"{glance.title}: {glance.done}/{glance.total} windows, {words}")

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self._console is not None:
            self._console.print(text, highlight=False, markup=False)

    def _render(self) -> Group:
        glance = self._glance
        if glance is None:
            return Group("")
        self._bar.update(
            self._task, description=glance.title, completed=glance.done, total=glance.total
        )
        table = Table(*glance.words(), box=None, pad_edge=False, header_style="dim")
        table.add_row(*glance.words().values())
        return Group(self._bar, table, sparkline(self._losses), glance.notes)

    def close(self) -> None:
        """Leave the last state on the screen."""
        if self._live is not None:
            self._live.stop()
