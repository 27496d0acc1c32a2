"""Compiled networks forecast what others do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch._inductor.config
import xarray as xr

from fourcastnet_afno.inference.tuning.compiled import compile_networks
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster
from tests.builders.forecasters import GRID, Growing, make_config, make_forecast, make_states


def test_the_networks_of_all_forecasters_run_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With calls that are counted in place of compiled ones, which take half a minute."""
    modes, calls = [], 0

    def compiled(function: Callable[..., object], mode: str) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            nonlocal calls
            calls += 1
            return function(*arguments)

        modes.append(mode)
        return counted

    monkeypatch.setattr(torch, "compile", compiled)
    data = make_states(channels=make_forecaster(GRID).spec.channels)
    settings: dict = {"limit": 1e30, "num_members": 2, "perturbation": "gaussian"}
    write = partial(make_forecast, data=data, times=data["time"].values[:2], **settings)
    plain, found = (
        write(
            tmp_path / f"{compile}.zarr",
            make_forecaster(GRID),
            further=[make_forecaster(GRID)],
            compile=compile,
        )
        for compile in ("off", "reduce-overhead")
    )
    assert modes == 2 * ["reduce-overhead"]
    assert calls == 2 * 5  # of two forecasters, in five steps
    xr.testing.assert_equal(found, plain)
    assert found.attrs["fingerprint"] != plain.attrs["fingerprint"]


def test_a_machine_without_a_compiler_is_named() -> None:
    has_none = torch._inductor.config.patch({"cpp.cxx": ("/nowhere/g++",)})
    with has_none, rejects("no-compiler", "forecast.compile=default", "C++ compiler", "cpu"):
        compile_networks(make_config(compile="default"), make_forecaster())
    compile_networks(make_config(), make_forecaster())


def test_a_stepper_without_a_network_is_named() -> None:
    with rejects("bad-setting", "forecast.compile=default", "Growing"):
        compile_networks(make_config(compile="default"), Growing())
