"""The recipes on data laid out as their publishers lay it out."""

from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from data_pipeline.store import PreparedStore
from fourcastnet_afno.cli import main

RECIPE = Path(__file__).parents[2] / "configs" / "weatherbench2_64x32.yaml"
UNITS = {
    "geopotential": "m**2 s**-2",
    "temperature": "K",
    "specific_humidity": "kg kg**-1",
    "u_component_of_wind": "m s**-1",
    "v_component_of_wind": "m s**-1",
    "2m_temperature": "K",
    "10m_u_component_of_wind": "m s**-1",
    "10m_v_component_of_wind": "m s**-1",
    "mean_sea_level_pressure": "Pa",
    "geopotential_at_surface": "m**2 s**-2",
    "land_sea_mask": "(0 - 1)",
}


def make_weatherbench2(path: Path, num_times: int) -> xr.Dataset:
    """Random numbers with the names, units, order of axes and format of WeatherBench 2's stores."""
    recipe = yaml.safe_load(RECIPE.read_text())["data"]
    rng = np.random.default_rng(0)
    coords = {
        "time": np.datetime64("2020-01-01", "ns") + np.arange(num_times) * np.timedelta64(6, "h"),
        "level": [100, *recipe["levels"]],
        "longitude": np.arange(64) * 5.625,
        "latitude": -87.1875 + np.arange(32) * 5.625,
    }
    data = {}
    for name in recipe["prognostic"] + recipe["static"]:
        leveled = recipe["prognostic"].index(name) < 5 if name in recipe["prognostic"] else False
        dims = ["time", *(["level"] if leveled else []), "longitude", "latitude"]
        dims = dims[1:] if name in recipe["static"] else dims
        shape = [len(coords[dim]) for dim in dims]
        data[name] = (dims, rng.random(shape).astype("f4"), {"units": UNITS[name]})
    dataset = xr.Dataset(data, coords)
    dataset.to_zarr(path, zarr_format=2, consolidated=True)
    return dataset


def test_weatherbench2_is_read_as_it_is_published(tmp_path: Path) -> None:
    source = make_weatherbench2(tmp_path / "era5.zarr", num_times=36)
    words = [f"--config={RECIPE}", f"--output={tmp_path / 'run'}", "--data.climatology_harmonics=0"]
    words.append(f"--data.source.path={tmp_path / 'era5.zarr'}")
    for day, period in ((1, "train"), (4, "validation"), (7, "test")):
        words.append(f"--data.{period}.start=2020-01-0{day}")
        words.append(f"--data.{period}.end=2020-01-0{day + 2}")
    assert main(["prepare", *words]) == 0
    store = PreparedStore(tmp_path / "run" / "data.zarr")
    assert len(store.channels) == 5 * 4 + 4
    assert store.channels.labels[:2] == ["geopotential_250", "geopotential_500"]
    assert store.static_channels.labels == ["geopotential_at_surface", "land_sea_mask"]
    prepared = store.dataset()["specific_humidity"].sel(level=850, latitude=87.1875)
    expected = source["specific_humidity"].sel(level=850, latitude=87.1875)
    np.testing.assert_array_equal(prepared.values, expected.transpose("time", "longitude").values)
