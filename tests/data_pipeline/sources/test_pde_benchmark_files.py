"""Public benchmarks of differential equations: small files in their layouts.

The layouts are those that the readers of their publishers expect (PDEBench: pdebench/models/fno/
utils.py; The Well: docs/data_format.md; neuraloperator: neuralop/data/datasets/darcy.py).
"""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.simulation.trajectories import Splits, trajectory_start_times
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.pde_benchmarks import BenchmarkConfig

REAL = Path(__file__).parents[4] / "shared" / "data"
SPLITS = Splits(train=2, validation=1, test=1)
NX, NY, NT = 6, 5, 3


def draw(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def centers(count: int) -> np.ndarray:
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def write(path: Path, **arrays: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name.replace("__", "/").replace("_coordinate", "-coordinate")] = values


def read(
    paths: Path | list[Path], layout: str, periodic: list[str] | None = None, **options: object
) -> xr.Dataset:
    benchmark = BenchmarkConfig(
        layout=layout,  # type: ignore[arg-type]
        **({"trajectories": SPLITS} | options),  # type: ignore[arg-type]
    )
    given = [str(path) for path in paths] if isinstance(paths, list) else str(paths)
    return open_source(SourceConfig(path=given, benchmark=benchmark, periodic=periodic)).compute()


def check(dataset: xr.Dataset, name: str, expected: np.ndarray) -> None:
    """That a variable has the values (trajectory, state, y, x) of the file."""
    times = trajectory_start_times(SPLITS, expected.shape[1])
    np.testing.assert_array_equal(dataset["time"], times.ravel())
    assert dataset[name].dims == ("time", "y", "x")
    assert (dataset[name].dtype, dataset[name].attrs["units"]) == (np.float32, "1")
    flat = expected.reshape(-1, *expected.shape[2:])
    np.testing.assert_array_equal(dataset[name], flat)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.hdf5"


def test_pdebench_in_one_dimension(file: Path) -> None:
    """t-coordinate has one time more than the fields, as in the published files."""
    tensor = draw(4, NT, NX)
    times = 0.05 * np.arange(NT + 1)
    write(file, tensor=tensor, x_coordinate=2 * centers(NX), t_coordinate=times)
    dataset = read(file, "pdebench", periodic=["x"])
    check(dataset, "tensor", tensor[:, :, None])
    np.testing.assert_allclose(dataset["x"], 2 * centers(NX))
    assert dataset.attrs["periodic"] == "x"
    assert dataset.attrs["extent_x"] == pytest.approx(2)
    assert dataset.attrs["time_step"] == pytest.approx(0.05)


def test_pdebench_names_can_be_given(file: Path) -> None:
    tensor = draw(4, NT, NX)
    write(file, tensor=tensor, x_coordinate=centers(NX), t_coordinate=np.arange(NT))
    benchmark = BenchmarkConfig(layout="pdebench", trajectories=SPLITS)
    config = SourceConfig(path=str(file), benchmark=benchmark, rename={"tensor": "velocity"})
    with pytest.raises(InputError, match=r"set data\.source\.periodic"):
        open_source(config)
    dataset = open_source(replace(config, periodic=[]))
    assert dataset["velocity"].chunks is not None
    check(dataset.compute(), "velocity", tensor[:, :, None])
    assert dataset.attrs["periodic"] == ""


def test_pdebench_groups(file: Path) -> None:
    """A group a sample, (time, x, y, channel); 0010 comes after 0009, x before y."""
    data = draw(4, NT, NX, NY, 2)
    with h5py.File(file, "w") as handle:
        for number, values in zip((0, 9, 10, 11), data, strict=True):
            group = handle.create_group(f"{number:04d}")
            group["data"] = values
            for name, axis in (("x", centers(NX)), ("y", centers(NY)), ("t", np.arange(NT))):
                group[f"grid/{name}"] = axis
    dataset = read(file, "pdebench", periodic=[])
    for channel in (0, 1):
        check(dataset, f"data_{channel}", data[..., channel].swapaxes(-1, -2))
    np.testing.assert_allclose(dataset["y"], centers(NY))
    assert dataset.attrs["periodic"] == ""


def test_pdebench_groups_in_one_dimension(file: Path) -> None:
    data = draw(4, NT, NX, 1)
    with h5py.File(file, "w") as handle:
        for number, values in enumerate(data):
            handle[f"{number:04d}/data"] = values
            handle[f"{number:04d}/grid/x"] = centers(NX)
            handle[f"{number:04d}/grid/t"] = np.arange(NT)
    check(read(file, "pdebench", periodic=["x"]), "data", data[..., 0][:, :, None])


def test_pdebench_compressible_flow(file: Path) -> None:
    names = ("density", "pressure", "Vx", "Vy")
    fields = dict(zip(names, draw(4, 4, NT, NX, NY), strict=True))
    axes = {"x_coordinate": centers(NX), "y_coordinate": centers(NY), "t_coordinate": np.arange(NT)}
    write(file, **fields, **axes)
    dataset = read(file, "pdebench", periodic=["x", "y"])
    assert list(dataset.data_vars) == list(names)
    for name, values in fields.items():
        check(dataset, name, values.swapaxes(-1, -2))
    assert dataset.attrs["periodic"] == "y x"


def test_pdebench_darcy(file: Path) -> None:
    nu, tensor = draw(4, NX, NY), draw(4, 1, NX, NY)
    write(file, nu=nu, tensor=tensor, x_coordinate=centers(NX), y_coordinate=centers(NY))
    dataset = read(file, "pdebench")
    coefficient, solution = nu.swapaxes(1, 2), tensor[:, 0].swapaxes(1, 2)
    check(dataset, "permeability", np.stack([coefficient, coefficient], axis=1))
    check(dataset, "pressure", np.stack([0 * solution, solution], axis=1))
    assert dataset.attrs["periodic"] == ""


def write_well(path: Path, count: int = 4, axes: tuple[str, ...] = ("x", "y")) -> dict:
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


def test_the_well(file: Path) -> None:
    fields = write_well(file)
    dataset = read(file, "the_well")
    shape = (4, NT, NX, NY)
    expected = {
        "density": fields["density"],
        "viscosity": np.broadcast_to(fields["viscosity"][:, None], shape),
        "depth": np.broadcast_to(fields["depth"][:, None], shape),
        "slope": np.broadcast_to(fields["slope"], shape),
        "velocity_x": fields["velocity"][..., 0],
        "velocity_y": fields["velocity"][..., 1],
        "stress_xy": fields["stress"][..., 0, 1],
        "stress_yx": fields["stress"][..., 1, 0],
    }
    for name, values in expected.items():
        check(dataset, name, values.swapaxes(-1, -2))
    assert set(dataset.data_vars) == {*expected, "stress_xx", "stress_yy"}
    assert dataset.attrs["periodic"] == "x"
    assert dataset.attrs["time_step"] == 0.5
    np.testing.assert_allclose(dataset["y"], centers(NY))


def test_the_well_with_y_first(file: Path) -> None:
    fields = write_well(file, axes=("y", "x"))
    dataset = read(file, "the_well")
    check(dataset, "density", fields["density"])
    assert dataset.attrs["periodic"] == "y"


def test_the_well_in_one_dimension(file: Path) -> None:
    fields = write_well(file, axes=("x",))
    dataset = read(file, "the_well")
    check(dataset, "velocity_x", fields["velocity"][..., 0][:, :, None])
    assert dataset.attrs["periodic"] == "y x"


@pytest.mark.parametrize("suffix", ["npz", "pt"])
@pytest.mark.parametrize("channel", [False, True])
def test_neuraloperator(tmp_path: Path, suffix: str, channel: bool) -> None:
    x, y = draw(4, NY, NX) > 0.5, draw(4, NY, NX)
    path = tmp_path / f"darcy.{suffix}"
    stored = {"x": x[:, None], "y": y[:, None]} if channel else {"x": x, "y": y}
    if suffix == "npz":
        np.savez(path, **stored)
    else:
        torch.save({name: torch.tensor(values) for name, values in stored.items()}, path)
    dataset = read(path, "neuraloperator")
    check(dataset, "permeability", np.stack([x, x], axis=1).astype(np.float32))
    check(dataset, "pressure", np.stack([0 * y, y], axis=1))
    np.testing.assert_allclose(dataset["x"], np.arange(NX) / NX)


def test_files_serve_splits(tmp_path: Path) -> None:
    """Entries of the path in any order; a folder is one entry."""
    parts = np.split(draw(7, NT, NX), [2, 4, 5])
    places = ["test/a.hdf5", "train/a.hdf5", "validation.hdf5", "train/b.hdf5"]
    for part, place in zip(parts, places, strict=True):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        write(tmp_path / place, tensor=part, x_coordinate=centers(NX), t_coordinate=np.arange(NT))
    paths = [tmp_path / name for name in ("test", "train", "validation.hdf5")]
    dataset = read(
        paths, "pdebench", periodic=["x"], trajectories=None, splits=["test", "train", "validation"]
    )
    expected = np.concatenate([parts[1], parts[3], parts[2], parts[0]])
    np.testing.assert_array_equal(dataset["tensor"][:, 0], expected.reshape(-1, NX))
    years = np.unique(dataset["time"].dt.year.values).tolist()
    assert years == [2001, 2101, 2201]
    assert (dataset["time"].dt.year == 2001).sum() == 4 * NT


def test_trajectories_are_divided_across_files(tmp_path: Path) -> None:
    tensor = draw(5, NT, NX)
    axes = {"x_coordinate": centers(NX), "t_coordinate": np.arange(NT)}
    write(tmp_path / "a.hdf5", tensor=tensor[:3], **axes)
    write(tmp_path / "b.hdf5", tensor=tensor[3:], **axes)
    check(read(tmp_path, "pdebench", ["x"]), "tensor", tensor[:4][:, :, None])


def test_other_files_are_refused(tmp_path: Path) -> None:
    axes = {"x_coordinate": centers(NX), "t_coordinate": np.arange(NT)}
    a, b = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    write(a, tensor=draw(3, NT, NX), **axes)
    with pytest.raises(InputError, match="wants 4 trajectories and the files have 3"):
        read(a, "pdebench")
    with pytest.raises(InputError, match="expected the layout of The Well"):
        read(a, "the_well")
    for change, message in (
        ({"tensor": draw(3, NT + 1, NX)}, "states a trajectory 4"),
        ({"tensor": draw(3, NT, 4), "x_coordinate": centers(4)}, "points"),
        ({"x_coordinate": 2 * centers(NX)}, "x from"),
    ):
        write(b, **({"tensor": draw(3, NT, NX)} | axes | change))
        with pytest.raises(InputError, match=message):
            read([a, b], "pdebench")
    with pytest.raises(InputError, match="has 1 entries for 2"):
        read([a, b], "pdebench", trajectories=None, splits=["train"])
    write(b, other=draw(3))
    with pytest.raises(InputError, match="expected a layout of PDEBench"):
        read(b, "pdebench")
    b.write_bytes(a.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot read"):
        read(b, "pdebench")
    write_well(b, axes=("x", "y"))
    with h5py.File(b, "a") as file:
        file["dimensions"].attrs["spatial_dims"] = ["x", "y", "z"]
    with pytest.raises(InputError, match="one or two Cartesian dimensions"):
        read(b, "the_well")
    np.savez(tmp_path / "c.npz", x=draw(2, 3, 3), y=draw(2, 4, 4))
    with pytest.raises(InputError, match=r"expected both as \(sample, y, x\)"):
        read(tmp_path / "c.npz", "neuraloperator")
    np.savez(tmp_path / "c.npz", x=draw(2, 3, 3))
    with pytest.raises(InputError, match="arrays x and y"):
        read(tmp_path / "c.npz", "neuraloperator")
    with pytest.raises(ValueError, match="either trajectories"):
        BenchmarkConfig(layout="pdebench")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    torch.save({"x": Path("x"), "y": Path("y")}, tmp_path / "darcy.pt")
    with pytest.raises(InputError, match="cannot read"):
        read(tmp_path / "darcy.pt", "neuraloperator")


@pytest.mark.skipif(not REAL.exists(), reason=f"the published arrays are not in {REAL}")
def test_published_darcy_arrays() -> None:
    """The points of 16 are every second of 32: the same problems at two resolutions."""
    paths = [REAL / f"darcy_{name}_16.npz" for name in ("train", "test")]
    splits = Splits(train=900, validation=100, test=50)
    dataset = read(paths, "neuraloperator", trajectories=splits)
    assert dataset.sizes == {"time": 2100, "y": 16, "x": 16}
    assert np.unique(dataset["permeability"]).tolist() == [0, 1]
    finer = read(REAL / "darcy_test_32.npz", "neuraloperator", trajectories=Splits(test=50))
    same = dataset["pressure"].sel(time=slice("2201", None))
    np.testing.assert_allclose(finer["pressure"][:, ::2, ::2], same, atol=1e-4)
    np.testing.assert_allclose(finer["x"][::2], dataset["x"])
