"""Trajectories of several files: their order, their splits, and their agreement."""

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.simulation.trajectories import Splits
from tests.builders.errors import rejects
from tests.builders.pde_benchmarks import (
    NT,
    NX,
    centers,
    check_trajectories,
    draw,
    make_hdf5,
    read_benchmark,
)

AXES = {"x_coordinate": centers(NX), "t_coordinate": np.arange(NT)}
REAL = Path(__file__).parents[5] / "shared" / "data"


def test_files_serve_splits(tmp_path: Path) -> None:
    """Entries of the path in any order; a folder is one entry."""
    parts = np.split(draw(7, NT, NX), [2, 4, 5])
    places = ["test/a.hdf5", "train/a.hdf5", "validation.hdf5", "train/b.hdf5"]
    for part, place in zip(parts, places, strict=True):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        make_hdf5(
            tmp_path / place, tensor=part, x_coordinate=centers(NX), t_coordinate=np.arange(NT)
        )
    paths = [tmp_path / name for name in ("test", "train", "validation.hdf5")]
    dataset = read_benchmark(
        paths, "pdebench", periodic=["x"], trajectories=None, splits=["test", "train", "validation"]
    )
    expected = np.concatenate([parts[1], parts[3], parts[2], parts[0]])
    np.testing.assert_array_equal(dataset["tensor"][:, 0], expected.reshape(-1, NX))
    years = np.unique(dataset["time"].dt.year.values).tolist()
    assert years == [2001, 2101, 2201]
    assert (dataset["time"].dt.year == 2001).sum() == 4 * NT


def test_trajectories_are_divided_across_files(tmp_path: Path) -> None:
    tensor = draw(5, NT, NX)
    make_hdf5(tmp_path / "a.hdf5", tensor=tensor[:3], **AXES)
    make_hdf5(tmp_path / "b.hdf5", tensor=tensor[3:], **AXES)
    check_trajectories(
        read_benchmark(tmp_path, "pdebench", ["x"]), "tensor", tensor[:4][:, :, None]
    )


def test_files_that_differ_are_rejected(tmp_path: Path) -> None:
    a, b = tmp_path / "a.hdf5", tmp_path / "b.hdf5"
    make_hdf5(a, tensor=draw(3, NT, NX), **AXES)
    with rejects("too-few-trajectories", " 4 ", " 3"):
        read_benchmark(a, "pdebench")
    for change, code, named in (
        ({"tensor": draw(3, NT + 1, NX)}, "files-differ", "states a trajectory 4"),
        ({"tensor": draw(3, NT, 4), "x_coordinate": centers(4)}, "files-differ", "points"),
        ({"x_coordinate": 2 * centers(NX)}, "grid-mismatch", "x from"),
    ):
        make_hdf5(b, **({"tensor": draw(3, NT, NX)} | AXES | change))
        with rejects(code, named):
            read_benchmark([a, b], "pdebench")
    with rejects("bad-setting", "data.source.benchmark.splits"):
        read_benchmark([a, b], "pdebench", trajectories=None, splits=["train"])


@pytest.mark.skipif(not REAL.exists(), reason=f"the published arrays are not in {REAL}")
def test_published_darcy_arrays() -> None:
    """The points of 16 are every second of 32: the same problems at two resolutions."""
    paths = [REAL / f"darcy_{name}_16.npz" for name in ("train", "test")]
    splits = Splits(train=900, validation=100, test=50)
    dataset = read_benchmark(paths, "neuraloperator", trajectories=splits)
    assert dataset.sizes == {"time": 2100, "y": 16, "x": 16}
    assert np.unique(dataset["permeability"]).tolist() == [0, 1]
    finer = read_benchmark(
        REAL / "darcy_test_32.npz", "neuraloperator", trajectories=Splits(test=50)
    )
    same = dataset["pressure"].sel(time=slice("2201", None))
    np.testing.assert_allclose(finer["pressure"][:, ::2, ::2], same, atol=1e-4)
    np.testing.assert_allclose(finer["x"][::2], dataset["x"])
