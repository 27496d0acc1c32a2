"""Layout, selection and rounding of a forecast store."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from data_pipeline.channels import Channel, Channels
from data_pipeline.timestep import Timestep, lead_label, lead_times_of
from fourcastnet_afno.evaluation.inputs.open import open_with_layouts
from fourcastnet_afno.inference.config import StoreConfig
from fourcastnet_afno.inference.store import ForecastLayout, bit_rounded
from tests.builders.errors import rejects
from tests.builders.experiments import GRID
from tests.builders.forecasters import Growing, contents, make_forecast, make_states


@pytest.mark.parametrize("chunks", ["init_time", "lead_time"])
def test_the_layout_is_weatherbench2s(tmp_path: Path, chunks: str) -> None:
    make_forecast(tmp_path / "f.zarr", chunks=chunks, num_members=3, perturbation="gaussian")
    stored = xr.open_zarr(tmp_path / "f.zarr", consolidated=False, decode_timedelta=True)
    dims = ("time", "realization", "prediction_timedelta", "level", "latitude", "longitude")
    assert stored["geopotential"].dims == dims
    assert stored["2m_temperature"].dims == tuple(d for d in dims if d != "level")
    assert stored["geopotential"].attrs["units"] == "m2 s-2"
    assert stored["2m_temperature"].attrs["standard_name"] == "air_temperature"
    assert stored["time"].attrs["standard_name"] == "forecast_reference_time"
    assert stored["prediction_timedelta"].attrs["standard_name"] == "forecast_period"
    assert stored["latitude"].attrs["units"] == "degrees_north"
    assert stored.attrs["Conventions"].startswith("CF-")
    hours = stored["prediction_timedelta"].values / np.timedelta64(1, "h")
    assert hours.tolist() == [6, 12, 18, 24, 30]
    expected = {"init_time": (1, 1, 5, 1, 6, 12), "lead_time": (1, 3, 1, 1, 6, 12)}[chunks]
    assert tuple(c[0] for c in stored["geopotential"].chunks) == expected
    meta = json.loads((tmp_path / "f.zarr" / "zarr.json").read_text())
    assert meta["zarr_format"] == 3


def num_files(path: Path) -> int:
    """Files of values, without metadata."""
    files = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sum("c" in file.parts for file in files)


ENSEMBLE = {"num_members": 3, "perturbation": "gaussian", "num_steps": 6}


@pytest.mark.parametrize("chunks", ["init_time", "lead_time"])
@pytest.mark.parametrize("output", ["members", "statistics"])
def test_shards_hold_the_same_values_in_fewer_files(
    tmp_path: Path, chunks: str, output: str
) -> None:
    options = {**ENSEMBLE, "chunks": chunks, "output": output, "batch_size": 6}
    plain = make_forecast(tmp_path / "plain.zarr", **options)
    written = make_forecast(tmp_path / "sharded.zarr", **options, shard_mib=1.0)
    xr.testing.assert_equal(plain.load(), written.load())
    assert not open_with_layouts(str(tmp_path / "sharded.zarr"))[0].encoding["notes"]
    units = -(-written.sizes["init_time"] // 2)
    groups = zarr.open_group(tmp_path / "sharded.zarr", mode="r")
    arrays = [a for a in _arrays(groups) if a.ndim > 1]
    assert num_files(tmp_path / "sharded.zarr") == units * len(arrays) + _num_coordinates(groups)
    assert num_files(tmp_path / "plain.zarr") > num_files(tmp_path / "sharded.zarr")


def _arrays(group: zarr.Group) -> list[zarr.Array]:
    return [*(a for _, a in group.arrays()), *(a for _, g in group.groups() for a in _arrays(g))]


def _num_coordinates(group: zarr.Group) -> int:
    return sum(1 for array in _arrays(group) if array.ndim == 1)


def test_shards_stay_small_and_within_what_runs_together() -> None:
    size = 4 * GRID.shape[0] * GRID.shape[1]  # a field
    levels = tuple(Channel(name="temperature", level=level) for level in range(100, 800, 100))
    layout = ForecastLayout(
        channels=Channels((*levels, Channel(name="2m_temperature"))),
        grid=GRID,
        init_times=np.arange(10).astype("datetime64[ns]"),
        lead_times=np.arange(1, 41) * np.timedelta64(6, "h"),
        step=Timestep.parse("6h"),
        members=tuple(range(12)),
        forecasts_together=(4, 6),
        config=StoreConfig(chunks="init_time", shard_mib=1.0),
    )
    chunks = {**layout.chunk_sizes, "latitude": GRID.shape[0], "longitude": GRID.shape[1]}
    sizes = {"time": 10, "realization": 12, "prediction_timedelta": 40, "level": 7}
    sizes |= {"latitude": GRID.shape[0], "longitude": GRID.shape[1]}
    for mib in (size / 2**20, 0.05, 0.3, 1.0, 3.0, 1000.0):
        config = StoreConfig(chunks="init_time", shard_mib=mib)
        found = replace(layout, config=config)
        shards = found.shard_sizes(sizes, {**chunks, "prediction_timedelta": found.steps_in_chunk})
        smallest = size * found.steps_in_chunk
        assert 4 * np.prod(list(shards.values())) <= max(mib * 2**20, smallest)
        assert 4 % shards["time"] == 0  # never of two units
        assert 6 % shards["realization"] == 0
        assert found.steps_together % shards["prediction_timedelta"] == 0
        assert shards["prediction_timedelta"] % found.steps_in_chunk == 0
        assert found.written_bytes <= max(2 * mib * 2**20, 4 * 6 * 8 * smallest)


def test_shards_that_do_not_fit_into_memory_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_pipeline.memory.memory_limit", lambda: 30_000)
    with rejects("too-little-memory", "forecast.store.shard_mib"):
        make_forecast(tmp_path / "f.zarr", num_steps=6, shard_mib=1.0)


def test_each_channel_is_on_its_level_where_variables_have_others(tmp_path: Path) -> None:
    labels = ("geopotential", 500), ("geopotential", 300), ("temperature", 300)
    labels += ("temperature", 500), ("specific_humidity", 850)
    channels = Channels(tuple(Channel(name=name, level=level) for name, level in labels))
    data = make_states(3, channels=channels)
    stepper, times = Growing(channels=channels), data["time"].values[:2]
    forecast = make_forecast(tmp_path / "f.zarr", stepper, data, times, num_steps=1).load()
    found, initial = channels.stack(forecast.isel(lead_time=0)), channels.stack(data)
    np.testing.assert_array_equal(found.values, initial.values[:2] + 1)
    assert forecast["specific_humidity"].sel(level=[300, 500]).isnull().all()


STEPS = {
    "1MS": ("2004-01-31", ["2004-02-29", "2004-03-31", "2004-04-30"], "standard"),
    "1D": ("2004-02-27", ["2004-02-28", "2004-03-01", "2004-03-02"], "noleap"),
    "30min": ("2004-02-28T23:30", ["2004-02-29", "2004-02-29T00:30", "2004-02-29T01"], "standard"),
}


@pytest.mark.parametrize("text", STEPS)
@pytest.mark.parametrize("suffix", ["zarr", "nc"])
def test_steps_of_any_length_name_their_valid_times(tmp_path: Path, text: str, suffix: str) -> None:
    start, expected, calendar = STEPS[text]
    data = make_states(1).assign_coords(time=np.array([start], "datetime64[ns]"))
    stepper, path = Growing(step=Timestep.parse(text, calendar=calendar)), tmp_path / f"f.{suffix}"
    written = make_forecast(path, stepper, data, data["time"].values, num_steps=3)
    np.testing.assert_array_equal(written["valid_time"][0], np.array(expected, "datetime64[ns]"))
    leads = lead_times_of(written["lead_time"])
    assert [lead_label(lead) for lead in leads] == {
        "1MS": ["1 month", "2 months", "3 months"],
        "1D": ["24 h", "2 days", "3 days"],
        "30min": ["30 min", "1 h", "90 min"],
    }[text]
    options: dict = {"engine": "zarr", "consolidated": False} if suffix == "zarr" else {}
    with xr.open_dataset(path, decode_timedelta=True, **options) as stored:
        assert stored["time"].values == np.datetime64(start)
        if text != "30min":  # cannot be added up by others
            np.testing.assert_array_equal(stored["valid_time"], written["valid_time"])
        months = stored["prediction_timedelta"].attrs.get("units") == "months"
        assert months == (text == "1MS")
    written.close()


def test_a_lead_time_without_a_date_is_named(tmp_path: Path) -> None:
    data = make_states(1).assign_coords(time=np.array(["2003-02-27"], "datetime64[ns]"))
    stepper = Growing(step=Timestep.parse("1D", calendar="360_day"))
    with rejects("no-times", "2003-02-27", "2 days", "360_day"):  # February 29
        make_forecast(tmp_path / "f.zarr", stepper, data, data["time"].values, num_steps=3)


def test_variables_and_levels_are_selected(tmp_path: Path) -> None:
    written = make_forecast(tmp_path / "a.zarr", variables=["geopotential"], levels=[500])
    assert list(written.data_vars) == ["geopotential"]
    assert written["level"].values.tolist() == [500]
    whole = make_forecast(tmp_path / "b.zarr")
    xr.testing.assert_equal(
        written["geopotential"].drop_attrs(), whole["geopotential"].sel(level=[500]).drop_attrs()
    )
    one = make_forecast(tmp_path / "c.zarr", variables=["z850", "t2m"])
    assert sorted(map(str, one.data_vars)) == ["2m_temperature", "geopotential"]
    assert one["level"].values.tolist() == [850]
    with rejects("missing-variable", "['humidity', 'level 300']"):
        make_forecast(tmp_path / "d.zarr", variables=["humidity", "2m_temperature"], levels=[300])
    assert not list(tmp_path.glob("*d.zarr*"))


@pytest.mark.parametrize("bits", [1, 7, 12, 22])
def test_the_stated_rounding_error_holds_and_is_reached(bits: int) -> None:
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(20_000) * 10 ** rng.uniform(-20, 20, 20_000)).astype("f4")
    error = np.abs(bit_rounded(values, bits).astype("f8") - values) / np.abs(values)
    assert 0.75 * 2.0 ** -(bits + 1) < error.max() <= 2.0 ** -(bits + 1)
    special = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0], "f4")
    np.testing.assert_array_equal(bit_rounded(special, bits), special)


def test_rounding_is_stated_and_saves_space(tmp_path: Path) -> None:
    whole, rounded = (
        make_forecast(tmp_path / "a.zarr"),
        make_forecast(tmp_path / "b.zarr", keep_bits=7),
    )
    name = "2m_temperature"
    assert rounded[name].attrs["quantization_maximum_relative_error"] == 2**-8
    error = np.abs(rounded[name] / whole[name] - 1).max()
    assert 0 < error <= 2**-8
    sizes = [sum(map(len, contents(tmp_path / f"{x}.zarr" / name).values())) for x in "ab"]
    assert sizes[1] < 0.7 * sizes[0]


def test_without_compression_chunks_are_the_values(tmp_path: Path) -> None:
    written = make_forecast(tmp_path / "f.zarr", compression="none", chunks="lead_time")
    raw = (tmp_path / "f.zarr" / "2m_temperature" / "c/0/2/0/0").read_bytes()
    expected = written["2m_temperature"].isel(init_time=slice(0, 4), lead_time=[2]).values
    np.testing.assert_array_equal(np.frombuffer(raw, "<f4").reshape(expected.shape), expected)
