"""Fourier transforms by matrix products and by FFT: the costs behind ``transform="auto"``.

    python -m benchmarks.benchmark_transforms

Times are given as the operations of a large float32 product that take as long, for each value of
the grid. ``transform="auto"`` assumes that this number is the same for FFTs of all grids.
"""

import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from benchmarks.timing import describe, large_product, median_seconds, rate_of
from fourcastnet_afno.models.config import TransformKind
from fourcastnet_afno.models.fourier.transforms import (
    ModeSelection,
    Transform,
    matrix_operations,
    transform_for,
)

_VALUES = 2**21


def benchmark(
    rows: tuple[int, ...] = (16, 32, 45, 64, 90, 128, 180, 256, 361),
    fraction: float = 1.0,
    repeats: int = 7,
    device: str = "cpu",
) -> None:
    """Measure grids of ``rows`` x ``2 rows`` and print a table.

    Args:
        rows: Rows of each grid.
        fraction: Share of the wavenumbers that the transform has.
        repeats: Interleaved repeats; the median counts.
        device: Torch device.
    """
    table = Table("grid", "operations", "matrix", "FFT", title="by value of the grid")
    for height in rows:
        shape = (height, 2 * height)
        channels = max(16, min(96, _VALUES // (2 * height * height) // 16 * 16))
        calls, transforms = {"product": large_product(device)}, {}
        for kind in ("matrix", "fft"):
            transforms[kind] = build(kind, shape, channels, fraction, device)
            calls[kind] = round_trip(transforms[kind], shape, channels, device)
        times = median_seconds(calls, repeats, device)
        unit = rate_of(times["product"], device) / 2 / (_batch(shape, channels) * channels)
        equivalents = [f"{times[k] * unit / (shape[0] * shape[1]):.0f}" for k in ("matrix", "fft")]
        operations = matrix_operations(transforms["matrix"].kept, shape)
        table.add_row(f"{shape[0]} x {shape[1]}", f"{operations:.0f}", *equivalents)
    console = Console(soft_wrap=True)
    console.print(describe(device))
    console.print(table)


def build(
    kind: TransformKind, shape: tuple[int, int], channels: int, fraction: float, device: str
) -> Transform:
    """A transform of the given kind."""
    spectrum = ModeSelection(transform=kind, fraction=fraction).to_json()
    return transform_for(spectrum, shape, channels, torch.float32, torch.device(device))


def round_trip(transform: Transform, shape: tuple[int, int], channels: int, device: str):  # noqa: ANN201
    """Tokens to modes and back."""
    tokens = torch.randn(_batch(shape, channels), *shape, channels, device=device)
    output, all_channels = torch.empty_like(tokens), slice(0, channels)

    def call() -> None:
        modes = transform.to_modes(tokens, all_channels)
        transform.add_to_grid(modes, tokens, output, all_channels)

    return call


def _batch(shape: tuple[int, int], channels: int) -> int:
    return max(1, _VALUES // (shape[0] * shape[1] * channels))


if __name__ == "__main__":
    auto_cli(benchmark)
