"""Forecasts in bfloat16 step copies of the forecasters, with the bits of autocast."""

from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
import xarray as xr

from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference import write as writing
from fourcastnet_afno.inference.tuning.precision import in_precision
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from tests.builders.experiments import GRID, make_forecaster, make_states
from tests.builders.forecasters import Growing, make_config, make_forecast

BFLOAT16 = {"precision": "bfloat16", "limit": 1e30, "num_members": 2, "num_steps": 3}
MODELS: dict[str, dict] = {
    "plain": {},
    "kernels": {"wavenumber_weights": "kernel"},
    "noise": {"noise": NoiseConfig(length_scales=[4000.0], channels=2, width=8)},
}


def make_model(name: str) -> Forecaster:
    settings = dict(MODELS[name])
    noise = {"noise": settings.pop("noise")} if "noise" in settings else {}
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=16, depth=2, num_blocks=2, **settings)
    forecaster = make_forecaster(network=network, **noise).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return forecaster


def data_of(forecaster: Forecaster) -> xr.Dataset:
    times = np.datetime64("2020-01-01", "ns") + np.arange(8) * np.timedelta64(6, "h")
    fields = make_states(forecaster, len(times)).numpy()
    return forecaster.spec.channels.unstack(fields, {"time": times, **GRID.coords})


@pytest.mark.parametrize(
    ("model", "perturbation"),
    [("plain", "gaussian"), ("kernels", "gaussian"), ("kernels", "bred"), ("noise", "none")],
)
def test_forecasts_have_the_bits_of_autocast(tmp_path: Path, model: str, perturbation: str) -> None:
    forecaster = make_model(model)
    data = data_of(forecaster)
    settings = {**BFLOAT16, "perturbation": perturbation, "breeding_cycles": 1}
    arguments = forecaster, data, data["time"].values[5:7]
    found = make_forecast(tmp_path / "found.zarr", *arguments, **settings)
    with patch.object(writing, "in_precision", lambda config, steppers: list(steppers)):
        expected = make_forecast(tmp_path / "expected.zarr", *arguments, **settings)
    xr.testing.assert_equal(found, expected)
    assert found.attrs["fingerprint"] == expected.attrs["fingerprint"]


def test_the_forecaster_that_is_given_stays_as_it_is() -> None:
    forecaster = make_model("kernels")
    before = {name: value.clone() for name, value in forecaster.state_dict().items()}
    (copy,) = in_precision(make_config(precision="bfloat16"), [forecaster])
    assert isinstance(copy, Forecaster)
    assert all(torch.equal(value, before[name]) for name, value in forecaster.state_dict().items())
    assert {value.dtype for value in forecaster.parameters()} == {torch.float32}
    shared = {value.data_ptr() for value in forecaster.parameters()}
    wide = [value for value in copy.parameters() if value.dtype == torch.float32]
    assert wide
    assert all(value.data_ptr() in shared for value in wide)


def test_others_and_float32_are_left_alone() -> None:
    forecaster, solver = make_model("plain"), Growing()
    assert in_precision(make_config(), [forecaster])[0] is forecaster
    assert in_precision(make_config(precision="bfloat16"), [solver])[0] is solver
