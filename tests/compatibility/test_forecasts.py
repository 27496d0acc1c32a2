"""Forecasts of the commit before, whole and interrupted."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from fourcastnet_afno import open_forecast
from fourcastnet_afno.cli import main
from tests.compatibility.conftest import MANIFEST
from tests.compatibility.public_calls import described_dataset

FLOAT32 = 1e-5


def test_a_forecast_reads_to_the_same_bits(unpack: Callable[..., Path]) -> None:
    path = unpack("planet_forecast") / "planet" / "forecast.zarr"
    forecast = open_forecast(path)
    assert described_dataset(forecast) == MANIFEST["forecast"]
    with xr.open_zarr(path, consolidated=False) as plain:
        for name in ("u_component_of_wind", "geopotential"):
            assert plain[name].dims == ("time", "prediction_timedelta", "latitude", "longitude")
            np.testing.assert_array_equal(plain[name].values, forecast[name].values)


def test_forecasts_are_the_same_again_and_a_killed_one_goes_on(
    unpack: Callable[..., Path], assert_computed: Callable[..., None]
) -> None:
    folder = unpack(
        "planet_store", "planet_run", "planet_forecast", "ensemble_killed", "ensemble_whole"
    )
    before = open_forecast(folder / "planet" / "forecast.zarr").load()
    assert main(["forecast", "--output=planet"]) == 0
    now = open_forecast(folder / "planet" / "forecast.zarr")
    assert set(now) == set(before)
    np.testing.assert_array_equal(now["init_time"], before["init_time"])
    for name in now:
        assert_computed(now[name].values, before[name].values, rounding=FLOAT32)
    _check_killed(folder, now.attrs["versions"], assert_computed)


def _check_killed(folder: Path, versions: str, assert_computed: Callable[..., None]) -> None:
    """Go on with the killed forecast; it keeps what it has written.

    A forecast belongs to the versions it was begun with, the commit among them, so that those of
    now are written into it first.
    """
    (folder / "ensemble.zarr").rename(folder / "whole.zarr")
    partial = folder / ".ensemble.zarr.partial"
    identity = json.loads((partial / "identity.json").read_text())
    identity["versions"] = versions
    (partial / "identity.json").write_text(json.dumps(identity, sort_keys=True, indent=1))
    chunks = (partial / "store" / "geopotential" / "c").rglob("*")
    parts = [path for path in chunks if path.is_file()]
    assert len(parts) >= 115
    kept = [file.relative_to(partial / "store") for file in parts]
    for file in parts:
        os.utime(file, ns=(0, 0))
    assert main(MANIFEST["commands"]["ensemble forecast"].split()) == 0
    now, before = (open_forecast(folder / f"{name}.zarr") for name in ("ensemble", "whole"))
    assert now["geopotential"].sizes["realization"] == 2
    assert_computed(now["geopotential"].values, before["geopotential"].values, rounding=FLOAT32)
    old = [file for file in kept if (folder / "ensemble.zarr" / file).stat().st_mtime_ns == 0]
    assert len(old) >= 110  # of 120 parts, where the restart file goes on
