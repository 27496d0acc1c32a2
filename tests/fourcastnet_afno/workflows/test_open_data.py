"""Forecasts from a weather service over HTTP, in one call."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.workflows.forecast import forecast_from, open_initial_data
from fourcastnet_afno.workflows.open_data import wanted_fields
from tests.builders.experiments import make_forecaster
from tests.builders.open_data import grib_message, ifs_file
from tests.builders.ranges import serving_ranges

GRID = LatLonGrid.equiangular(7, 12, poles=True)
TIMES = np.datetime64("2026-11-29T18", "ns") + np.arange(2) * np.timedelta64(6, "h")


def test_states_and_their_history_are_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    network = AFNONetConfig(patch_size=(1, 3), embed_dim=8, depth=1, num_blocks=2)
    forecaster = make_forecaster(GRID, num_history=2, network=network, units=("m2 s-2", "K"))
    save_checkpoint(tmp_path / "best.safetensors", forecaster, {}, {})
    states = np.random.default_rng(0).normal([[[5500.0]], [[280.0]]], 5, (2, 2, *GRID.shape))
    config = ForecastConfig(num_steps=2, init_times=str(TIMES[1].astype("M8[s]")))

    def forecast(source: str, name: str) -> xr.Dataset:
        given, output = SourceConfig(path=source), tmp_path / name
        checkpoint = tmp_path / "best.safetensors"
        written = forecast_from(config, checkpoint, given, output, "cpu", "refuse")
        assert written is not None
        return written

    with serving_ranges() as bucket:
        for time, (height, temperature) in zip(TIMES, states, strict=True):
            file = ifs_file(GRID, time, 0, {("gh", "500"): height, ("2t", ""): temperature})
            date, hour = str(time.astype("M8[h]")).replace("-", "").split("T")
            path = f"/{date}/{hour}z/ifs/0p25/oper/{date}{hour}0000-0h-oper-fc"
            bucket.files |= {f"{path}.grib2": file.content, f"{path}.index": file.index.encode()}
            day = {"dataDate": int(date), "dataTime": 100 * int(hour)}
            level = {"typeOfLevel": "isobaricInhPa", "level": 500}
            (tmp_path / f"{hour}.grib2").write_bytes(
                grib_message(GRID, {**day, "shortName": "gh", **level}, height)
                + grib_message(GRID, {**day, "shortName": "2t"}, temperature)
            )
        found = forecast(f"ifs+{bucket.url}", "fetched.zarr")
        travelled = sum(size for path, size in bucket.sent.items() if path.endswith(".grib2"))
        assert travelled < sum(map(len, bucket.files.values())) / 8
    expected = forecast(str(tmp_path / "*.grib2"), "local.zarr")
    for name in ("geopotential", "2m_temperature"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_inputs_of_a_computed_channel_are_on_its_level() -> None:
    channel = Channel(name="relative_humidity", level=850, units="%")
    (field,) = wanted_fields(Channels((channel,)))
    assert field.label == "relative_humidity_850"
    assert set(field.inputs) == {("specific_humidity", 850), ("temperature", 850)}


@pytest.mark.parametrize("name", ["u1", "vorticity"])
def test_fields_on_a_plane_may_have_any_name(tmp_path: Path, name: str) -> None:
    """``u1`` would be the wind at 1 hPa."""
    axes = {"y": np.arange(4.0), "x": np.arange(4.0)}
    fields = (("time", "y", "x"), np.ones((2, 4, 4)))
    dataset = xr.Dataset({name: fields, "other": fields}, {"time": TIMES, **axes})
    dataset.assign_attrs(periodic="y x").to_netcdf(tmp_path / "plane.nc")
    source = SourceConfig(path=str(tmp_path / "plane.nc"))
    forecaster = make_forecaster()
    save_checkpoint(tmp_path / "best.safetensors", forecaster, {}, {})
    spec = replace(forecaster.spec, channels=Channels((Channel(name=name, units="1"),)))
    opened = open_initial_data(source, spec, tmp_path / "best.safetensors")
    assert list(opened.data_vars) == [name]
