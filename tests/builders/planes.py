"""Small exact solutions on planes, as canonical datasets of trajectories."""

from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.sources.config import SourceConfig

TORUS = PlaneGrid.regular(8, 12, extent=(2.0, 3.0))
SQUARE = PlaneGrid.regular(8, 8, periodic=())
_STARTS = ("2001-01-01", "2101-01-01", "2201-01-01")


def trajectory_times(counts: tuple[int, int, int], length: int) -> np.ndarray:
    """Times (trajectory, step) of trajectories for training, validation and test, a day apart."""
    days = 1 + length // 24
    starts = [
        np.datetime64(start, "ns") + days * np.arange(count) * np.timedelta64(1, "D")
        for start, count in zip(_STARTS, counts, strict=True)
    ]
    return np.concatenate(starts)[:, None] + np.arange(length) * np.timedelta64(1, "h")


def make_advection(
    grid: PlaneGrid = TORUS, counts: tuple[int, int, int] = (6, 2, 3), length: int = 8
) -> xr.Dataset:
    """Random waves that drift and decay, u_t + c grad u = nu laplace u, solved exactly."""
    rng = np.random.default_rng(0)
    times, steps = trajectory_times(counts, length), np.arange(length)
    y, x = np.meshgrid(*grid.coords.values(), indexing="ij")
    fields = np.zeros((len(times), length, *grid.shape))
    for k in range(3):
        for m in range(3):
            wave_y, wave_x = (
                2 * np.pi * n / extent for n, extent in zip((k, m), grid.extent, strict=True)
            )
            amplitude = rng.standard_normal((2, len(times))) / (1 + k + m)
            phase = wave_y * y + wave_x * x
            turn = (0.1 * wave_y + 0.2 * wave_x) * steps
            decay = np.exp(-0.003 * (wave_y**2 + wave_x**2) * steps)
            moved = phase - turn[:, None, None]
            both = np.stack([np.cos(moved), np.sin(moved)]) * decay[:, None, None]
            fields += np.einsum("cn,ctyx->ntyx", amplitude, both)
    return _dataset({"tracer": fields.reshape(-1, *grid.shape)}, times.ravel(), grid)


def make_steady(grid: PlaneGrid = SQUARE, counts: tuple[int, int, int] = (24, 6, 6)) -> xr.Dataset:
    """Poisson's equation with zero boundaries: a random source, and 0 and then its solution."""
    rng = np.random.default_rng(1)
    times = trajectory_times(counts, 2)
    y, x = np.meshgrid(*grid.coords.values(), indexing="ij")
    source = np.zeros((len(times), *grid.shape))
    solution = np.zeros_like(source)
    for k in range(1, 4):
        for m in range(1, 4):
            wave = np.sin(np.pi * k * y) * np.sin(np.pi * m * x)
            amplitude = rng.standard_normal(len(times))[:, None, None] + (k == m == 1)
            source += amplitude * wave
            solution += amplitude * wave / (k**2 + m**2)
    pairs = {
        "source": np.stack([source, source], axis=1),
        "solution": np.stack([np.zeros_like(solution), solution], axis=1),
    }
    flat = {name: values.reshape(-1, *grid.shape) for name, values in pairs.items()}
    return _dataset(flat, times.ravel(), grid)


def make_plane_config(path: Path, prognostic: list[str], **changes: object) -> DataConfig:
    """A configuration for these datasets, written to ``path``."""
    settings: dict = {
        "source": SourceConfig(path=str(path)),
        "prognostic": prognostic,
        "timestep_hours": 1,
        "allow_gaps": True,
        "climatology_harmonics": 0,
        "train": Period(start="2001-01-01", end="2100-12-31"),
        "validation": Period(start="2101-01-01", end="2200-12-31"),
        "test": Period(start="2201-01-01", end="2261-12-31"),
    }
    return DataConfig(**(settings | changes))


def _dataset(fields: dict[str, np.ndarray], times: np.ndarray, grid: PlaneGrid) -> xr.Dataset:
    return xr.Dataset(
        {name: (("time", *grid.dims), values.astype("f4")) for name, values in fields.items()},
        coords={"time": times, **grid.coords},
        attrs=grid.attrs,
    )
