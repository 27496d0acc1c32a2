"""Values that are written, faults, and memory."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.report.rows import stability
from tests.builders.errors import rejects
from tests.builders.forecasters import Growing, make_forecast, make_states
from tests.builders.processes import on_ranks


@pytest.mark.parametrize("chunks", ["init_time", "lead_time"])
@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_values_are_those_of_the_stepper(tmp_path: Path, chunks: str, suffix: str) -> None:
    written = make_forecast(tmp_path / f"f.{suffix}", chunks=chunks)
    states = make_states()
    for step in range(5):
        expected = states.isel(time=slice(1, 8)).rename(time="init_time") + (step + 1)
        found = written.isel(lead_time=step).drop_vars(["lead_time", "valid_time"])
        # A store lists levels as it likes: compare label by label.
        xr.testing.assert_allclose(found.sel(level=expected["level"]), expected, rtol=1e-6)
    written.close()


def test_a_history_of_two_moves_on(tmp_path: Path) -> None:
    written = make_forecast(tmp_path / "f.zarr", Growing(num_history=2))
    before, now = (make_states().isel(time=i)["2m_temperature"].values for i in (0, 1))
    found = written["2m_temperature"].isel(init_time=0).values
    for step, (a, b) in enumerate([(1, 1), (1, 2), (2, 3), (3, 5), (5, 8)]):  # Fibonacci
        np.testing.assert_allclose(found[step], a * before + b * now, rtol=1e-4, atol=1e-5)


def test_a_small_disk_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**6, 10**6 - 1000, 1000))
    with rejects("disk-full", "the forecasts", "0.00 GiB free"):
        make_forecast(tmp_path / "f.zarr", compression="none")
    assert not list(tmp_path.iterdir())


def test_nan_in_the_initial_state_is_named(tmp_path: Path) -> None:
    data = make_states()
    data["2m_temperature"][3, 2, 5] = np.nan
    with rejects("not-finite", "1 values", "2m_temperature at 2020-01-01T18"):
        make_forecast(tmp_path / "f.zarr", Growing(), data, data["time"].values[2:5])
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_stepper_reaches_the_caller(tmp_path: Path) -> None:
    class Broken(Growing):
        def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        make_forecast(tmp_path / "f.zarr", Broken())
    assert not (tmp_path / "f.zarr").exists()


def test_the_patches_of_all_networks_are_recorded_if_they_are_the_same(tmp_path: Path) -> None:
    class Patched(Growing):
        def __init__(self, *patch_size: int) -> None:
            super().__init__()
            self.patch_size = patch_size

    recorded = [
        make_forecast(tmp_path / f"{number}.zarr", first, further=further).attrs.get("patch_size")
        for number, (first, *further) in enumerate(
            [[Growing()], [Patched(2, 3)], [Patched(2, 3), Patched(2, 3)],
             [Patched(2, 3), Patched(3, 2)], [Patched(2, 3), Growing()]]
        )
    ]  # fmt: skip
    assert recorded == [None, "2 x 3", "2 x 3", None, None]


@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_the_report_says_whether_forecasts_stayed_bounded(tmp_path: Path, factor: float) -> None:
    written = make_forecast(tmp_path / "f.zarr", Growing(factor=factor, std=1.0), num_steps=3)
    told = stability({"growing": written})["growing"]
    assert "all 7 forecasts stayed within bounds for 18 h" in told
    assert f"to {factor**2:.2f} times what it was" in told


@pytest.mark.slow
def test_memory_does_not_depend_on_the_number_of_steps(tmp_path: Path) -> None:
    (few,), (many,) = (
        on_ranks(1, peak_of, tmp_path / f"{n}.zarr", n, joined=False) for n in (10, 250)
    )
    assert many < 1.05 * few


def peak_of(path: Path, num_steps: int) -> int:
    """Peak memory in bytes of forecasts whose fields would be 98 MB in all."""
    import resource

    grid = LatLonGrid.equiangular(64, 128)
    data = make_states(4, grid)
    settings = {"num_steps": num_steps, "chunks": "lead_time", "variables": ["2m_temperature"]}
    make_forecast(path, Growing(grid, factor=0.9), data, data["time"].values, **settings)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
