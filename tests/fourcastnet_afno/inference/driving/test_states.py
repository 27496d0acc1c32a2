"""Driving states of limited areas: analyses, forecasts, and what lies between their times."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep, valid_times
from fourcastnet_afno.inference.driving.states import DrivingFields, DrivingStates, bracket
from fourcastnet_afno.inference.initial_states import InitialStates
from tests.builders.errors import rejects
from tests.builders.forecasters import CHANNELS, Growing, make_states

GLOBAL = LatLonGrid.equiangular(12, 24)
AREA = LatLonGrid(latitude=GLOBAL.latitude[2:8], longitude=GLOBAL.longitude[3:10])
STEPPER = Growing(AREA)
SPEC = replace(STEPPER.spec, boundary_width=2)
ZONE = np.ones(AREA.shape, bool)
ZONE[2:-2, 2:-2] = False
START = np.datetime64("2020-01-01", "ns")
HOUR = np.timedelta64(1, "h")
STATES = make_states(grid=GLOBAL)
AREA_STATES = STATES.isel(latitude=slice(2, 8), longitude=slice(3, 10))


def make_driving(dataset: xr.Dataset, interval: str | None = None) -> DrivingStates:
    step = None if interval is None else Timestep.parse(interval)
    start = InitialStates(AREA_STATES, SPEC, 1, torch.device("cpu"))
    return DrivingStates(DrivingFields(dataset, step, "--boundary"), SPEC, STEPPER.scales, start)


def make_forecasts(leads: np.ndarray, num_members: int = 0) -> xr.Dataset:
    """Forecasts from the first two days whose values tell initial time, member and lead."""
    inits = START + np.arange(2) * 24 * HOUR
    fields = 100 * np.arange(2)[:, None] + leads / HOUR
    if num_members:
        fields = fields[:, None] + 1000 * np.arange(num_members)[:, None]
    shape = (*fields.shape, len(CHANNELS), *GLOBAL.shape)
    values = np.broadcast_to(fields[..., None, None, None], shape).astype(np.float32)
    coords = {"init_time": inits}
    coords |= {"realization": np.arange(num_members)} if num_members else {}
    coords |= {"lead_time": leads.astype("timedelta64[ns]"), **GLOBAL.coords}
    forecasts = CHANNELS.unstack(values, coords)
    valid = valid_times(inits, leads)
    return forecasts.assign_coords(valid_time=(("init_time", "lead_time"), valid))


def values_at(states: torch.Tensor) -> list:
    """The value of each state at the edge."""
    return states[..., 0, 0, 0].tolist()


def test_positions_are_known_or_between_known_ones_close_by() -> None:
    found = bracket(np.array([0, 4, 12]), np.array([[0, 3, 4], [8, 12, 13]]), 4)
    np.testing.assert_array_equal(found.lower[0], [0, 0, 1])
    np.testing.assert_array_equal(found.upper[0], [0, 1, 1])
    np.testing.assert_array_equal(found.share, [[0, 0.75, 0], [0, 0, 0]])
    np.testing.assert_array_equal(found.is_known, [[True] * 3, [False, True, False]])


def test_analyses_drive_at_the_valid_time_and_in_the_zone_alone() -> None:
    driving = make_driving(STATES)
    inits, members = STATES["time"].values[[1, 4]], np.zeros(2, int)
    states = driving.read(inits, members, np.array([1, 3]))
    expected = CHANNELS.stack(AREA_STATES).values
    for step, later in enumerate((1, 3)):
        for forecast, first in enumerate((1, 4)):
            found, field = states[step, forecast].numpy(), expected[first + later]
            np.testing.assert_array_equal(found[:, ZONE], field[:, ZONE])
            assert (found[:, ~ZONE] == 0).all()
    each = driving.of(inits, members, 3)
    assert torch.equal(each(2), states[1])
    assert torch.equal(each(0), states[0])
    assert torch.equal(each(3), states[1])  # no step leads there


def test_coarser_analyses_are_interpolated_where_that_is_asked_for() -> None:
    coarse, inits = STATES.isel(time=slice(0, None, 2)), STATES["time"].values[:1]
    with rejects("no-times", "--boundary", "2020-01-01T06:00:00", "data.boundary.interval"):
        make_driving(coarse).check(inits, 3)
    driving = make_driving(coarse, "12h")
    driving.check(inits, 10)
    states = driving.read(inits, np.zeros(1, int), np.arange(1, 3))
    fields = CHANNELS.stack(AREA_STATES.isel(time=[0, 2])).values
    torch.testing.assert_close(states[0, 0, :, 0], torch.from_numpy(fields.mean(axis=0)[:, 0]))
    np.testing.assert_array_equal(states[1, 0, :, 0], fields[1, :, 0])
    with rejects("no-times", "2020-01-03T18:00:00"):  # after the last one
        driving.check(inits, 11)


@pytest.mark.parametrize("num_members", [0, 2])
def test_forecasts_drive_those_from_the_same_time_members_in_turn(num_members: int) -> None:
    driving = make_driving(make_forecasts(np.array([6, 12]) * HOUR, num_members))
    inits, members = START + np.array([1, 0, 1]) * 24 * HOUR, np.array([0, 1, 2])
    states = driving.read(inits, members, np.array([1, 2]))
    of_member = 1000.0 if num_members else 0.0
    assert values_at(states) == [[106, of_member + 6, 106], [112, of_member + 12, 112]]


def test_before_the_first_lead_time_forecasts_are_interpolated_from_the_start() -> None:
    driving = make_driving(make_forecasts(np.array([12, 24]) * HOUR), "12h")
    states = driving.read(np.array([START]), np.zeros(1, int), np.arange(1, 4))
    first = float(CHANNELS.stack(AREA_STATES.isel(time=0))[0, 0, 0])
    assert values_at(states[:, 0]) == pytest.approx([(first + 12) / 2, 12, 18])


def test_what_a_driving_dataset_lacks_is_named() -> None:
    forecasts = make_forecasts(np.array([6, 12]) * HOUR)
    with rejects("no-times", "18 h after 2020-01-01T00:00:00", "--boundary"):
        make_driving(forecasts).check(np.array([START]), 3)
    with rejects("no-times", "2020-01-01T06:00:00", "--init-times"):
        make_driving(forecasts).check(START + np.array([0, 6]) * HOUR, 1)
    with rejects("missing-variable", "--boundary", "2m_temperature"):
        make_driving(forecasts.drop_vars("2m_temperature"))
    celsius = STATES["2m_temperature"].assign_attrs(units="degC")
    with rejects("units-mismatch", "'K'", "'degC'"):
        make_driving(STATES.assign({"2m_temperature": celsius}))
    with rejects("grid-mismatch", "--boundary", str(AREA)):
        make_driving(STATES.isel(longitude=slice(6)))
    with rejects("timestep-mismatch", "6 h"):
        months = forecasts.drop_vars("valid_time").assign_coords(
            lead_time=("lead_time", [1, 2], {"units": "months"})
        )
        make_driving(months)


def test_missing_values_matter_in_the_zone_alone() -> None:
    inside, edge = STATES.copy(deep=True), STATES.copy(deep=True)
    inside["2m_temperature"][2, 5, 6] = np.nan
    edge["2m_temperature"][2, 3, 6] = np.nan
    inits, members, steps = STATES["time"].values[:1], np.zeros(1, int), np.arange(1, 4)
    assert make_driving(inside).read(inits, members, steps).isfinite().all()
    with rejects("not-finite", "2m_temperature", "2020-01-01T12:00:00"):
        make_driving(edge).read(inits, members, steps)
