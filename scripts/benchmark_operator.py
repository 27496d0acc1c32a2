"""Time and memory of the mixers by number of tokens, and their share of the GEMM limit.

    python -m scripts.benchmark_operator --output docs/images/operator.png

Medians of interleaved repeats of forward and backward in one process. The limit of a mixer is the
time of its matrix products (as torch counts them) at the rate of a large product of the same type
measured between them; Fourier transforms and pointwise parts have no share in it. Memory is what
autograd keeps for the backward pass.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.fourcastnet import FourCastNetFilter
from fourcastnet_afno.models.mixers import AFNO, SelfAttention

_ATTENTION_TOKENS = 20_000  # more would take minutes on a CPU


def benchmark(
    embed_dim: int = 256,
    num_blocks: int = 8,
    rows: tuple[int, ...] = (23, 45, 90, 181),
    repeats: int = 5,
    device: str = "cpu",
    output: Path | None = None,
) -> None:
    """Measure grids of ``rows`` x ``2 rows`` tokens and print a table.

    Args:
        embed_dim: Channels of a token.
        num_blocks: Diagonal blocks of AFNO, heads of the attention.
        rows: Rows of each token grid.
        repeats: Interleaved repeats; the median counts.
        device: Torch device.
        output: Where to draw a log-log plot.
    """
    mixers = build_mixers(embed_dim, num_blocks, device)
    results: dict[str, dict[int, dict[str, float]]] = {name: {} for name in mixers}
    for height in rows:
        tokens = torch.randn(1, height, 2 * height, embed_dim, device=device, requires_grad=True)
        count = height * 2 * height
        measured = {
            name: mixer
            for name, mixer in mixers.items()
            if name != "attention" or count <= _ATTENTION_TOKENS
        }
        for name, record in measure(measured, tokens, repeats).items():
            results[name][count] = record
    console = Console(soft_wrap=True)
    console.print(describe(device))
    console.print(results_table(results))
    for name, records in results.items():
        time_power, memory_power = (exponent(records, key) for key in ("seconds", "bytes"))
        console.print(f"{name}: time ~ tokens^{time_power:.2f}, memory ~ tokens^{memory_power:.2f}")
    if output is not None:
        draw(results).savefig(output, dpi=100)


def build_mixers(embed_dim: int, num_blocks: int, device: str) -> dict[str, nn.Module]:
    """Ours, the baseline and attention by name."""
    torch.manual_seed(0)
    reference = AFNO(embed_dim, num_blocks, mode_selection="fourcastnet")
    mixers = {
        "AFNO": AFNO(embed_dim, num_blocks),
        "FourCastNet formulation": FourCastNetFilter(reference),
        "attention": SelfAttention(embed_dim, num_blocks),
    }
    return {name: mixer.to(device) for name, mixer in mixers.items()}


def measure(
    mixers: dict[str, nn.Module], tokens: Tensor, repeats: int
) -> dict[str, dict[str, float]]:
    """Seconds of forward and backward, kept bytes, and share of the GEMM limit by mixer."""
    gradient = torch.randn_like(tokens)
    square = torch.rand(2, 2048, 2048, device=tokens.device)

    def step(mixer: nn.Module) -> None:
        mixer(tokens).backward(gradient)

    calls: dict[str, Callable[[], object]] = {
        name: lambda mixer=mixer: step(mixer) for name, mixer in mixers.items()
    }
    calls["gemm"] = lambda: square[0] @ square[1]
    times: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            seconds = timed(call, tokens.device)
            if repeat:  # the first round warms up
                times[name].append(seconds)
    rate = 2 * 2048**3 / statistics.median(times["gemm"])
    records = {}
    for name, mixer in mixers.items():
        seconds = statistics.median(times[name])
        with FlopCounterMode(display=False) as counter:
            step(mixer)
        share = counter.get_total_flops() / rate / seconds
        records[name] = {"seconds": seconds, "bytes": kept_bytes(mixer, tokens), "share": share}
    return records


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, with the device idle before and after."""
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    synchronize()
    started = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - started


def kept_bytes(mixer: nn.Module, tokens: Tensor) -> float:
    """Bytes of the storages that autograd keeps, without parameters and the input."""
    known = {p.untyped_storage().data_ptr() for p in [*mixer.parameters(), tokens]}
    kept: dict[int, int] = {}
    alive = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        mixer(tokens)
    return float(sum(kept.values()))


def exponent(records: dict[int, dict[str, float]], key: str) -> float:
    """Slope of a straight line through the logarithms."""
    counts = np.log(list(records))
    values = np.log([record[key] for record in records.values()])
    return float(np.polyfit(counts, values, 1)[0])


def describe(device: str) -> str:
    """Where this runs."""
    name = f"{torch.get_num_threads()} threads"
    if device == "cuda":
        name = torch.cuda.get_device_name()
    return f"torch {torch.__version__}, {name}, float32, forward and backward, batch 1"


def results_table(results: dict[str, dict[int, dict[str, float]]]) -> Table:
    """A row for each number of tokens."""
    heads = [f"{name} {what}" for name in results for what in ("ms", "MiB", "limit")]
    table = Table("tokens", *heads)
    for count in next(iter(results.values())):
        cells = []
        for records in results.values():
            cells += _cells(records[count]) if count in records else ["", "", ""]
        table.add_row(str(count), *cells)
    return table


def _cells(record: dict[str, float]) -> list[str]:
    milliseconds, mebibytes = 1e3 * record["seconds"], record["bytes"] / 2**20
    return [f"{milliseconds:.1f}", f"{mebibytes:.0f}", f"{100 * record['share']:.0f} %"]


def draw(results: dict[str, dict[int, dict[str, float]]]) -> Figure:
    """Time and memory against tokens, log-log."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, key, scale, label in (
        (axes[0], "seconds", 1e3, "forward + backward [ms]"),
        (axes[1], "bytes", 2.0**-20, "kept for backward [MiB]"),
    ):
        for name, records in results.items():
            values = [scale * record[key] for record in records.values()]
            axis.loglog(list(records), values, marker="o", label=name)
        axis.set_xlabel("tokens")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3, which="both")
    axes[0].legend(frameon=False)
    return figure


if __name__ == "__main__":
    auto_cli(benchmark)
