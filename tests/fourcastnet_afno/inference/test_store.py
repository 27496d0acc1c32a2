"""Layout, selection and rounding of a forecast store."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.timestep import Timestep, lead_label, lead_times_of
from fourcastnet_afno.inference.store import bit_rounded
from tests.builders.errors import rejects
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
