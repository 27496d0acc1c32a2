"""The record of axes."""

import json

import numpy as np

from fourcastnet_afno.report.explorer.axes import axes_record, limits, points_of
from fourcastnet_afno.report.explorer.fields import Explored, explore_forecasts
from tests.builders.forecasts import make_forecast, make_truth


def explored(members: int = 3) -> Explored:
    truth = make_truth()
    forecast = make_forecast(truth, members=members)
    land = (np.arange(8) < 4) * np.ones((6, 8))
    truth["land_sea_mask"] = (("latitude", "longitude"), land)
    result = explore_forecasts(truth, {"ours": forecast})
    assert result is not None
    return result


def test_the_record_lists_what_is_chosen() -> None:
    record = axes_record(explored(), channels=[1], init_times=[0, 2], lead_times=[1, 3])
    assert json.loads(json.dumps(record)) == record
    assert record["initTimes"] == ["2001-01-01 00:00 UTC", "2001-01-02 00:00 UTC"]
    assert record["leads"] == [
        {"label": "12 h", "number": 0.5},
        {"label": "24 h", "number": 1.0},
    ]
    assert record["leadAxis"] == "lead time [days]"
    assert [channel["name"] for channel in record["channels"]] == ["geopotential_850"]
    spread = record["views"][2]
    assert (spread["name"], spread["mean"]) == ("ours, spread", 1)
    assert {len(colors) for colors in record["colorMaps"].values()} == {256}


def test_cells_keep_their_places() -> None:
    grid = axes_record(explored(), channels=[0], init_times=[0], lead_times=[0], stride=1)["grid"]
    assert grid["yEdges"] == [90, 60, 30, 0, -30, -60, -90]
    assert grid["y"] == [75, 45, 15, -15, -45, -75]
    assert grid["xEdges"][:2] == [-22.5, 22.5]
    assert grid["aspect"] == 2
    assert grid["land"] == ["11110000"] * 6


def test_a_stride_takes_points_in_the_middle_of_those_they_stand_for() -> None:
    data = explored()
    rows, columns = points_of(data, 3)
    assert (rows.tolist(), columns.tolist()) == ([1, 4], [1, 4, 7])
    record = axes_record(data, channels=[0], init_times=[0], lead_times=[0], stride=3)
    assert record["grid"]["yEdges"] == [90, 0, -90]
    assert record["grid"]["y"] == [45, -45]
    assert len(record["grid"]["xEdges"]) == 4


def test_limits_hold_nearly_all_values() -> None:
    data = explored()
    found = limits(data, 0, 0, points_of(data, 1))
    low, high = found["values"]
    inside = [(low <= v) & (v <= high) for v in data.fields(0, 0, 0, np.arange(4))]
    assert np.mean(inside) > 0.9
    assert found["difference"][0] == -found["difference"][1] < 0
    assert found["spread"][0] == 0 < found["spread"][1]
