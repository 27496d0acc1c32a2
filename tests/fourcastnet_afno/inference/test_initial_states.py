"""Initial times, and sources that suit a forecaster or not."""

import numpy as np
import pytest
import torch

from data_pipeline.timestep import Timestep
from fourcastnet_afno.inference.initial_states import (
    InitialStates,
    check_init_times,
    check_source,
    parse_init_times,
    select_init_times,
)
from tests.builders.errors import rejects
from tests.builders.forecasters import (
    Growing,
    make_states,
)

HALF_DAY = Timestep.parse("12h")
HOUR = np.timedelta64(1, "h")


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
    "text",
    [
        "soon",
        "2020-01-01..soon/6h",
        "2020-01-01..2020-01-02/6",
        "2020-01-02..2020-01-01/6h",
        "2020-01-01..2020-01-02/0h",
        "2004-01-01..9999-01-01/1h",
        "1000-01-01",
        "NaT",
        "1700-01-01..2200-01-01/1s",
    ],
)
def test_wrong_init_times_are_refused(text: str) -> None:
    with rejects("bad-setting", "init_times", repr(text)):
        parse_init_times(text)


def test_an_init_time_outside_of_the_data_is_named() -> None:
    spec, times = Growing().spec, make_states()["time"].values
    wanted = np.array(["2020-01-02", "2021-01-01"], "M8[ns]")
    with rejects("no-times", "2021-01-01T00:00:00", "1 of 2", "12 times every 6 h from 2020-01-01"):
        check_init_times(wanted, times, spec, 1)
    with rejects("no-times", "2019-12-31T18:00:00", "2 states every 6 h"):
        check_init_times(times[:1], times, spec, 2)
    check_init_times(times[:1], times, spec, 1)


def test_another_timestep_of_the_data_is_named() -> None:
    daily = make_states()["time"].values[::4]
    with rejects("no-times", "2020-01-01T18:00:00", "2 states every 6 h", "3 times every 24 h"):
        check_init_times(daily[1:2], daily, Growing().spec, 2)


def test_selected_init_times_have_history_and_truth() -> None:
    times = np.delete(make_states(20)["time"].values, 9)
    found = select_init_times(times, Growing().spec, 2, interval=HALF_DAY, num_following=2)
    hours = (found - times[0]) / HOUR
    assert hours.tolist() == [12, 24, 36, 72, 84, 96]
    pair = select_init_times(times[:2], Growing().spec, 2, interval=HALF_DAY)
    assert pair.tolist() == times[1:2].tolist()  # the first with a history
    with rejects("no-times", "30 of truth", "19 times"):
        select_init_times(times, Growing().spec, 2, interval=HALF_DAY, num_following=30)


def test_a_date_of_another_calendar_is_no_init_time() -> None:
    days = np.arange("2004-02-27", "2004-03-03", dtype="datetime64[D]").astype("datetime64[ns]")
    spec = Growing(step=Timestep.parse("1D", calendar="noleap")).spec
    found = select_init_times(days, spec, 1, interval=Timestep.parse("1D"))
    assert np.datetime64("2004-02-29") not in found
    with rejects("no-times", "2004-02-29", "noleap"):
        check_init_times(days[2:3], days, spec, 1)


def test_init_times_of_monthly_data() -> None:
    months = np.arange("2001-01", "2004-01", dtype="datetime64[M]").astype("datetime64[ns]")
    spec = Growing(step=Timestep.parse("1MS")).spec

    def found(interval: str, num_following: int = 3) -> list[str]:
        step = Timestep.parse(interval)
        times = select_init_times(months, spec, 2, interval=step, num_following=num_following)
        return np.datetime_as_string(times, "M").tolist()

    assert len(found("1D")) == len(found("1MS")) == 36 - 1 - 3
    assert found("6MS") == ["2001-07", "2002-01", "2002-07", "2003-01", "2003-07"]
    with rejects("bad-setting", "forecast.init_interval=60D", "1MS"):
        found("60D")
    times = parse_init_times("2001-01-01..2001-12-31/3MS")
    assert np.datetime_as_string(times, "M").tolist() == [
        "2001-01",
        "2001-04",
        "2001-07",
        "2001-10",
    ]


def test_all_mismatches_of_a_source_are_named_at_once() -> None:
    data = make_states().drop_vars("2m_temperature").isel(longitude=slice(0, 6))
    with rejects("missing-variable", "checkpoint best", "['2m_temperature']", "6 x 12"):
        check_source(data, Growing().spec, "checkpoint best")
    data = make_states().sel(level=[500])
    data["2m_temperature"].attrs["units"] = "degC"
    with rejects("missing-level", "['geopotential_850']"):
        check_source(data, Growing().spec, "checkpoint best")
    data = make_states()
    data["2m_temperature"].attrs["units"] = "degC"
    with rejects("units-mismatch", "2m_temperature", "'K'", "'degC'"):
        check_source(data, Growing().spec, "checkpoint best")


def test_a_forcing_that_nobody_knows_is_refused() -> None:
    stepper = Growing()
    spec = type(stepper.spec)(**{**stepper.spec.__dict__, "forcings": ("sunspots",)})
    with rejects("bad-setting", "['sunspots']"):
        check_source(make_states(), spec, "checkpoint best")


def test_marks_in_the_states_to_start_from_are_rejected() -> None:
    data, spec = make_states(8), Growing().spec
    name = next(iter(spec.channels)).name
    data[name][4, ..., 1, 2] = -9999
    states = InitialStates(data, spec, 1, torch.device("cpu"))
    times = data["time"].values
    states.read(times[:4])
    with rejects("impossible-values", name, "-9999", np.datetime_as_string(times[4], "m")):
        states.read(times[:5])
