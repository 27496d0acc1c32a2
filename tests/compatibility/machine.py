"""What the bits of a computed result depend on: processor, its instructions, and libraries."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

_LIBRARIES = ("torch", "numpy", "scipy", "xarray", "zarr")


def processor() -> str:
    """Name and numbers of the processor's model, which choose the kernels of matrix products."""
    wanted = ("model name", "cpu family", "model", "stepping")
    found: dict[str, str] = {}
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.exists() else []:
        name, _, value = line.partition(":")
        if name.strip() in wanted:
            found.setdefault(name.strip(), value.strip())
    return " / ".join(found.get(name, "?") for name in wanted) if found else platform.processor()


def machine() -> dict[str, str]:
    """All of it, as plain values."""
    return {
        "processor": processor(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
    }


def rounds_alike(before: dict[str, str]) -> bool:
    """Whether this machine computes the same bits as the one described."""
    now = machine()
    names = ("processor", "torch_cpu_capability", "torch", "numpy", "scipy")
    return all(before[name] == now[name] for name in names)
