"""Simulated trajectories of an equation as a canonical dataset, made block by block.

A planar dataset has the dimensions (time, y, x), points in lengths of the problem, and the
attributes ``periodic`` (axes that close on themselves, such as "y x"), ``extent_y``, ``extent_x``
and those of ``trajectory_times``. In one dimension y has one point. ``trajectories`` describes the
time axis.

A steady problem is a trajectory of two states: the coefficient is in both, the solution is 0 in the
first and complete in the second.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict

import dask.array as da
import numpy as np
import torch
import xarray as xr
from dask.delayed import delayed

from data_pipeline.errors import InputError
from data_pipeline.files.progress import track
from data_pipeline.memory import require_memory
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.darcy import Darcy, solve_darcy
from data_pipeline.simulation.fourier import (
    Deriving,
    Equation,
    FourierGrid,
    SpectralStepper,
    change_resolution,
)
from data_pipeline.simulation.registry import build_equation

_BLOCK_BYTES = 64 * 2**20
_EAGER_BYTES = 2**30
_LEAST_BLOCKS = 16
_WORK_ARRAYS = 16  # of the size of a state, in a step


def simulate_equation(
    config: PDEConfig, device: str | None = None, *, lazy: bool | None = None
) -> xr.Dataset:
    """Simulate and return a canonical dataset, float32, the trajectories one after the other.

    Args:
        config: The equation and its trajectories.
        device: By default the GPU of the machine that computes, if it has one.
        lazy: Whether the values are computed when they are read, a block of trajectories at a time,
            instead of at once, with a progress bar. By default, where they take more than 1 GiB.

    Raises:
        InputError: If the equation cannot be found or the trajectories do not fit on the time axis;
            on reading, if a solution becomes infinite.
    """
    equation, times = build_equation(config), config.times()
    names = saved_variables(equation)
    shape = (times.size, len(names), *config.saved_shape)
    if lazy is None:
        lazy = 4 * math.prod(shape) > _EAGER_BYTES
    saved = 4 * times.shape[1] * math.prod(shape[1:])
    work = 8 * _WORK_ARRAYS * len(names) * math.prod(config.shape)
    require_memory(
        saved + work,
        f"a trajectory of {config.num_steps} steps on {' x '.join(map(str, config.shape))} points",
        "lower data.pde.num_steps, resolution or saved_resolution",
    )
    numbers = list(range(len(times)))
    size = max(1, min(-(-len(times) // _LEAST_BLOCKS), _BLOCK_BYTES // (saved + work)))
    blocks = [numbers[first : first + size] for first in numbers[::size]]
    if lazy:
        solve_later, lengths = delayed(_solve_block), [len(b) * times.shape[1] for b in blocks]
        series = da.concatenate(
            [
                da.from_delayed(solve_later(config, block, device), (n, *shape[1:]), np.float32)
                for n, block in zip(lengths, blocks, strict=True)
            ]
        )
    else:
        tracked = track(blocks, "Simulating (blocks)")
        series = np.concatenate([_solve_block(config, block, device) for block in tracked])
    data = {
        name: (("time", "y", "x"), series[:, index], {"units": "1"})
        for index, name in enumerate(names)
    }
    if isinstance(equation, Darcy):
        y, x = (equation.points(count) for count in config.saved_shape)
        extent, periodic = (1.0, 1.0), ""
    else:
        grid = FourierGrid(config.saved_shape, equation.extent, degree=1)
        y, x, extent, periodic = grid.y, grid.x, grid.extent, "y x"
    coords = {name: (name, points, {"units": "1"}) for name, points in (("y", y), ("x", x))}
    dataset = xr.Dataset(data, {"time": times.ravel(), **coords})
    dataset.attrs = {
        "Conventions": "CF-1.8",
        "title": config.equation,
        "source": "data_pipeline.pde",
        "config": json.dumps(asdict(config)),
        "periodic": periodic,
        "extent_y": extent[0],
        "extent_x": extent[1],
    }
    dataset.attrs |= config.trajectory_times.attrs
    return dataset


def saved_variables(equation: Darcy | Equation) -> tuple[str, ...]:
    """Names of the fields of a state, and of those that follow from it."""
    derived = equation.derived if isinstance(equation, Deriving) else ()
    return (*equation.variables, *derived)


def solve(config: PDEConfig, trajectories: list[int], device: str | None = None) -> np.ndarray:
    """Some trajectories; each is the same in whatever company.

    Args:
        config: Their equation.
        trajectories: Their numbers, training first, then validation, then test.
        device: By default the GPU, if there is one.

    Returns:
        float32 of shape (trajectory, state, variable, y, x), see ``saved_variables``.

    Raises:
        InputError: If a solution becomes infinite.
    """
    return solve_on(config, trajectories, [config.saved_shape], device)[config.saved_shape]


def solve_on(
    config: PDEConfig,
    trajectories: Sequence[int],
    shapes: Sequence[tuple[int, int]],
    device: str | None = None,
) -> dict[tuple[int, int], np.ndarray]:
    """``solve`` once, sampled on several numbers of points along y and x."""
    equation, seeds = build_equation(config), config.seeds()
    generators = [np.random.default_rng(seeds[index]) for index in trajectories]
    size = (len(generators), config.num_steps + 1, len(saved_variables(equation)))
    series = {shape: np.empty((*size, *shape), np.float32) for shape in shapes}
    if isinstance(equation, Darcy):
        for index, rng in enumerate(generators):
            a = equation.permeability(config.shape, rng)
            u = solve_darcy(a)
            states = np.array([[a, 0 * u], [a, u]], np.float32)
            for shape, fields in series.items():
                rows, columns = ((n - 1) // (m - 1) for n, m in zip(a.shape, shape, strict=True))
                fields[index] = states[..., ::rows, ::columns]
        return series
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    settings = {"degree": equation.degree, "dtype": getattr(torch, config.dtype)}
    grid = FourierGrid(config.shape, equation.extent, device=device, **settings)
    stepper = SpectralStepper(equation, grid, config.timestep / config.substeps)
    state = torch.stack([equation.initial(grid, rng) for rng in generators])
    state = stepper.advance(state, config.spinup_steps * config.substeps)
    for index in range(config.num_steps + 1):
        if index:
            state = stepper.advance(state, config.substeps)
        saved = state
        if isinstance(equation, Deriving):
            saved = torch.cat([state, equation.derive(grid, state)], dim=1)
        for shape, fields in series.items():
            with np.errstate(over="ignore"):  # overflow is rejected afterwards
                fields[:, index] = change_resolution(saved, grid, shape).cpu().numpy()
    for fields in series.values():
        infinite = ~np.isfinite(fields).all(axis=(1, 2, 3, 4))
        if infinite.any():
            raise InputError(
                f"trajectory {trajectories[int(np.argmax(infinite))]} of {config.equation} became "
                f"infinite; raise data.pde.substeps, now {config.substeps}",
                code="unstable-solver",
            )
    return series


def _solve_block(config: PDEConfig, trajectories: list[int], device: str | None) -> np.ndarray:
    fields = solve(config, trajectories, device)
    return fields.reshape(-1, *fields.shape[2:])
