"""The recipes on data laid out as their publishers lay it out."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from data_pipeline.names import parse_label
from data_pipeline.store import PreparedStore
from fourcastnet_afno.cli import build_parser, main

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPE = CONFIGS / "weatherbench2_64x32.yaml"
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


PUBLISHED = {
    # latitudes, longitude first, hours between times, levels
    "weatherbench2_64x32": (-87.1875 + np.arange(32) * 5.625, True, 6, 13),
    "weatherbench2_240x121": (-90 + np.arange(121) * 1.5, True, 6, 13),
    "weatherbench2_1440x721": (90 - np.arange(721) * 0.25, False, 6, 13),
    "arco_era5": (90 - np.arange(721) * 0.25, False, 1, 37),
}


def publish(path: Path, preset: str, hours: int = 96) -> xr.Dataset:
    """Random numbers in the grid, order of axes and chunks of a published store."""
    latitude, longitude_first, step, num_levels = PUBLISHED[preset]
    count = {32: 64, 121: 240, 721: 1440}[len(latitude)]
    times = np.datetime64("2020-01-01", "ns") + np.arange(0, hours, step) * np.timedelta64(1, "h")
    levels = [500, 850] if num_levels == 13 else [500, 550, 850]
    coords = {"time": times, "level": levels, "latitude": latitude}
    coords["longitude"] = np.arange(count) * 360 / count
    plane = ("longitude", "latitude") if longitude_first else ("latitude", "longitude")
    rng = np.random.default_rng(0)

    def draw(dims: tuple[str, ...], units: str) -> tuple[tuple[str, ...], np.ndarray, dict]:
        shape = [len(coords[dim]) for dim in dims]
        return dims, rng.random(shape, dtype=np.float32), {"units": units}

    dataset = xr.Dataset(
        {
            "geopotential": draw(("time", "level", *plane), "m**2 s**-2"),
            "2m_temperature": draw(("time", *plane), "K"),
            "land_sea_mask": draw(plane, "(0 - 1)"),
        },
        coords,
    )
    dataset.chunk(time=1).to_zarr(path, zarr_format=2, consolidated=True)
    return dataset


@pytest.mark.parametrize("preset", list(PUBLISHED))
def test_presets_read_what_they_name(preset: str, tmp_path: Path) -> None:
    source = publish(tmp_path / "store.zarr", preset, hours=36)
    words = [f"--config={CONFIGS / preset}.yaml", f"--output={tmp_path / 'run'}"]
    words += [f"--data.source.path={tmp_path / 'store.zarr'}", "--data.climatology_harmonics=0"]
    words += ["--data.prognostic=[geopotential_850, t2m]", "--data.static=[land_sea_mask]"]
    words += ["--data.levels=[]"]
    for period, start in (("train", "01T00"), ("validation", "01T12"), ("test", "02T00")):
        words.append(f"--data.{period}.start=2020-01-{start}")
        end = np.datetime64(f"2020-01-{start}") + np.timedelta64(6, "h")
        words.append(f"--data.{period}.end={end}:00")
    assert main(["prepare", *words]) == 0
    store = PreparedStore(tmp_path / "run" / "data.zarr")
    assert store.channels.labels == ["geopotential_850", "2m_temperature"]
    assert len(store.times) == 6
    assert store.grid.latitude[0] > store.grid.latitude[-1]
    at = {"latitude": source["latitude"].values[3], "longitude": source["longitude"].values[5]}
    expected = source["geopotential"].sel(level=850, time=store.times, **at)
    found = store.dataset()["geopotential"].sel(level=850, **at)
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize(
    ("name", "count"),
    [("fourcastnet_20", 20), ("fourcastnet_26", 26), ("weatherbench_69", 69), ("minimal", 5)],
)
def test_channel_sets(name: str, count: int) -> None:
    words = [f"--config={RECIPE}", f"--config={CONFIGS / 'channels' / name}.yaml"]
    parser = build_parser()
    config = parser.instantiate(parser.parse_args(["prepare", *words])).prepare.data
    assert len(set(config.prognostic)) == count
    assert config.levels == []
    for label in config.prognostic:
        variable, level = parse_label(label)
        assert label == (variable if level is None else f"{variable}_{level}")


def test_fourcastnet_channels_are_those_of_the_paper() -> None:
    short = "u10 v10 t2m sp msl t850 u1000 v1000 z1000 u850 v850 z850 u500 v500 z500 t500 z50"
    short += " r500 r850 tcwv"
    labels = yaml.safe_load((CONFIGS / "channels" / "fourcastnet_20.yaml").read_text())
    expected = [parse_label(label) for label in short.split()]
    assert [parse_label(label) for label in labels["data"]["prognostic"]] == expected
