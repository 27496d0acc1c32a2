"""What a person sees while a run trains, and the measurements behind it."""

import resource
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from data_pipeline.dataset import Sample
from fourcastnet_afno.updating import Objective, Precision

Item = TypeVar("Item")
_RECENT_SECONDS = 20.0
_LINE_SECONDS = 30.0
_BLOCKS = "▁▂▃▄▅▆▇█"
# Dense peak of matrix products in 1e12 operations per second, from NVIDIA's data sheets: with 16
# bits, with TF32, with float32.
_PEAKS = {
    "B200": (2250, 1100, 80),
    "H200": (989, 494, 67),
    "H100": (989, 494, 67),
    "GH200": (989, 494, 67),
    "A100": (312, 156, 19.5),
    "L40S": (362, 183, 91.6),
    "A40": (149.7, 74.8, 37.4),
    "V100": (125, 15.7, 15.7),
}


def peak_memory_gib(device: torch.device | None = None) -> float:
    """Largest memory so far: of a GPU what torch has held, else this process's resident memory."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """Peak operations per second of a device, where it is known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    column = {"tf32": 1, "float32": 2}.get(precision, 0)
    return next((1e12 * peaks[column] for key, peaks in _PEAKS.items() if key in name), None)


def flops_per_window(loss: Objective, sample: Sample) -> float:
    """Operations of a training step on one window: three times those of the forward pass.

    Recomputation of activations does not count, as in the usual model FLOP utilization. Products
    and sums of matrix products and convolutions are counted, as ``torch.utils.flop_counter`` does.
    """
    row = [tensor[:1] for tensor in (sample.state, sample.forcing, sample.target)]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        loss(*row)
    return 3.0 * counter.get_total_flops()


class Meter:
    """Rates over the last seconds: windows per second, and the share of time that data took."""

    def __init__(self) -> None:
        self._steps: deque[tuple[float, int, float]] = deque([(time.monotonic(), 0, 0.0)])
        self._waited = 0.0

    def timed(self, items: Iterable[Item]) -> Iterator[Item]:
        """Iterate, and count the time until each item is there as waiting."""
        iterator = iter(items)
        while True:
            started = time.monotonic()
            item = next(iterator, None)
            self._waited += time.monotonic() - started
            if item is None:
                return
            yield item

    def count(self, windows: int) -> None:
        """A step with this many windows, over all processes, is done."""
        now = time.monotonic()
        self._steps.append((now, windows, self._waited))
        self._waited = 0.0
        while len(self._steps) > 2 and now - self._steps[0][0] > _RECENT_SECONDS:
            self._steps.popleft()

    def restart(self) -> None:
        """Forget the past, as after a validation."""
        self._steps = deque([(time.monotonic(), 0, 0.0)])
        self._waited = 0.0

    @property
    def _seconds(self) -> float:
        return max(1e-9, self._steps[-1][0] - self._steps[0][0])

    @property
    def samples_per_second(self) -> float:
        """Windows per second, over all processes."""
        return sum(windows for _, windows, _ in list(self._steps)[1:]) / self._seconds

    @property
    def data_wait(self) -> float:
        """Share of the time that this process waited for data."""
        return sum(waited for _, _, waited in list(self._steps)[1:]) / self._seconds


@dataclass(frozen=True, kw_only=True)
class Glance:
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
        self._glance: Glance | None = None
        self._next_line = 0.0
        self._live: Live | None = None
        if console is not None and console.is_terminal:
            self._live = Live(console=console, refresh_per_second=4, get_renderable=self._render)
            self._live.start()

    def show(self, glance: Glance) -> None:
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
