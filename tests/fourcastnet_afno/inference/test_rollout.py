"""Steps, forcings, initial times, what is watched and fixed, and other steppers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from data_pipeline.preprocessing.climatology import climatology_at, fit_climatology
from data_pipeline.simulation.planet import (
    VARIABLES,
    SimulationConfig,
    build_planet,
    simulate_planet,
)
from data_pipeline.simulation.shallow_water import Planet, ShallowWater, galewsky, williamson2
from fourcastnet_afno.inference.background_writer import BackgroundWriter
from fourcastnet_afno.inference.config import StabilityConfig
from fourcastnet_afno.inference.initial_states import (
    check_init_times,
    check_source,
    parse_init_times,
    select_init_times,
)
from fourcastnet_afno.inference.open import open_diagnostics
from fourcastnet_afno.inference.rollout import Stepper, forcings_from, rollout
from fourcastnet_afno.inference.stability import (
    Fixer,
    StabilityTracker,
    zonal_spectrum,
)
from fourcastnet_afno.inference.steppers import ClimatologyStepper, Persistence, ShallowWaterSolver
from fourcastnet_afno.inference.write import write_forecast
from tests.builders.forecasters import CHANNELS, GRID, Growing, make_config, make_states
from tests.fourcastnet_afno.forecaster.test_forecaster import make_forecaster

HOUR = np.timedelta64(1, "h")


class Accumulating(Growing):
    """Adds the hour of the forcing's time to the state: x_{k+1} = x_k + hour(t_k)."""

    def __call__(self, state: torch.Tensor, forcing: torch.Tensor) -> torch.Tensor:
        return state[:, -1] + forcing

    def forcing_at(self, times: np.ndarray) -> torch.Tensor:
        hours = (times - np.datetime64("2020-01-01", "ns")) / HOUR
        return torch.from_numpy(hours).float()[:, None, None, None].expand(-1, 1, *GRID.shape)


def test_the_forcing_of_a_step_is_of_the_time_it_acts_on(tmp_path: Path) -> None:
    times = np.array(["2020-01-01T12", "2020-01-02T00"], "datetime64[ns]")
    stepper, zero = Accumulating(), torch.zeros(2, 1, 3, *GRID.shape)
    steps = list(rollout(stepper, zero, forcings_from(stepper, times), 3))
    # From 12 h: 12, 12 + 18, 12 + 18 + 24; from 24 h: 24, 24 + 30, 24 + 30 + 36.
    found = [step[:, 0, 0, 0].tolist() for step in steps]
    assert found == [[12, 24], [30, 54], [54, 90]]
    data = 0 * make_states()
    for name in data.data_vars:
        data[name].attrs["units"] = make_states()[name].attrs["units"]
    config = make_config(num_steps=3)
    written = write_forecast(stepper, data, times, config, tmp_path / "f", {}, environment={})
    assert written is not None
    assert written["2m_temperature"][:, :, 0, 0].values.tolist() == [[12, 30, 54], [24, 54, 90]]


def test_rollout_is_lazy_and_composes() -> None:
    stepper = Growing(factor=2.0)
    state = torch.ones(1, 1, 3, *GRID.shape)
    steps = rollout(stepper, state, forcings_from(stepper, np.array(["2020"], "M8[ns]")), 10**9)
    assert [next(steps)[0, 0, 0, 0].item() for _ in range(4)] == [3, 7, 15, 31]


# Initial times


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-01-01T12", ["2020-01-01T12"]),
        ("2020-01-01..2020-01-02/12h",
         ["2020-01-01T00", "2020-01-01T12", "2020-01-02T00", "2020-01-02T12"]),
        ("2020-01-01T06..2020-01-01T18/6h", ["2020-01-01T06", "2020-01-01T12", "2020-01-01T18"]),
        ("2020-01-01..2020-01-02", ["2020-01-01T00", "2020-01-02T00"]),
        ("2020-02-01,2020-01-01..2020-01-02/24h,2020-01-02",
         ["2020-01-01T00", "2020-01-02T00", "2020-02-01T00"]),
    ],
)  # fmt: skip
def test_init_times_are_parsed(text: str, expected: list[str]) -> None:
    found = parse_init_times(text)
    np.testing.assert_array_equal(found, np.array(expected, "datetime64[ns]"))


def test_a_year_of_init_times_has_two_a_day() -> None:
    times = parse_init_times("2020-01-01..2020-12-31/12h")
    assert len(times) == 366 * 2
    assert times[-1] == np.datetime64("2020-12-31T12")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("soon", "has the part 'soon', expected a time as"),
        ("2020-01-01..soon/6h", "has the part '2020-01-01..soon/6h', expected"),
        ("2020-01-01..2020-01-02/6", "expected a time as"),
        ("2020-01-02..2020-01-01/6h", "which holds no time"),
        ("2020-01-01..2020-01-02/0h", "an interval of at least 1h"),
    ],
)
def test_wrong_init_times_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_init_times(text)


def test_an_init_time_outside_of_the_data_is_named() -> None:
    spec, times = Growing().spec, make_states()["time"].values
    message = (
        r"the initial time 2021-01-01T00:00:00 needs the state at 2021-01-01T00:00:00, which the "
        r"data lacks \(1 of 2 initial times\); the data has 12 times every 6 h from 2020-01-01T00"
    )
    wanted = np.array(["2020-01-02", "2021-01-01"], "M8[ns]")
    with pytest.raises(InputError, match=message):
        check_init_times(wanted, times, spec, 1)
    message = (
        r"needs the state at 2019-12-31T18:00:00 of the 2 states every 6 h that it starts from"
    )
    with pytest.raises(InputError, match=message):
        check_init_times(times[:1], times, spec, 2)
    check_init_times(times[:1], times, spec, 1)


def test_another_timestep_of_the_data_is_named() -> None:
    daily = make_states()["time"].values[::4]
    message = r"at 2020-01-01T18:00:00 of the 2 states every 6 h .* the data has 3 times every 24 h"
    with pytest.raises(InputError, match=message):
        check_init_times(daily[1:2], daily, Growing().spec, 2)


def test_selected_init_times_have_history_and_truth() -> None:
    times = np.delete(make_states(20)["time"].values, 9)
    found = select_init_times(times, Growing().spec, 2, interval_hours=12, num_following=2)
    hours = (found - times[0]) / HOUR
    assert hours.tolist() == [12, 24, 36, 72, 84, 96]
    with pytest.raises(InputError, match="30 of truth every 6 h; the data has 19 times from"):
        select_init_times(times, Growing().spec, 2, interval_hours=12, num_following=30)


def test_all_mismatches_of_a_source_are_named_at_once() -> None:
    data = make_states().drop_vars("2m_temperature").isel(longitude=slice(0, 6))
    with pytest.raises(InputError) as caught:
        check_source(data, Growing().spec, "checkpoint best")
    text = str(caught.value)
    assert "checkpoint best expects the variables ['2m_temperature'], which the data lacks" in text
    assert "expects the grid 6 x 12" in text
    data = make_states().sel(level=[500])
    data["2m_temperature"].attrs["units"] = "degC"
    with pytest.raises(InputError, match=r"expects the levels \['geopotential_850'\]"):
        check_source(data, Growing().spec, "checkpoint best")
    data = make_states()
    data["2m_temperature"].attrs["units"] = "degC"
    with pytest.raises(InputError, match="expects 2m_temperature in 'K', found 'degC'; convert"):
        check_source(data, Growing().spec, "checkpoint best")


def test_a_forcing_that_nobody_knows_is_refused() -> None:
    stepper = Growing()
    spec = type(stepper.spec)(**{**stepper.spec.__dict__, "forcings": ("sunspots",)})
    with pytest.raises(InputError, match=r"unknown names \['sunspots'\]"):
        check_source(make_states(), spec, "checkpoint best")


# What is watched and fixed


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
    config = make_config(num_members=2, perturbation="gaussian")
    write_forecast(stepper, data, data["time"].values, config, tmp_path / "f", {}, environment={})
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
        ({"conserve_dry_mass": True}, r"conserve_dry_mass needs the channels \['surface_pressure'"),
        ({"nonnegative": ["humidity"]}, r"nonnegative needs the channels \['humidity'\]"),
    ],
)
def test_fixers_of_missing_channels_are_refused(settings: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        Fixer(StabilityConfig(**settings), CHANNELS, GRID, torch.device("cpu"))


# Other steppers


def test_all_steppers_meet_the_interface() -> None:
    spec = Growing().spec
    assert isinstance(make_forecaster(), Stepper)
    assert isinstance(Persistence(spec), Stepper)


def test_persistence_is_written_like_any_forecast(tmp_path: Path) -> None:
    data = make_states()
    stepper, times = Persistence(Growing().spec), data["time"].values[:3]
    written = write_forecast(
        stepper, data, times, make_config(), tmp_path / "f", {}, environment={}
    )
    assert written is not None
    expected = data["2m_temperature"].values[:3, None] + np.zeros((1, 5, 1, 1), "f4")
    np.testing.assert_array_equal(written["2m_temperature"], expected)


def test_the_climatology_is_that_of_the_valid_time(tmp_path: Path) -> None:
    data = make_states(365 * 4)
    fields = CHANNELS.stack(data).values
    hours, values = fit_climatology([(data["time"].values, fields)], 1)
    axes = {"hour": hours, "harmonic": np.arange(3), **GRID.coords}
    coefficients = CHANNELS.unstack(values, axes)
    stepper = ClimatologyStepper(Growing().spec, coefficients)
    assert isinstance(stepper, Stepper)
    times = data["time"].values[[3, 700]]
    written = write_forecast(
        stepper, data, times, make_config(), tmp_path / "f", {}, environment={}
    )
    assert written is not None
    for index, time in enumerate(times):
        valid = time + np.arange(1, 6) * 6 * HOUR
        expected = climatology_at(coefficients, valid)["2m_temperature"]
        np.testing.assert_array_equal(written["2m_temperature"][index], expected)
    with pytest.raises(InputError, match=r"the climatology lacks \['2m_temperature'\]"):
        ClimatologyStepper(Growing().spec, coefficients.drop_vars("2m_temperature"))


def write(
    stepper: Stepper, data: xr.Dataset, times: np.ndarray, path: Path, **changes: object
) -> xr.Dataset:
    config = make_config(**changes)
    written = write_forecast(stepper, data, times, config, path, {}, environment={})
    assert written is not None
    return written


def solver_and_state(
    case: str, hours: int
) -> tuple[ShallowWaterSolver, ShallowWater, torch.Tensor]:
    transform = SphericalHarmonicTransform.gaussian(32, 64)
    model = ShallowWater(transform, Planet(), timestep=1800.0, diffusion_rate=1e-5)
    state = {"steady": williamson2, "jet": galewsky}[case](model)
    return ShallowWaterSolver(model, LatLonGrid.equiangular(32, 64), hours), model, state


@pytest.mark.parametrize("case", ["steady", "jet"])
def test_a_rollout_of_the_solver_is_the_solver(case: str) -> None:
    """Through the grid and back at every output: exact within the truncation."""
    solver, model, state = solver_and_state(case, 3)
    assert isinstance(solver, Stepper)
    initial = solver._synthesized(state)
    steps = rollout(solver, initial[:, None], iter(lambda: torch.zeros(1, 0, 32, 64), None), 4)
    for step in steps:
        for _ in range(6):
            state = model.step(state)
        expected = solver._synthesized(state)
        size = expected.abs().amax(dim=(0, 2, 3), keepdim=True)
        size[:, 1] = size[:, 0]  # the steady flow has no northward wind
        assert ((step - expected).abs() / size).max() < 1e-8


def test_the_solver_forecasts_the_simulated_planet(tmp_path: Path) -> None:
    """Without its random stirring it is still far better than persistence over six hours."""
    config = SimulationConfig(
        num_trajectories=1, days=2, spinup_days=0, num_latitudes=16, num_longitudes=32
    )
    data = simulate_planet(config)
    solver = ShallowWaterSolver(build_planet(16, 32), LatLonGrid.equiangular(16, 32), 6)
    assert solver.spec.channels.labels == list(VARIABLES)
    times = data["time"].values[:4]
    written = write(solver, data, times, tmp_path / "f", num_steps=1)
    truth = data["geopotential"].values
    error = np.square(written["geopotential"].values[:, 0] - truth[1:5]).mean()
    assert error < 0.1 * np.square(truth[:4] - truth[1:5]).mean()


def test_a_solver_that_does_not_fit_is_refused() -> None:
    _, model, _ = solver_and_state("steady", 3)
    with pytest.raises(InputError, match="does not resolve the solver's truncation 21"):
        ShallowWaterSolver(model, LatLonGrid.equiangular(16, 32), 3)
    other = ShallowWater(model.transform, Planet(), timestep=7000.0)
    with pytest.raises(InputError, match="no whole number of the solver's steps of 7000 s"):
        ShallowWaterSolver(other, LatLonGrid.equiangular(32, 64), 3)


# The writer


def test_the_writer_keeps_the_order_and_its_errors() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        for number in range(20):
            writer.submit(lambda n=number: done.append(n))
    assert done == list(range(20))

    def failing() -> None:
        raise OSError("no")

    def write_all() -> None:
        with BackgroundWriter() as writer:
            writer.submit(failing)
            for number in range(100):
                writer.submit(lambda n=number: done.append(n))

    with pytest.raises(OSError, match="no"):
        write_all()
    assert done == list(range(20))


def test_an_error_beside_the_writer_drops_what_waits() -> None:
    with pytest.raises(KeyboardInterrupt), BackgroundWriter():
        raise KeyboardInterrupt
