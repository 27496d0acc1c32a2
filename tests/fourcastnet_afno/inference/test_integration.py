"""Forecasts that blow up, and diagnostic models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.channels import Channel, Channels
from fourcastnet_afno.inference.open import open_diagnostics
from fourcastnet_afno.report.rows import stability
from tests.builders.errors import rejects
from tests.builders.forecasters import (
    Growing,
    make_forecast,
    make_states,
)


class Averaging(Growing):
    """A diagnostic model: the mean of the geopotentials."""

    channels = Channels((Channel(name="mean_geopotential", units="m2 s-2"),))

    def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
        return state[:, -1, :2].mean(dim=1, keepdim=True)


def test_diagnostic_models_see_the_new_state_and_are_not_fed_back(tmp_path: Path) -> None:
    data = make_states()
    times = data["time"].values[:2]
    written = make_forecast(tmp_path / "f", Growing(), data, times, diagnostic=Averaging())
    expected = written["geopotential"].mean("level")
    np.testing.assert_allclose(written["mean_geopotential"], expected, rtol=1e-5, atol=1e-6)
    initial = data["2m_temperature"].values[:2, None]
    found = written["2m_temperature"].values
    np.testing.assert_allclose(
        found - initial, np.arange(1, 6)[:, None, None] + 0 * found, rtol=1e-5
    )


def with_land() -> Growing:
    """The temperature has no value at a point, where training saw 7 K."""
    stepper, filled = Growing(), torch.full((3, 6, 12), torch.nan)
    filled[2, 1, 1] = 7.0
    stepper.scales = stepper.scales._replace(filled=filled)
    return stepper


@pytest.mark.parametrize("output", ["members", "statistics"])
def test_what_never_had_a_value_is_missing_in_forecasts_too(tmp_path: Path, output: str) -> None:
    data = make_states()
    whole = make_forecast(tmp_path / "whole", Growing(), data, data["time"].values[:2])
    data["2m_temperature"][:, 1, 1] = np.nan
    settings = {"num_members": 3, "perturbation": "gaussian", "amplitude": 0.0, "output": output}
    times = data["time"].values[:2]
    for name, changes in {"one": {}, "members": settings}.items():
        written = make_forecast(tmp_path / name, with_land(), data, times, **changes)
        found = written["2m_temperature"]
        assert found[..., 1, 1].isnull().all()
        found = found.isel(realization=1) if "realization" in found.dims else found
        expected = whole["2m_temperature"].where(found.notnull())
        assert found.isnull().sum() == 2 * 5
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert written["geopotential"].notnull().all()


def test_a_value_that_is_missing_elsewhere_is_rejected(tmp_path: Path) -> None:
    data = make_states()
    data["2m_temperature"][:, 1, 1:3] = np.nan
    with rejects("not-finite", "2m_temperature", "1 values"):
        make_forecast(tmp_path / "f", with_land(), data, data["time"].values[:1])


def test_a_blow_up_ends_one_member_and_is_named(tmp_path: Path) -> None:
    data = make_states()
    data["geopotential"][3, 1, 2, 5] = 100.0  # at 2020-01-01T18, level 500 after 850
    told: list[str] = []
    written = make_forecast(
        tmp_path / "f.zarr",
        Growing(factor=2.0, std=1.0),
        data,
        data["time"].values[2:5],
        limit=1000.0,
        num_steps=8,
        chunks="lead_time",
        report=told.append,
    )
    (record,) = json.loads(written.attrs["blow_ups"])[:1]
    level = int(data["level"][1])
    latitude, longitude = (float(data[axis][i]) for axis, i in (("latitude", 2), ("longitude", 5)))
    assert record["channel"] == f"geopotential_{level}"
    assert (record["latitude"], record["longitude"]) == (latitude, longitude)
    assert (record["init_time"], record["step"]) == ("2020-01-01T18:00:00", 4)  # 16 * 100 + 15
    assert float(record["value"]) == 1615.0
    assert told[0].startswith(
        f"the forecast from 2020-01-01T18:00:00 (member 0) blew up in step 4, after 24 h: "
        f"geopotential_{level} is 1615.0 at {latitude:g} N, {longitude:g} E"
    )
    ended = written.isel(init_time=1)
    assert ended.isel(lead_time=slice(0, 3)).notnull().all().to_array().all()
    assert ended.isel(lead_time=slice(3, None)).isnull().all().to_array().all()
    others = written.isel(init_time=[0, 2], lead_time=slice(0, 5))
    assert others.notnull().all().to_array().all()
    maximum = open_diagnostics(tmp_path / "f.zarr")["maximum"].sel(channel=record["channel"])
    np.testing.assert_array_equal(maximum[1, :4], [201, 403, 807, 1615])
    assert maximum[1, 4:].isnull().all()
    in_report = stability({"growing": written})["growing"]
    assert "of 3 forecasts blew up within 2 days, the first one, from 2020-01-01T" in in_report


def test_when_all_have_ended_the_rest_is_nan(tmp_path: Path) -> None:
    written = make_forecast(tmp_path / "f.zarr", Growing(factor=100.0, std=1.0), num_steps=6)
    records = json.loads(written.attrs["blow_ups"])
    assert len(records) == 7
    assert written.isel(lead_time=5).isnull().all().to_array().all()
    statistics = open_diagnostics(tmp_path / "f.zarr")
    assert statistics["mean"].isel(lead_time=5).isnull().all()
