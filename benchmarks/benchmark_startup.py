"""Processor time until the command line answers: help, the help of each verb, an unknown verb.

    python -m benchmarks.benchmark_startup

Every command is a process of its own. Processor seconds, unlike those of the clock, hardly depend
on what else the machine does; the first start after an installation, which compiles, is left out.
"""

import os
import subprocess
import sys
from statistics import median

from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.timing import describe
from fourcastnet_afno.cli.verbs import VERBS

_HEAVY = ("torch", "xarray", "dask.array", "scipy", "matplotlib")


def benchmark(repeats: int = 5) -> None:
    """Start the commands and print a table.

    Args:
        repeats: Starts of each command; the median counts.
    """
    commands = [["--help"], *([verb, "--help"] for verb in VERBS), ["forcast"]]
    table = Table("command", "processor seconds", "imports", title="fourcastnet-afno")
    for words in commands:
        run(words)
        times = [run(words) for _ in range(repeats)]
        table.add_row(" ".join(words), f"{median(times):.2f}", ", ".join(heavy_imports(words)))
    console = Console(soft_wrap=True)
    console.print(describe("cpu"))
    console.print(table)


def run(words: list[str]) -> float:
    """Processor seconds of a command, those of the system included."""
    command = [sys.executable, "-m", "fourcastnet_afno", *words]
    before = os.times()
    subprocess.run(command, capture_output=True)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])  # of children that have ended


def heavy_imports(words: list[str]) -> list[str]:
    """Large packages that a command imports."""
    command = [sys.executable, "-X", "importtime", "-m", "fourcastnet_afno", *words]
    lines = subprocess.run(command, capture_output=True, text=True).stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines}
    return [name for name in _HEAVY if name in imported]


if __name__ == "__main__":
    auto_cli(benchmark)
