"""Trajectories as a dataset: the same whatever their company, resolution and place."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.fourier import FourierGrid
from data_pipeline.simulation.pde_dataset import simulate_equation, solve
from data_pipeline.simulation.registry import build_equation
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.trajectory_times import TrajectoryTimes
from tests.builders.errors import rejects

DOCUMENTATION = Path(__file__).parents[3] / "docs" / "equations.md"
SPLITS = Splits(train=3, validation=1, test=2)
FLOW = PDEConfig(
    equation="navier_stokes", resolution=[16, 16], trajectories=SPLITS, num_steps=3, substeps=4
)
DARCY = PDEConfig(equation="darcy", resolution=[33, 17], trajectories=SPLITS)
LINE = PDEConfig(
    equation="kuramoto_sivashinsky",
    resolution=[32],
    trajectories=SPLITS,
    num_steps=2,
    substeps=4,
    spinup_steps=5,
    parameters={"length": 16.0},
)


@pytest.mark.parametrize("config", [FLOW, DARCY, LINE], ids=lambda config: config.equation)
def test_a_trajectory_alone_is_the_same_as_in_a_batch(config: PDEConfig) -> None:
    together = solve(config, [0, 1, 4])
    assert len({values.tobytes() for values in together}) == 3
    for index, number in enumerate([0, 1, 4]):
        np.testing.assert_array_equal(solve(config, [number])[0], together[index])


def test_more_of_one_split_do_not_change_another() -> None:
    more = replace(FLOW, trajectories=Splits(train=5, validation=1, test=2))
    np.testing.assert_array_equal(solve(more, [5, 6, 7]), solve(FLOW, [3, 4, 5]))
    assert (solve(replace(FLOW, seed=1), [0]) != solve(FLOW, [0])).any()


def test_schema() -> None:
    dataset = simulate_equation(FLOW, lazy=True)
    assert dataset["vorticity"].chunks is not None  # nothing is computed before it is read
    xr.testing.assert_identical(dataset.compute(), simulate_equation(FLOW))
    assert dataset["vorticity"].dims == ("time", "y", "x")
    assert dataset["vorticity"].dtype == np.float32
    assert dataset["vorticity"].attrs["units"] == "1"
    np.testing.assert_array_equal(dataset["x"], np.arange(16) / 16)
    np.testing.assert_array_equal(dataset["time"], FLOW.times().ravel())
    assert dataset.attrs["periodic"] == "y x"
    assert (dataset.attrs["extent_y"], dataset.attrs["extent_x"]) == (1.0, 1.0)
    times = TrajectoryTimes.of(dataset.attrs)
    assert times == TrajectoryTimes(step=1.0, num_states=4)
    assert json.loads(dataset.attrs["config"])["resolution"] == [16, 16]
    values = dataset["vorticity"].values.reshape(6, 4, 16, 16)
    np.testing.assert_array_equal(values, solve(FLOW, list(range(6)))[:, :, 0])


@pytest.mark.parametrize("equation", ["navier_stokes", "kolmogorov_flow"])
def test_the_velocity_follows_from_the_vorticity(equation: str) -> None:
    """Its curl is the vorticity, it has no divergence and no mean."""
    config = replace(FLOW, equation=equation, substeps=40, spinup_steps=1)
    grid = FourierGrid((16, 16), build_equation(config).extent, degree=1)  # pyright: ignore
    w, u, v = (
        grid.spectrum(torch.from_numpy(f).double()) for f in np.moveaxis(solve(config, [0]), 2, 0)
    )
    size = w.abs().max()
    assert (grid.dx(v) - grid.dy(u) - w).abs().max() < 1e-6 * size
    assert (grid.dx(u) + grid.dy(v)).abs().max() < 1e-6 * size
    assert max(u[..., 0, 0].abs().max(), v[..., 0, 0].abs().max()) < 1e-6 * size
    dataset = simulate_equation(config)
    assert list(dataset.data_vars) == ["vorticity", "velocity_x", "velocity_y"]


def test_one_dimension_has_a_single_row() -> None:
    dataset = simulate_equation(LINE).compute()
    assert dataset.sizes == {"time": 18, "y": 1, "x": 32}
    assert dataset.attrs["extent_x"] == 16.0
    np.testing.assert_allclose(np.diff(dataset["x"]), 0.5)


def test_spinup_is_left_out() -> None:
    longer = replace(LINE, num_steps=7, spinup_steps=0)
    np.testing.assert_array_equal(solve(LINE, [0])[0], solve(longer, [0])[0, 5:])


def test_steady_problem_is_two_states() -> None:
    dataset = simulate_equation(DARCY).compute()
    a, u = dataset["permeability"], dataset["pressure"]
    np.testing.assert_array_equal(a[0::2], a[1::2].values)
    assert not u[0::2].values.any()
    assert (u[1::2].values[:, 1:-1, 1:-1] > 0).all()
    assert dataset.attrs["periodic"] == ""
    assert (dataset["y"].values[[0, -1]] == [0, 1]).all()


def test_a_coarser_grid_holds_the_same_points_of_darcy() -> None:
    coarse = replace(DARCY, saved_resolution=[9, 9])
    np.testing.assert_array_equal(solve(coarse, [2]), solve(DARCY, [2])[..., ::4, ::2])


def test_a_coarser_grid_keeps_the_waves_it_resolves() -> None:
    fine = replace(FLOW, resolution=[24, 24], dtype="float64")
    coarse = solve(replace(fine, saved_resolution=[9, 12]), [1])[0, :, 0]
    spectrum = np.fft.rfft2(solve(fine, [1])[0, :, 0], norm="forward")
    spectrum[:, 5:-4] = 0
    spectrum[:, :, 6:] = 0
    y, x = (2 * np.pi * np.arange(n) / n for n in (9, 12))
    rows = np.fft.fftfreq(24, 1 / 24)
    columns = np.arange(13)
    both = np.where(columns == 0, 1, 2)
    waves_y, waves_x = np.exp(1j * np.outer(y, rows)), np.exp(1j * np.outer(x, columns)) * both
    expected = np.einsum("yk,tkl,xl->tyx", waves_y, spectrum, waves_x).real
    np.testing.assert_allclose(coarse, expected, rtol=0, atol=1e-6)


def test_zero_shot_pairs_start_from_the_same_field() -> None:
    """What a grid of 16 resolves of the initial state is the same when solved with 16 and 64."""
    coarse, fine = solve(FLOW, [0]), solve(replace(FLOW, resolution=[64, 64]), [0])
    grid, large = (FourierGrid((n, n), (1.0, 1.0)) for n in (16, 64))
    low, high = (np.fft.rfft2(f[0, 0, 0], norm="forward") for f in (coarse, fine))
    kept = grid.kept.numpy()
    np.testing.assert_allclose(high[:6, :6], low[:6, :6], rtol=0, atol=1e-7)
    assert kept[:6, :6].all()
    assert large.kept.sum() > kept.sum()


def test_an_equation_of_your_own(tmp_path: Path) -> None:
    """The example of the documentation; the mean follows the logistic curve 1 / (1 + exp(-t))."""
    example = re.search(r"```python\n(.*?)```", DOCUMENTATION.read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "fisher.py").write_text(example[1])
    config = PDEConfig(
        equation=f"{tmp_path / 'fisher.py'}:Fisher",
        parameters={"diffusivity": 10.0},
        resolution=[8, 8],
        trajectories=Splits(train=1),
        num_steps=2,
        substeps=40,
    )
    u = simulate_equation(config)["u"].values
    np.testing.assert_allclose(u[1:].mean(axis=(1, 2)), 1 / (1 + np.exp([-1.0, -2.0])), atol=1e-4)


def test_an_unstable_solution_is_rejected() -> None:
    config = replace(FLOW, parameters={"initial_scale": 1e8}, timestep=10.0, substeps=1)
    with rejects("unstable-solver", "data.pde.substeps"):
        solve(config, [0, 1])


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        (FLOW, {"equation": "euler"}, "must be one of"),
        (FLOW, {"parameters": {"drag": 1.0}}, "navier_stokes has"),
        (FLOW, {"parameters": {"viscosity": np.nan}}, "viscosity must be at least"),
        (DARCY, {"parameters": {"modes": 2.5}}, "counts integers"),
        (FLOW, {"resolution": [16]}, "at least 8 points along each axis"),
        (FLOW, {"resolution": [16, 4]}, "at least 8 points along each axis"),
        (FLOW, {"saved_resolution": [32, 16]}, "must not be finer"),
        (LINE, {"resolution": [16, 16]}, "at least 8 points along each axis"),
        (DARCY, {"saved_resolution": [10, 9]}, "must divide"),
        (DARCY, {"num_steps": 2}, "is steady"),
        (FLOW, {"substeps": 0}, r"data\.pde\.substeps"),
        (FLOW, {"timestep": 0.0}, r"data\.pde\.timestep"),
    ],
)
def test_bad_configuration_is_rejected(
    base: PDEConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(base, **change)  # type: ignore[arg-type]


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    dataset = simulate_equation(DARCY)
    dataset.to_netcdf(tmp_path / "darcy.nc")
    with xr.open_dataset(tmp_path / "darcy.nc") as again:
        xr.testing.assert_identical(again.compute(), dataset.compute())


def test_a_trajectory_that_does_not_fit_into_memory_is_named() -> None:
    config = replace(FLOW, resolution=[1_000_000, 1_000_000], saved_resolution=[])
    with rejects("too-little-memory", "1000000 x 1000000", "GiB", "data.pde"):
        simulate_equation(config)
