"""Time and memory of the mixers and of training steps, and their share of the GEMM limit.

    python -m benchmarks.benchmark_operator mixers --output docs/images/operator.png
    python -m benchmarks.benchmark_operator networks --output docs/images/training_step.png
    python -m benchmarks.benchmark_operator steps

Times are medians of interleaved repeats in one process. The GEMM limit is the time of all matrix
products at the rate of a large product of the same type, which is measured between the calls; FFTs
and pointwise operations do not count. Memory is what autograd keeps for the backward pass. The
FourCastNet formulation (``benchmarks.fourcastnet``) mixes about half of the wavenumbers that AFNO
mixes; "AFNO, same modes" mixes the same ones. "kernel" is AFNO with weights for each wavenumber
(``wavenumber_weights: kernel``). "no mixer" is the step without the cost of mixers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.fourcastnet import FourCastNetFilter, as_fourcastnet, without_mixers
from benchmarks.memory import kept_bytes
from benchmarks.timing import count_operations, describe, large_product, median_seconds, rate_of
from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Output, check_outputs, read_head, read_tail
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.models.mixers import AFNO, SelfAttention, WavenumberAFNO

_ATTENTION_TOKENS = 20_000  # more would take minutes on a CPU
_Records = dict[str, dict[int, dict[str, float]]]
_Module = TypeVar("_Module", bound=nn.Module)


def mixers(
    embed_dim: int = 256,
    num_blocks: int = 8,
    rows: tuple[int, ...] = (23, 45, 90, 181),
    repeats: int = 5,
    device: str = "cpu",
    attention: bool = True,
    processor_time: bool = False,
    output: Path | None = None,
) -> None:
    """Forward and backward of one mixer on ``rows`` x ``2 rows`` tokens, float32, batch 1.

    Args:
        embed_dim: Channels of a token.
        num_blocks: Diagonal blocks of AFNO, heads of the attention.
        rows: Rows of each token grid.
        repeats: Interleaved repeats; the median counts.
        device: Torch device.
        attention: Whether to measure attention too.
        processor_time: Whether to measure time of the processor, on machines that others use too.
        output: Where to draw a log-log plot.
    """
    modules = build_mixers(embed_dim, num_blocks, device)
    if not attention:
        del modules["attention"]

    def measure(selected: dict[str, nn.Module], height: int) -> dict[str, dict[str, float]]:
        tokens = torch.randn(1, height, 2 * height, embed_dim, device=device, requires_grad=True)
        clock = time.process_time if processor_time else time.perf_counter
        return measure_mixers(selected, tokens, repeats, device, clock)

    by_tokens(modules, rows, measure, device, output)


def by_tokens(
    modules: Mapping[str, _Module],
    rows: Sequence[int],
    measure: Callable[[dict[str, _Module], int], dict[str, dict[str, float]]],
    device: str,
    output: Path | None,
) -> None:
    """Measure modules on grids of ``rows`` x ``2 rows`` tokens, report, and draw to ``output``."""
    if output is not None:
        check_outputs([Output(output, "a plot", _is_plot, is_certain=True)], {})
    results: _Records = {name: {} for name in modules}
    for height in rows:
        count = height * 2 * height
        selected = {
            name: module
            for name, module in modules.items()
            if name != "attention" or count <= _ATTENTION_TOKENS
        }
        for name, record in measure(selected, height).items():
            results[name][count] = record
    report(results, device)
    if output is not None:
        with replacing(output) as temporary:
            draw(results).savefig(temporary, dpi=100, format=output.suffix[1:] or "png")


def _is_plot(path: Path) -> bool:
    return b"atplotlib" in read_head(path) + read_tail(path)


def build_mixers(embed_dim: int, num_blocks: int, device: str) -> dict[str, nn.Module]:
    """AFNO, its baseline and attention by name."""
    torch.manual_seed(0)
    same = AFNO(embed_dim, num_blocks, mode_selection="fourcastnet")
    modules = {
        "AFNO": AFNO(embed_dim, num_blocks),
        "AFNO, same modes": same,
        "kernel": WavenumberAFNO(embed_dim, num_blocks),
        "kernel, same modes": WavenumberAFNO(embed_dim, num_blocks, mode_selection="fourcastnet"),
        "FourCastNet formulation": FourCastNetFilter(same),
        "attention": SelfAttention(embed_dim, num_blocks),
    }
    return {name: module.to(device) for name, module in modules.items()}


def measure_mixers(
    modules: dict[str, nn.Module],
    tokens: Tensor,
    repeats: int,
    device: str,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Seconds of forward and backward, kept bytes, and share of the GEMM limit by mixer."""
    gradient = torch.randn_like(tokens)
    calls = {
        name: lambda m=module: m(tokens).backward(gradient) for name, module in modules.items()
    }
    return measure_calls(modules, calls, tokens, large_product(device), repeats, clock)


def measure_calls(
    modules: Mapping[str, nn.Module],
    calls: Mapping[str, Callable[[], object]],
    inputs: Tensor,
    product: Callable[[], object],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, dict[str, float]]:
    """Seconds of the modules' calls, bytes kept for ``inputs``, and share of the GEMM limit."""
    device = inputs.device.type
    times = median_seconds({**calls, "product": product}, repeats, device, clock=clock)
    records = {}
    for name, module in modules.items():
        operations = count_operations(calls[name])
        records[name] = {
            "seconds": times[name],
            "bytes": kept_bytes(module, lambda m=module: m(inputs), inputs),
            "share": operations / rate_of(times["product"], device) / times[name],
        }
    return records


def networks(
    embed_dim: int = 256,
    depth: int = 2,
    rows: tuple[int, ...] = (23, 45, 90, 181),
    repeats: int = 3,
    device: str = "cpu",
    bfloat16: bool = False,
    output: Path | None = None,
) -> None:
    """Forward, backward and AdamW of networks of 20 channels on ``rows`` x ``2 rows`` patches.

    Args:
        embed_dim: Channels of a token.
        depth: Blocks.
        rows: Rows of each token grid; a patch has 4 x 4 cells.
        repeats: Interleaved repeats; the median counts.
        device: Torch device.
        bfloat16: Whether to train under autocast to bfloat16.
        output: Where to draw a log-log plot.
    """
    config = {"patch_size": (4, 4), "embed_dim": embed_dim, "depth": depth}
    built = build_networks(config, 20, device)

    def measure(selected: dict[str, AFNONet], height: int) -> dict[str, dict[str, float]]:
        shape = (1, 20, 4 * height, 8 * height)
        return measure_steps(selected, shape, repeats, device, bfloat16)

    by_tokens(built, rows, measure, device, output)


def steps(repeats: int = 7, device: str = "cpu", bfloat16: bool = False) -> None:
    """Forward, backward and AdamW of two networks of common sizes, with 20 channels.

    Args:
        repeats: Interleaved repeats; the median counts.
        device: Torch device.
        bfloat16: Whether to train under autocast to bfloat16.
    """
    cases = {
        "180 x 360, patch 4, embed 384, depth 4, batch 1": ((1, 20, 180, 360), 384, 4),
        "64 x 128, patch 4, embed 256, depth 6, batch 8": ((8, 20, 64, 128), 256, 6),
    }
    console = Console(soft_wrap=True)
    console.print(describe(device))
    for title, (shape, embed_dim, depth) in cases.items():
        config = {"patch_size": (4, 4), "embed_dim": embed_dim, "depth": depth}
        built = build_networks(config, shape[1], device)
        del built["attention"]
        built["no mixer"] = without_mixers(built["AFNO"])
        console.print(title)
        for name, record in measure_steps(built, shape, repeats, device, bfloat16).items():
            console.print(f"  {name}: {_cell(record)} of the limit")


def build_networks(config: dict, channels: int, device: str) -> dict[str, AFNONet]:
    """Networks with AFNO, its baseline and attention as mixers, by name."""
    torch.manual_seed(0)
    options = {
        "AFNO": {},
        "AFNO, same modes": {"mode_selection": "fourcastnet"},
        "attention": {"mixer": "attention"},
    }
    built = {
        name: AFNONet(channels, channels, config=AFNONetConfig(**config, **option))
        for name, option in options.items()
    }
    built["FourCastNet formulation"] = as_fourcastnet(built["AFNO, same modes"])
    return {name: network.to(device) for name, network in built.items()}


def measure_steps(
    built: dict[str, AFNONet], shape: tuple[int, ...], repeats: int, device: str, bfloat16: bool
) -> dict[str, dict[str, float]]:
    """Seconds of training steps, kept bytes, and share of the GEMM limit by network."""
    state, target = torch.randn(2, *shape, device=device)
    calls = {name: _training_step(net, state, target, bfloat16) for name, net in built.items()}
    product = large_product(device, torch.bfloat16 if bfloat16 else torch.float32)
    return measure_calls(built, calls, state, product, repeats)


def _training_step(network: AFNONet, state: Tensor, target: Tensor, bfloat16: bool):  # noqa: ANN202
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step() -> None:
        with torch.autocast(state.device.type, torch.bfloat16, enabled=bfloat16):
            output = network(state)
        (output.float() - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def report(results: _Records, device: str) -> None:
    """Print a table, and the exponents of time and memory in the number of tokens."""
    console = Console(soft_wrap=True, width=160)
    console.print(describe(device))
    table = Table("tokens", *results)
    for count in next(iter(results.values())):
        cells = [records.get(count) for records in results.values()]
        table.add_row(str(count), *(_cell(record) if record else "" for record in cells))
    console.print(table)
    for name, records in results.items() if len(table.rows) > 1 else []:
        time_power, memory_power = (exponent(records, key) for key in ("seconds", "bytes"))
        console.print(f"{name}: time ~ tokens^{time_power:.2f}, memory ~ tokens^{memory_power:.2f}")


def exponent(records: dict[int, dict[str, float]], key: str) -> float:
    """Slope of a straight line through the logarithms."""
    counts = np.log(list(records))
    values = np.log([record[key] for record in records.values()])
    return float(np.polyfit(counts, values, 1)[0])


def _cell(record: dict[str, float]) -> str:
    milliseconds, mebibytes = 1e3 * record["seconds"], record["bytes"] / 2**20
    return f"{milliseconds:.1f} ms, {mebibytes:.0f} MiB, {100 * record['share']:.0f} %"


def draw(results: _Records) -> Figure:
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
    auto_cli([mixers, networks, steps])
