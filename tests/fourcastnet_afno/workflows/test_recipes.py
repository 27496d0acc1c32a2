"""The recipes on data laid out as their publishers lay it out."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_pipeline.channels import Channels
from data_pipeline.preprocessing.derived import with_derived
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.names import parse_label
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.cli.parser import parse
from fourcastnet_afno.forecaster.band_limit import BandLimit
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from tests.builders.errors import rejects
from tests.builders.layouts import LAYOUTS, publish, serving

CONFIGS = Path(__file__).parents[3] / "configs"
RECIPE = CONFIGS / "weatherbench2_64x32.yaml"


def test_weatherbench2_is_read_as_it_is_published(tmp_path: Path) -> None:
    recipe = yaml.safe_load(RECIPE.read_text())["data"]
    names = [*recipe["prognostic"], *recipe["static"]]
    levels = (100, *recipe["levels"])
    source = publish(tmp_path / "era5.zarr", "weatherbench2_64x32", names, 9 * 24, levels)
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


PERIODS = {"train": "02T00", "validation": "02T12", "test": "03T00"}


def words(preset: str, path: object, output: Path, *more: str) -> list[str]:
    """Arguments of a recipe on other data, with periods of two states."""
    periods = [
        f"--data.{period}.{end}={np.datetime64(f'2020-01-{start}') + np.timedelta64(hours, 'h')}:00"
        for period, start in PERIODS.items()
        for end, hours in (("start", 0), ("end", 6))
    ]
    given = [f"--config={CONFIGS / preset}.yaml", f"--output={output}", *more, *periods]
    return [*given, f"--data.source.path={path}", "--data.climatology_harmonics=0"]


@pytest.mark.parametrize("preset", list(LAYOUTS))
def test_presets_read_what_they_name(preset: str, tmp_path: Path) -> None:
    """Over HTTP, from a server that fails at first."""
    names = ["geopotential", "2m_temperature", "geopotential_at_surface", "land_sea_mask"]
    source = publish(
        tmp_path / "store.zarr", preset, names, 31, levels=(850,), start="2020-01-02", stride=4
    )
    more = ["--data.prognostic=[geopotential_850, t2m]", "--data.static=[orography, lsm]"]
    with serving(tmp_path) as (url, handler):
        handler.failures = 1
        more.append("--data.levels=[]")
        assert main(["prepare", *words(preset, f"{url}/store.zarr", tmp_path / "run", *more)]) == 0
        assert handler.failures == 0
    store = PreparedStore(tmp_path / "run" / "data.zarr")
    assert store.channels.labels == ["geopotential_850", "2m_temperature"]
    assert store.static_channels.labels == ["surface_altitude", "land_sea_mask"]
    assert [str(time)[8:13] for time in store.times][::5] == ["02T00", "03T06"]
    assert store.grid.latitude[0] > store.grid.latitude[-1]
    plane = ("latitude", "longitude")
    expected = source.transpose("time", "level", *plane).sortby("latitude", ascending=False)
    expected = expected.sel(time=store.times)
    found = store.dataset()
    np.testing.assert_array_equal(found["geopotential"], expected["geopotential"])
    np.testing.assert_array_equal(found["2m_temperature"], expected["2m_temperature"])
    static = np.asarray(store._read("static"))
    altitude = expected["geopotential_at_surface"] / 9.80665
    np.testing.assert_allclose(static[0], altitude, rtol=1e-6)
    np.testing.assert_array_equal(static[1], expected["land_sea_mask"])


SMALLER = {"embed_dim": 16, "depth": 1, "kernel_window": 2}


@pytest.mark.parametrize("preset", list(LAYOUTS))
def test_presets_train_what_they_name(preset: str, tmp_path: Path) -> None:
    """With smaller networks, on coarser data; winds, for the bands of vectors."""
    names = ["geopotential", "u_component_of_wind", "geopotential_at_surface", "land_sea_mask"]
    stride = {"weatherbench2_64x32": 1, "weatherbench2_240x121": 6}.get(preset, 36)
    hours = 79 if preset == "arco_era5" else 120
    publish(tmp_path / "store.zarr", preset, names, hours, (850,), "2020-01-01", stride)
    given = [f"--config={CONFIGS / preset}.yaml", f"--output={tmp_path / 'run'}"]
    given += ["--data.prognostic=[z_850, u_850]", "--data.levels=[]"]
    given += [f"--data.source.path={tmp_path / 'store.zarr'}", "--data.climatology_harmonics=0"]
    for day, period in enumerate(("train", "validation", "test"), 1):
        given.append(f"--data.{period}.start=2020-01-0{day}T00:00")
        given.append(f"--data.{period}.end=2020-01-0{day}T18:00")
    given += [f"--model.network.{key}={value}" for key, value in SMALLER.items()]
    given += ["--model.network.vector_channels=8"] if preset == "weatherbench2_64x32" else []
    given += ["--training.stages=[{epochs: 1, num_steps: 2}]", "--training.validation.num_steps=0"]
    assert main(["train", *given]) == 0
    forecaster = load_forecaster(tmp_path / "run" / "checkpoints" / "best.safetensors")
    model = forecaster.config
    assert (model.num_history, model.band_limit, model.network.wavenumber_weights) == (
        2,
        0.667,
        "kernel",
    )
    assert isinstance(forecaster.band_limit, BandLimit)
    losses = json.loads((tmp_path / "run" / "history.json").read_text())
    assert all(np.isfinite(epoch["validation_loss"]) for epoch in losses)


FOURCASTNET = ["geopotential", "temperature", "u_component_of_wind", "v_component_of_wind"]
FOURCASTNET += ["specific_humidity", "10m_u_component_of_wind", "10m_v_component_of_wind"]
FOURCASTNET += ["2m_temperature", "surface_pressure", "mean_sea_level_pressure"]
FOURCASTNET += ["total_column_water_vapour"]
WINDS_100M = ["100m_u_component_of_wind", "100m_v_component_of_wind"]


@pytest.mark.parametrize(
    ("preset", "channels", "lacking"),
    [
        ("weatherbench2_240x121", "fourcastnet_20", ""),
        ("weatherbench2_1440x721", "fourcastnet_26", "lacks the variables .*100m_u_component"),
        ("weatherbench2_240x121", "fourcastnet_34", "lacks the variables .*100m_v_component"),
        ("arco_era5", "fourcastnet_34", ""),
        ("weatherbench2_64x32", "weatherbench_69", ""),
    ],
)
def test_channel_sets_on_published_stores(
    preset: str, channels: str, lacking: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = FOURCASTNET + (WINDS_100M if preset == "arco_era5" else ["relative_humidity"])
    names += ["land_sea_mask", "geopotential_at_surface"]
    store = tmp_path / "store.zarr"
    publish(store, preset, names, hours=31, start="2020-01-02", stride=20)
    more = [f"--config={CONFIGS / 'channels' / channels}.yaml"]
    code = main(["prepare", *words(preset, store, tmp_path / "run", *more)])
    if lacking:
        assert code == 2
        assert re.search(lacking, capsys.readouterr().err, re.DOTALL)
        return
    assert code == 0
    prepared = PreparedStore(tmp_path / "run" / "data.zarr")
    wanted = yaml.safe_load((CONFIGS / "channels" / f"{channels}.yaml").read_text())["data"]
    assert prepared.channels.labels == wanted["prognostic"]
    if "fourcastnet" in channels:
        humid = [c for c in prepared.channels if c.name == "relative_humidity"]
        assert [c.units for c in humid] == ["%", "%"]


def test_levels_that_a_store_lacks_are_named(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    publish(store, "weatherbench2_240x121", FOURCASTNET + WINDS_100M, hours=12, stride=20)
    labels = yaml.safe_load((CONFIGS / "channels" / "fourcastnet_34.yaml").read_text())
    opened = open_source(SourceConfig(path=str(store)))
    dataset = with_derived(opened, ["relative_humidity"])
    with rejects("missing-level", "u_component_of_wind", "[900] hPa"):
        Channels.from_dataset(dataset, labels["data"]["prognostic"])


COUNTS = {"fourcastnet_20": 20, "fourcastnet_26": 26, "fourcastnet_34": 34}
COUNTS |= {"weatherbench_69": 69, "minimal": 5}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_channel_sets(name: str, count: int) -> None:
    words = [f"--config={RECIPE}", f"--config={CONFIGS / 'channels' / name}.yaml"]
    config = parse("prepare", words)["config"].data
    assert len(set(config.prognostic)) == count
    assert config.levels == []
    for label in config.prognostic:
        variable, level = parse_label(label)
        assert label == (variable if level is None else f"{variable}_{level}")


SETS = {
    # Pathak et al., 2022, table 1.
    "fourcastnet_20": "u10 v10 t2m sp msl t850 u1000 v1000 z1000 u850 v850 z850 u500 v500 z500 t500"
    " z50 r500 r850 tcwv",
    # ChannelSet.var26 and var34 of NVIDIA's earth2mip (earth2mip/schema.py).
    "fourcastnet_26": "u100m v100m u250 v250 z250 t250",
    "fourcastnet_34": "u100 v100 z100 t100 u900 v900 z900 t900",
}


@pytest.mark.parametrize("name", list(SETS))
def test_fourcastnet_channels_are_the_published_ones(name: str) -> None:
    """Each set begins with the one before."""
    until = list(SETS)[: list(SETS).index(name) + 1]
    expected = [parse_label(label) for part in until for label in SETS[part].split()]
    labels = yaml.safe_load((CONFIGS / "channels" / f"{name}.yaml").read_text())
    assert [parse_label(label) for label in labels["data"]["prognostic"]] == expected


def test_settings_of_the_data_are_typed_on_the_command_line() -> None:
    given = [f"--config={RECIPE}", "--data.accumulate={total_precipitation: sum, tisr: mean}"]
    given += ["--data.fill={sea_surface_temperature: climatology, soil_type: 0}"]
    given += ["--data.source.storage_options={anon: false, endpoint_url: https://example.org}"]
    data = parse("prepare", given)["config"].data
    assert data.accumulate == {"total_precipitation": "sum", "tisr": "mean"}
    assert data.fill == {"sea_surface_temperature": "climatology", "soil_type": 0.0}
    assert data.source.storage_options == {"anon": False, "endpoint_url": "https://example.org"}
    assert main(["prepare", *given, "--output=x", "--data.accumulate={tp: maximum}"]) == 2
