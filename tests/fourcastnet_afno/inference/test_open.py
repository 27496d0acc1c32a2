"""Forecasts under the names of this project."""

from pathlib import Path

import numpy as np

from fourcastnet_afno.inference.open import open_forecast
from tests.builders.errors import rejects
from tests.builders.forecasters import make_forecast, make_states


def test_names_are_translated_at_the_border(tmp_path: Path) -> None:
    written = make_forecast(tmp_path / "f.zarr")
    assert written["2m_temperature"].dims == ("init_time", "lead_time", "latitude", "longitude")
    valid = written["valid_time"].isel(init_time=2, lead_time=3).values
    assert valid == np.datetime64("2020-01-01T18", "ns") + np.timedelta64(24, "h")
    with rejects("missing-file", str(tmp_path / "nothing.zarr")):
        open_forecast(tmp_path / "nothing.zarr")
    make_states().to_zarr(tmp_path / "other.zarr", consolidated=False)
    with rejects("other-format", "['prediction_timedelta']"):
        open_forecast(tmp_path / "other.zarr")
