"""Files in the layouts of public benchmarks of differential equations, axis by axis."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from data_pipeline.errors import InputError
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import BenchmarkConfig, SourceConfig
from tests.builders.errors import rejects
from tests.builders.pde_benchmarks import (
    NT,
    NX,
    NY,
    SPLITS,
    centers,
    check_trajectories,
    draw,
    make_hdf5,
    make_well,
    read_benchmark,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data.hdf5"


def test_pdebench_in_one_dimension(file: Path) -> None:
    """t-coordinate has one time more than the fields, as in the published files."""
    tensor = draw(4, NT, NX)
    times = 0.05 * np.arange(NT + 1)
    make_hdf5(file, tensor=tensor, x_coordinate=2 * centers(NX), t_coordinate=times)
    dataset = read_benchmark(file, "pdebench", periodic=["x"], time_units="s")
    check_trajectories(dataset, "tensor", tensor[:, :, None])
    np.testing.assert_allclose(dataset["x"], 2 * centers(NX))
    assert dataset.attrs["time_units"] == "s"
    assert dataset.attrs["periodic"] == "x"
    assert dataset.attrs["extent_x"] == pytest.approx(2)
    assert dataset.attrs["time_step"] == pytest.approx(0.05)


def test_pdebench_names_can_be_given(file: Path) -> None:
    tensor = draw(4, NT, NX)
    make_hdf5(file, tensor=tensor, x_coordinate=centers(NX), t_coordinate=np.arange(NT))
    benchmark = BenchmarkConfig(layout="pdebench", trajectories=SPLITS)
    config = SourceConfig(path=str(file), benchmark=benchmark, rename={"tensor": "velocity"})
    with pytest.raises(InputError) as info:
        open_source(config)
    assert "data.source.periodic" in str(info.value)
    dataset = open_source(replace(config, periodic=[]))
    assert dataset["velocity"].chunks is not None
    check_trajectories(dataset.compute(), "velocity", tensor[:, :, None])
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
    dataset = read_benchmark(file, "pdebench", periodic=[])
    for channel in (0, 1):
        check_trajectories(dataset, f"data_{channel}", data[..., channel].swapaxes(-1, -2))
    np.testing.assert_allclose(dataset["y"], centers(NY))
    assert dataset.attrs["periodic"] == ""


def test_pdebench_groups_in_one_dimension(file: Path) -> None:
    data = draw(4, NT, NX, 1)
    with h5py.File(file, "w") as handle:
        for number, values in enumerate(data):
            handle[f"{number:04d}/data"] = values
            handle[f"{number:04d}/grid/x"] = centers(NX)
            handle[f"{number:04d}/grid/t"] = np.arange(NT)
    check_trajectories(
        read_benchmark(file, "pdebench", periodic=["x"]), "data", data[..., 0][:, :, None]
    )


def test_pdebench_compressible_flow(file: Path) -> None:
    names = ("density", "pressure", "Vx", "Vy")
    fields = dict(zip(names, draw(4, 4, NT, NX, NY), strict=True))
    axes = {"x_coordinate": centers(NX), "y_coordinate": centers(NY), "t_coordinate": np.arange(NT)}
    make_hdf5(file, **fields, **axes)
    dataset = read_benchmark(file, "pdebench", periodic=["x", "y"])
    assert list(dataset.data_vars) == list(names)
    for name, values in fields.items():
        check_trajectories(dataset, name, values.swapaxes(-1, -2))
    assert dataset.attrs["periodic"] == "y x"


def test_pdebench_darcy(file: Path) -> None:
    nu, tensor = draw(4, NX, NY), draw(4, 1, NX, NY)
    make_hdf5(file, nu=nu, tensor=tensor, x_coordinate=centers(NX), y_coordinate=centers(NY))
    dataset = read_benchmark(file, "pdebench")
    coefficient, solution = nu.swapaxes(1, 2), tensor[:, 0].swapaxes(1, 2)
    check_trajectories(dataset, "permeability", np.stack([coefficient, coefficient], axis=1))
    check_trajectories(dataset, "pressure", np.stack([0 * solution, solution], axis=1))
    assert dataset.attrs["periodic"] == ""


def test_the_well(file: Path) -> None:
    fields = make_well(file)
    dataset = read_benchmark(file, "the_well")
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
        check_trajectories(dataset, name, values.swapaxes(-1, -2))
    assert set(dataset.data_vars) == {*expected, "stress_xx", "stress_yy"}
    assert dataset.attrs["periodic"] == "x"
    assert dataset.attrs["time_step"] == 0.5
    assert dataset.attrs["trajectory_states"] == NT
    np.testing.assert_allclose(dataset["y"], centers(NY))


def test_the_well_with_y_first(file: Path) -> None:
    fields = make_well(file, axes=("y", "x"))
    dataset = read_benchmark(file, "the_well")
    check_trajectories(dataset, "density", fields["density"])
    assert dataset.attrs["periodic"] == "y"


def test_the_well_in_one_dimension(file: Path) -> None:
    fields = make_well(file, axes=("x",))
    dataset = read_benchmark(file, "the_well")
    check_trajectories(dataset, "velocity_x", fields["velocity"][..., 0][:, :, None])
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
    dataset = read_benchmark(path, "neuraloperator")
    check_trajectories(dataset, "permeability", np.stack([x, x], axis=1).astype(np.float32))
    check_trajectories(dataset, "pressure", np.stack([0 * y, y], axis=1))
    np.testing.assert_allclose(dataset["x"], np.arange(NX) / NX)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.uint8])
def test_tensors_of_any_real_type_are_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    x, y = (torch.tensor(100 * draw(4, NY, NX)).to(dtype) for _ in "xy")
    y = y.requires_grad_() if dtype.is_floating_point else y
    torch.save({"x": x, "y": y}, tmp_path / "darcy.pt")
    dataset = read_benchmark(tmp_path / "darcy.pt", "neuraloperator")
    y = y.detach().float().numpy()
    check_trajectories(dataset, "pressure", np.stack([0 * y, y], axis=1))


@pytest.mark.parametrize(
    ("contents", "named"),
    [
        (
            {"x": torch.zeros(2, 3, 3), "y": torch.zeros(2, 3, 3, dtype=torch.complex64)},
            "complex64",
        ),
        ({"x": torch.zeros(2, 3, 3), "y": torch.zeros(2, 3, 3).to_sparse()}, "y is of type"),
        ({"x": torch.zeros(2, 3, 3), "y": [1.0]}, "list"),
        (torch.zeros(2, 3, 3), "Tensor"),
    ],
)
def test_what_are_no_real_numbers_by_name_is_rejected(
    tmp_path: Path, contents: object, named: str
) -> None:
    torch.save(contents, tmp_path / "darcy.pt")
    with rejects("other-layout", "darcy.pt", named):
        read_benchmark(tmp_path / "darcy.pt", "neuraloperator")


def test_a_truncated_file_of_torch_is_named(tmp_path: Path) -> None:
    path = tmp_path / "darcy.pt"
    torch.save({"x": torch.zeros(2, 3, 3), "y": torch.zeros(2, 3, 3)}, path)
    path.write_bytes(path.read_bytes()[:600])
    with rejects("unreadable-file", "darcy.pt"):
        read_benchmark(path, "neuraloperator")
    np.savez(tmp_path / "c.npz", x=draw(2, 3, 3) * 1j, y=draw(2, 3, 3))
    with rejects("other-layout", "c.npz", "complex"):
        read_benchmark(tmp_path / "c.npz", "neuraloperator")


def test_other_layouts_are_rejected(tmp_path: Path) -> None:
    axes = {"x_coordinate": centers(NX), "t_coordinate": np.arange(NT)}
    a, b = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    make_hdf5(a, tensor=draw(3, NT, NX), **axes)
    with rejects("other-layout", "a.hdf5", "The Well"):
        read_benchmark(a, "the_well")
    make_hdf5(b, other=draw(3))
    with rejects("other-layout", "b.hdf5", "PDEBench"):
        read_benchmark(b, "pdebench")
    b.write_bytes(a.read_bytes()[:100])
    with rejects("unreadable-file", "b.hdf5"):
        read_benchmark(b, "pdebench")
    make_well(b, axes=("x", "y"))
    with h5py.File(b, "a") as file:
        file["dimensions"].attrs["spatial_dims"] = ["x", "y", "z"]
    with rejects("other-layout", "['x', 'y', 'z']"):
        read_benchmark(b, "the_well")
    np.savez(tmp_path / "c.npz", x=draw(2, 3, 3), y=draw(2, 4, 4))
    with rejects("other-layout", "(sample, y, x)"):
        read_benchmark(tmp_path / "c.npz", "neuraloperator")
    np.savez(tmp_path / "c.npz", x=draw(2, 3, 3))
    with rejects("other-layout", "['x']"):
        read_benchmark(tmp_path / "c.npz", "neuraloperator")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    torch.save({"x": Path("x"), "y": Path("y")}, tmp_path / "darcy.pt")
    with rejects("unreadable-file", "darcy.pt"):
        read_benchmark(tmp_path / "darcy.pt", "neuraloperator")
