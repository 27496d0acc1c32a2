"""Statistics of every step, blow-ups, and quantities that are kept fixed."""

from pathlib import Path

import numpy as np
import pytest
import torch

from data_pipeline.channels import Channel, Channels
from fourcastnet_afno.inference.config import StabilityConfig
from fourcastnet_afno.inference.open import open_diagnostics
from fourcastnet_afno.inference.stability import (
    Fixer,
    StabilityTracker,
    zonal_spectrum,
)
from tests.builders.errors import rejects
from tests.builders.forecasters import (
    CHANNELS,
    GRID,
    Growing,
    make_forecast,
    make_states,
)


def test_the_zonal_spectrum_sums_to_the_mean_square() -> None:
    weights = torch.from_numpy(GRID.area_weights()[:, 0]).float()
    for width in (12, 11):
        fields = torch.randn(3, 6, width, generator=torch.Generator().manual_seed(0))
        spectrum = zonal_spectrum(fields, weights)
        expected = (weights[:, None] * fields.square()).mean(dim=(1, 2))
        torch.testing.assert_close(spectrum.sum(-1), expected)
    wave = 3 * torch.cos(2 * torch.pi * 2 * torch.arange(12) / 12).expand(6, 12)
    expected = torch.tensor([0, 0, 4.5, 0, 0, 0, 0])
    torch.testing.assert_close(zonal_spectrum(wave, weights), expected, atol=1e-6, rtol=0)


def test_statistics_by_hand(tmp_path: Path) -> None:
    names = ("u_component_of_wind", "v_component_of_wind")
    channels = Channels(tuple(Channel(name=n, level=500, units="m s-1") for n in names))
    stepper = Growing(channels=channels)
    state = torch.zeros(1, 2, *GRID.shape)
    state[0, 0], state[0, 1] = 3.0, -4.0
    state[0, 1, 2, 3] = -10.0
    statistics, blow_ups = StabilityTracker(stepper.spec, stepper.scales, StabilityConfig())(state)
    assert not blow_ups
    weight = GRID.area_weights()[2, 3] / 72
    np.testing.assert_allclose(statistics["mean"], [[3, -4 - 6 * weight]], rtol=1e-6)
    assert statistics["minimum"].tolist() == [[3, -10]]
    assert statistics["maximum"].tolist() == [[3, -4]]
    energy = (9 + 16 + (100 - 16) * weight) / 2
    np.testing.assert_allclose(statistics["kinetic_energy"], [[energy]], rtol=1e-6)
    data = make_states(3, channels=channels)
    make_forecast(
        tmp_path / "f", stepper, data, data["time"].values, num_members=2, perturbation="gaussian"
    )
    found = open_diagnostics(tmp_path / "f")
    assert found["kinetic_energy"].dims == ("init_time", "realization", "lead_time", "wind")
    assert found["wind"].values.tolist() == ["500"]
    assert found["channel"].values.tolist() == channels.labels
    assert found["spectrum"].sizes["zonal_wavenumber"] == 7


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e9])
def test_blow_ups_of_several_forecasts_are_located(value: float) -> None:
    stepper = Growing(std=1.0)
    state = torch.zeros(3, 3, *GRID.shape)
    state[2, 1, 4, 7] = value
    _, (blow_up,) = StabilityTracker(stepper.spec, stepper.scales, StabilityConfig())(state)
    assert (blow_up.forecast, blow_up.channel) == (2, CHANNELS.labels[1])
    assert blow_up.coords == {"latitude": GRID.latitude[4], "longitude": GRID.longitude[7]}
    assert blow_up.place == f"{GRID.latitude[4]:g} N, {GRID.longitude[7]:g} E"
    assert str(blow_up.value) == str(float(value))


def test_means_are_conserved_and_negative_values_removed() -> None:
    weights = torch.from_numpy(GRID.area_weights()).float()
    config = StabilityConfig(conserve_mean=["geopotential"], nonnegative=["2m_temperature"])
    fixer = Fixer(config, CHANNELS, GRID, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    initial, later = torch.randn(2, 4, 3, *GRID.shape, generator=generator)
    fixed = fixer(later, fixer.reference(initial))
    means = [(weights * x[:, :2]).mean(dim=(2, 3)) for x in (initial, fixed)]
    torch.testing.assert_close(*means, atol=1e-6, rtol=0)
    torch.testing.assert_close(fixed[:, 2], later[:, 2].clamp_min(0))
    shift = (fixed - later)[:, :2]
    torch.testing.assert_close(shift, shift[..., :1, :1].expand_as(shift), atol=1e-6, rtol=0)


def test_dry_mass_is_conserved() -> None:
    names = {"surface_pressure": "Pa", "total_column_water_vapour": "kg m-2"}
    channels = Channels(tuple(Channel(name=n, units=u) for n, u in names.items()))
    fixer = Fixer(StabilityConfig(conserve_dry_mass=True), channels, GRID, torch.device("cpu"))
    initial = torch.stack([torch.full(GRID.shape, 98_000.0), torch.full(GRID.shape, 25.0)])[None]
    later = initial.clone()
    later[:, 1] = 35.0  # 10 kg m-2 of vapor weigh 98.0665 Pa
    fixed = fixer(later, fixer.reference(initial))
    torch.testing.assert_close(fixed[:, 0], torch.full((1, *GRID.shape), 98_098.0665))
    torch.testing.assert_close(fixed[:, 1], later[:, 1])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"conserve_dry_mass": True}, "['surface_pressure'"),
        ({"nonnegative": ["humidity"]}, "['humidity']"),
    ],
)
def test_fixers_of_missing_channels_are_refused(settings: dict, named: str) -> None:
    with rejects("missing-variable", f"stability.{next(iter(settings))}", named):
        Fixer(StabilityConfig(**settings), CHANNELS, GRID, torch.device("cpu"))
