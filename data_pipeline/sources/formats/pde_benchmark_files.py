"""Layouts of public benchmarks of partial differential equations.

- PDEBench: HDF5 in several layouts, told apart by their names. ``tensor`` (sample, time, x) with
  ``x-coordinate`` and ``t-coordinate``; ``density``, ``pressure``, ``Vx``, ... (sample, time, x[,
  y]) of compressible flow; groups ``0000``, ``0001``, ... with ``data`` (time, x[, y], channel)
  and ``grid``; and Darcy flow, ``nu`` (sample, x, y) with ``tensor`` (sample, 1, x, y).
- The Well: HDF5 with the groups ``dimensions``, ``boundary_conditions`` and ``t0_fields``,
  ``t1_fields``, ``t2_fields`` for scalars, vectors and tensors.
- neuraloperator: Darcy flow as arrays ``x`` and ``y`` (sample, y, x), in .npz or .pt.

References:
    Takamoto et al., 2022, PDEBench, https://arxiv.org/abs/2210.07182.
    Ohana et al., 2024, The Well, https://arxiv.org/abs/2412.00568; its data format,
    https://polymathic-ai.org/the_well/data_format/.
    Kossaifi et al., 2024, A library for learning neural operators,
    https://arxiv.org/abs/2412.10354.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from data_pipeline.errors import InputError

DARCY = ("permeability", "pressure")
_Node = Any  # the types of h5py do not tell groups from arrays
_WELL_FIELDS = ("t0_fields", "t1_fields", "t2_fields")


@dataclass(frozen=True, kw_only=True)
class TrajectoryFile:
    """Trajectories of a file; the defaults are those of a steady problem.

    Args:
        path: Name of the file.
        variables: Names of the fields.
        count: Number of trajectories, of ``num_states`` each.
        y: Coordinates of the rows, increasing; a single one in one dimension.
        x: Coordinates of the columns, increasing.
        read: ``read(first, last)`` gives the values (trajectory, state, variable, y, x).
        time_step: Model time between states.
        periodic: Axes that close on themselves, such as "y x"; ``None`` if the file does not say.
        origin: Start of the domain along y and x, if that is known.
    """

    path: str
    variables: tuple[str, ...]
    count: int
    y: np.ndarray
    x: np.ndarray
    read: Callable[[int, int], np.ndarray]
    num_states: int = 2
    time_step: float = 1.0
    periodic: str | None = ""
    origin: tuple[float, float] | None = None


def _hdf5(path: str) -> _Node:
    return h5py.File(path)


def open_pdebench(path: str) -> TrajectoryFile:
    """Open a file of PDEBench.

    Raises:
        InputError: If it has another layout.
    """
    with _hdf5(path) as file:
        names = set(file)
        if {"nu", "tensor"} <= names and file["tensor"].shape[1] == 1:
            y, x = file["y-coordinate"][:], file["x-coordinate"][:]
            read, count = partial(_read_pdebench_darcy, path), len(file["nu"])
            return TrajectoryFile(path=path, variables=DARCY, count=count, y=y, x=x, read=read)
        if "tensor" in names and file["tensor"].ndim == 3:
            return _pdebench_series(path, file, ("tensor",))
        if "density" in names and file["density"].ndim in (3, 4):
            flow = ("density", "pressure", "Vx", "Vy")[: file["density"].ndim]
            return _pdebench_series(path, file, flow)
        groups = sorted(name for name in names if name.isdigit())
        if groups and "data" in file[groups[0]]:
            return _pdebench_series(path, file, groups=groups)
        message = f"{path} has {sorted(names)[:8]}, expected a layout of PDEBench in one or two "
        message += "dimensions: tensor (sample, time, x); density, pressure, Vx, Vy; groups 0000, "
        message += "0001, ... with data and grid; or nu and tensor of Darcy flow"
        raise InputError(message, code="other-layout")


def _read_pdebench_darcy(path: str, first: int, last: int) -> np.ndarray:
    with _hdf5(path) as file:
        coefficient, solution = file["nu"][first:last], file["tensor"][first:last, 0]
    return steady(coefficient.swapaxes(1, 2), solution.swapaxes(1, 2))


def _pdebench_series(
    path: str, file: _Node, names: tuple[str, ...] = (), groups: Sequence[str] = ()
) -> TrajectoryFile:
    """Trajectories of arrays (sample, time, x[, y]), or of groups with ``data`` and ``grid``."""
    if groups:
        data, axes = file[groups[0]]["data"], file[groups[0]]["grid"]
        count, num_states, flat, channels = len(groups), len(data), data.ndim == 3, data.shape[-1]
        variables = ("data",) if channels == 1 else tuple(f"data_{i}" for i in range(channels))
    else:
        (count, num_states), flat = file[names[0]].shape[:2], file[names[0]].ndim == 3
        axes = {axis: file[f"{axis}-coordinate"] for axis in ("tx" if flat else "txy")}
        variables = names
    return TrajectoryFile(
        path=path,
        variables=variables,
        count=count,
        num_states=num_states,
        y=np.zeros(1) if flat else axes["y"][:],
        x=axes["x"][:],
        time_step=_spacing(axes["t"][:]),
        periodic=None,
        read=partial(_read_pdebench_series, path, names, groups),
    )


def _read_pdebench_series(
    path: str, names: tuple[str, ...], groups: Sequence[str], first: int, last: int
) -> np.ndarray:
    with _hdf5(path) as file:
        if groups:  # (sample, time, x[, y], channel)
            samples = [file[group]["data"][:] for group in groups[first:last]]
            fields = np.moveaxis(np.stack(samples), -1, 2)
        else:
            fields = np.stack([file[name][first:last] for name in names], axis=2)
    return fields[..., None, :] if fields.ndim == 4 else fields.swapaxes(-1, -2)


def open_well(path: str) -> TrajectoryFile:
    """Open a file of The Well, in one or two Cartesian dimensions.

    Vectors and tensors are a variable for each component, such as velocity_x. Fields that do not
    vary along an axis, in time or with the trajectory are repeated.

    Raises:
        InputError: If it has another layout, or other dimensions.
    """
    with _hdf5(path) as file:
        if "dimensions" not in file or not set(_WELL_FIELDS) & set(file):
            message = f"{path} has {sorted(file)[:8]}, expected dimensions, t0_fields of The Well"
            raise InputError(message, code="other-layout")
        axes = [_text(name) for name in file["dimensions"].attrs["spatial_dims"]]
        kind = _text(file.attrs.get("grid_type", "cartesian"))
        if len(axes) > 2 or kind != "cartesian":
            message = f"{path} has the dimensions {axes} of a {kind} grid, expected one or two "
            raise InputError(message + "Cartesian dimensions", code="other-layout")
        closed = set()
        for boundary in file.get("boundary_conditions", {}).values():
            if _text(boundary.attrs["bc_type"]).lower() == "periodic":
                closed |= {_text(name) for name in boundary.attrs["associated_dims"]}
        y, x = _well_order(axes)
        periodic = {"y": y is None or axes[y] in closed, "x": axes[x] in closed}
        time = file["dimensions"]["time"][:]
        return TrajectoryFile(
            path=path,
            variables=tuple(name for _, name, _ in _well_components(file, axes)),
            count=int(file.attrs["n_trajectories"]),
            num_states=time.shape[-1],
            y=np.zeros(1) if y is None else _axis(file, axes[y]),
            x=_axis(file, axes[x]),
            time_step=_spacing(time.reshape(-1, time.shape[-1])[0]),
            periodic=" ".join(name for name, closes in periodic.items() if closes),
            read=partial(_read_well, path),
        )


def _axis(file: _Node, name: str) -> np.ndarray:
    """Points along an axis, which may be given for each trajectory."""
    points = file["dimensions"][name][:]
    return points.reshape(-1, points.shape[-1])[0]


def _well_order(axes: list[str]) -> tuple[int | None, int]:
    """Indices of y and x among the axes: x comes first, unless the names say otherwise."""
    if len(axes) == 1:
        return None, 0
    return (0, 1) if axes[1] == "x" or axes[0] == "y" else (1, 0)


def _well_components(file: _Node, axes: list[str]) -> list[tuple[str, str, tuple[int, ...]]]:
    """Path in the file, name and index of each component."""
    components = []
    for rank, group in enumerate(_WELL_FIELDS):
        if group not in file:
            continue
        for field in map(_text, file[group].attrs["field_names"]):
            for index in np.ndindex(*[len(axes)] * rank):
                suffix = "".join(axes[i] for i in index)
                name = f"{field}_{suffix}" if suffix else field
                components.append((f"{group}/{field}", name, index))
    return components


def _read_well(path: str, first: int, last: int) -> np.ndarray:
    with _hdf5(path) as file:
        axes = [_text(name) for name in file["dimensions"].attrs["spatial_dims"]]
        sizes = [len(_axis(file, name)) for name in axes]
        num_states = file["dimensions"]["time"].shape[-1]
        shape = (last - first, num_states, *sizes)
        fields = [
            np.broadcast_to(_well_field(file[field], index, first, last, len(axes)), shape)
            for field, _, index in _well_components(file, axes)
        ]
    stacked = np.stack(fields, axis=2)
    y, x = _well_order(axes)
    if y is None:
        return stacked[..., None, :]
    return stacked if y < x else stacked.swapaxes(-1, -2)


def _well_field(
    data: _Node, index: tuple[int, ...], first: int, last: int, num_axes: int
) -> np.ndarray:
    """A component with all axes (trajectory, time, ...), of length 1 where it does not vary.

    Some files leave out the axes in space along which a field does not vary, others have length 1.
    """
    of_sample, of_time = (bool(data.attrs[f"{name}_varying"]) for name in ("sample", "time"))
    values = data[first:last] if of_sample else data[:]
    values = values[(..., *index)]
    leading = [values.shape[0] if of_sample else 1]
    leading.append(values.shape[of_sample] if of_time else 1)
    space = values.shape[of_sample + of_time :]
    if len(space) < num_axes:
        sizes = iter(space)
        space = tuple(next(sizes) if flag else 1 for flag in data.attrs["dim_varying"])
    return values.reshape(*leading, *space)


def open_neuraloperator(path: str) -> TrajectoryFile:
    """Open Darcy flow of neuraloperator: x, where the medium is permeable, and y, the pressure.

    The points are i / n of the unit square.

    Raises:
        InputError: If it lacks the arrays.
    """
    coefficient, solution = _load_neuraloperator(path)
    if coefficient.ndim != 3 or coefficient.shape != solution.shape:
        message = f"{path} has x of shape {coefficient.shape} and y of shape {solution.shape}, "
        raise InputError(message + "expected both as (sample, y, x)", code="other-layout")
    count, rows, columns = coefficient.shape
    y, x, read = np.arange(rows) / rows, np.arange(columns) / columns, partial(_read_darcy, path)
    return TrajectoryFile(
        path=path, variables=DARCY, count=count, y=y, x=x, read=read, origin=(0.0, 0.0)
    )


def _read_darcy(path: str, first: int, last: int) -> np.ndarray:
    coefficient, solution = _load_neuraloperator(path)
    return steady(coefficient[first:last], solution[first:last])


def _load_neuraloperator(path: str) -> tuple[np.ndarray, np.ndarray]:
    data: Any
    if Path(path).suffix == ".npz":
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as archive:
            data = {name: archive[name] for name in archive if name in ("x", "y")}
    else:
        data = _load_tensors(path)
    if "x" not in data or "y" not in data:
        message = f"{path} has {list(data)}, expected the arrays x and y of Darcy flow"
        raise InputError(message, code="other-layout")
    x, y = (_real_numbers(data[name], f"{path}: {name}") for name in ("x", "y"))
    return (x[:, 0], y[:, 0]) if x.ndim == 4 and x.shape[1] == 1 else (x, y)


def _load_tensors(path: str) -> dict[str, Any]:
    """Contents of a file of ``torch.save``, tensors as arrays; 16-bit floats become float32."""
    import torch

    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except RuntimeError as error:  # of its zip archive
        raise OSError(str(error).splitlines()[0]) from error
    if not isinstance(data, Mapping):
        message = f"{path} holds {type(data).__name__}, expected x and y by name, of Darcy flow"
        raise InputError(message, code="other-layout")
    arrays = {}
    for name, value in data.items():
        if isinstance(value, torch.Tensor) and value.layout is torch.strided:
            exact = value.float() if value.is_floating_point() and value.itemsize < 4 else value
            value = exact if value.is_quantized else exact.detach().numpy()
        arrays[str(name)] = value
    return arrays


def _real_numbers(values: Any, name: str) -> np.ndarray:  # noqa: ANN401
    kind = getattr(values, "dtype", type(values).__name__)
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise InputError(f"{name} is of type {kind}, expected real numbers", code="other-layout")
    return values.astype(np.float32)


def steady(coefficient: np.ndarray, solution: np.ndarray) -> np.ndarray:
    """Trajectories of two states: the solution is 0, then complete; both hold the coefficient."""
    before = np.stack([coefficient, np.zeros_like(solution)], axis=1)
    after = np.stack([coefficient, solution], axis=1)
    return np.stack([before, after], axis=1)


def _spacing(times: np.ndarray) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else 1.0


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
