"""Small files in the layouts of public benchmarks of differential equations.

The layouts are those that the readers of their publishers expect (PDEBench: pdebench/models/fno/
utils.py; The Well: docs/data_format.md; neuraloperator: neuralop/data/datasets/darcy.py).
"""

from pathlib import Path

import h5py
import numpy as np
import xarray as xr

from data_pipeline.simulation.trajectories import Splits, trajectory_start_times
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import BenchmarkConfig, SourceConfig

SPLITS = Splits(train=2, validation=1, test=1)
NX, NY, NT = 6, 5, 3


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def centers(count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def make_hdf5(path: Path, **arrays: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/").replace("_coordinate", "-coordinate")] = values


def read_benchmark(
    paths: Path | list[Path],
    layout: str,
    periodic: list[str] | None = None,
    time_units: str | None = None,
    **options: object,
) -> xr.Dataset:
    benchmark = BenchmarkConfig(
        layout=layout,  # type: ignore[arg-type]
        **({"trajectories": SPLITS} | options),  # type: ignore[arg-type]
    )
    path = [str(path) for path in paths] if isinstance(paths, list) else str(paths)
    settings = {"periodic": periodic, "time_units": time_units}
    return open_source(SourceConfig(path=path, benchmark=benchmark, **settings)).compute()


def check_trajectories(dataset: xr.Dataset, name: str, expected: np.ndarray) -> None:
    """That a variable has the values (trajectory, state, y, x) of the file."""
    times = trajectory_start_times(SPLITS, expected.shape[1])
    np.testing.assert_array_equal(dataset["time"], times.ravel())
    assert dataset[name].dims == ("time", "y", "x")
    assert (dataset[name].dtype, dataset[name].attrs["units"]) == (np.float32, "1")
    flat = expected.reshape(-1, *expected.shape[2:])
    np.testing.assert_array_equal(dataset[name], flat)


def make_well(path: Path, count: int = 4, axes: tuple[str, ...] = ("x", "y")) -> dict:
    """A file of The Well: scalars, one constant in time, two of x alone; a vector, a tensor."""
    sizes = [NX, NY][: len(axes)]
    rank = len(axes)
    fields = {
        "t0_fields/density": (draw(count, NT, *sizes), True, True, [True] * rank),
        "t0_fields/viscosity": (draw(count, *sizes), True, False, [True] * rank),
        "t0_fields/depth": (draw(NX), False, False, [True, False][:rank]),
        "t0_fields/slope": (draw(NX, *[1][: rank - 1]), False, False, [True, False][:rank]),
        "t1_fields/velocity": (draw(count, NT, *sizes, rank), True, True, [True] * rank),
        "t2_fields/stress": (draw(count, NT, *sizes, rank, rank), True, True, [True] * rank),
    }
    with h5py.File(path, "w") as file:
        file.attrs["grid_type"] = "cartesian"
        file.attrs["n_spatial_dims"] = rank
        file.attrs["n_trajectories"] = count
        file.attrs["dataset_name"] = "example"
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = list(axes)
        dimensions["time"] = (0.5 * np.arange(NT)).astype(np.float32)
        dimensions["time"].attrs["sample_varying"] = False
        for name, size in zip(axes, sizes, strict=True):
            dimensions[name] = centers(size)
        for kind, name in (("PERIODIC", axes[0]), ("WALL", axes[-1]))[:rank]:
            boundary = file.create_group(f"boundary_conditions/{name}_{kind.lower()}")
            boundary.attrs["bc_type"] = kind
            boundary.attrs["associated_dims"] = [name]
        for place, (values, of_sample, of_time, of_dims) in fields.items():
            file[place] = values
            file[place].attrs["sample_varying"] = of_sample
            file[place].attrs["time_varying"] = of_time
            file[place].attrs["dim_varying"] = of_dims
        for group in ("t0_fields", "t1_fields", "t2_fields"):
            names = [place.split("/")[1] for place in fields if place.startswith(group)]
            file[group].attrs["field_names"] = names
    return {place.split("/")[1]: values for place, (values, *_) in fields.items()}
