"""Versions, commit and peak memory, which artifacts and reports record."""

import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch


def peak_memory_gib(device: torch.device | None = None) -> float:
    """Largest memory so far: of a GPU what torch has held, else this process's resident memory."""
    if device is not None and device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2 ** (30 if sys.platform == "darwin" else 20)


@cache
def versions() -> dict[str, str]:
    """Versions of everything that can change a result, and the commit where there is one."""
    packages = ("fourcastnet-afno", "torch", "numpy", "xarray", "zarr")
    record = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    root = Path(__file__).resolve().parent.parent
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=10"]
    if (root / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            process = subprocess.run(command, capture_output=True, text=True, check=True)
            record["commit"] = process.stdout.strip()
    return record
