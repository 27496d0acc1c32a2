"""Rows of the report's tables and its sentences, by hand."""

import json

import numpy as np
import pytest
import xarray as xr

from data_pipeline.timestep import lead_coordinate
from fourcastnet_afno.report import rows
from tests.builders.errors import rejects

LEADS = np.arange(1, 4) * np.timedelta64(1, "D").astype("timedelta64[ns]")
DIMS = ("forecast", "lead_time", "channel")


def make_scores(*, summary: bool = True) -> xr.Dataset:
    """Three forecasts of one channel at three lead times."""
    coords = {
        "forecast": ["model", "persistence", "climatology"], "lead_time": LEADS, "channel": ["t"]
    }  # fmt: skip
    data = {
        "rmse": (DIMS, np.array([[1, 2, 5], [2, 2, 2], [3, 3, np.nan]], float)[..., None]),
        "rmse_verdict": (DIMS, np.array([[-1, 0, 1], [0, 0, 0], [1, 1, 0]])[..., None]),
        "num_init_times": (DIMS, np.array([[9, 9, 7], [9, 9, 9], [9, 9, 0]])[..., None]),
        "missing_values": (DIMS, np.array([[0, 1, 2], [0, 0, 0], [0, 0, 0]], float)[..., None]),
        "units": ("channel", ["K"]),
    }
    if summary:
        resolution = [[400, 800, np.nan], [10, 10, np.inf], [1, 1, 1]]
        correlation = [[0.9, 0.9, np.nan], [0.9, 0.9, 0.7], [0.1, np.nan, np.nan]]
        data["correlation"] = (DIMS, np.array(correlation)[..., None])
        data["effective_resolution_km"] = (DIMS, np.array(resolution, float)[..., None])
        data["correlation_time_hours"] = (DIMS[::2], np.array([[np.nan], [30.4], [0]]))
    return xr.Dataset(data, coords, {"reference": "persistence", "table_metrics": "rmse"})


def test_a_scorecard_has_the_changes_and_what_is_certain() -> None:
    card = rows.scorecard(make_scores(), "model")
    assert card.title == "RMSE: model against persistence"
    assert list(card.leads) == ["24 h", "2 days", "3 days"]
    assert card.rows == [("t", [(-50, True), (0, False), (150, True)])]
    ((_, changes),) = rows.scorecard(make_scores(), "climatology").rows
    assert changes[-1] == (None, False)


def test_the_best_of_each_column_is_marked() -> None:
    table = rows.score_table(make_scores())
    assert (table.labels, table.columns) == (
        ("channel", "score", "forecast"), ["24 h", "2 days", "3 days"],
    )  # fmt: skip
    assert [labels for labels, _ in table.rows] == [
        ("t", "RMSE [K]", name) for name in ("model", "persistence", "climatology")
    ]
    assert [[(cell.text, bool(cell.best)) for cell in cells] for _, cells in table.rows] == [
        [("1", True), ("2", True), ("5", False)],
        [("2", False), ("2", True), ("2", True)],
        [("3", False), ("3", False), ("-", False)],
    ]


def test_resolution_and_correlation_time_of_each_forecast() -> None:
    table = rows.summary_table(make_scores())
    assert table is not None
    assert table.columns == [
        "effective resolution, 24 h [km]", "effective resolution, 3 days [km]",
        "correlation above 0.8 [h]",
    ]  # fmt: skip
    assert [[cell.text for cell in cells] for _, cells in table.rows] == [
        ["400", "missing", "over 48"], ["10", "-", "30"], ["1", "1", "0"],
    ]  # fmt: skip
    assert rows.summary_table(make_scores(summary=False)) is None


def test_the_energy_at_patches_is_in_the_summary() -> None:
    scores = make_scores(summary=False)
    ratios = np.array([[0.98, 2, 31.4], [np.nan] * 3, [np.nan] * 3])
    scores["patch_energy_ratio"] = (DIMS, ratios[..., None])
    table = rows.summary_table(scores)
    assert table is not None
    assert table.columns == [
        "energy at patches over truth's, 24 h", "energy at patches over truth's, 3 days"
    ]  # fmt: skip
    texts = [[cell.text for cell in cells] for _, cells in table.rows]
    assert texts == [["0.98", "31.4"], ["-", "-"], ["-", "-"]]


def test_counts_of_each_forecast() -> None:
    table = rows.counts_table(make_scores())
    assert [[cell.text for cell in cells] for _, cells in table.rows] == [
        ["3", "7 to 9", "3"], ["3", "9", "0"], ["2", "0 to 9", "0"],
    ]  # fmt: skip


def test_a_verdict_ends_at_the_first_lead_time_that_is_not_better() -> None:
    (sentence,) = rows.beaten_baselines(make_scores())
    assert sentence == (
        "t: the model beats persistence up to 1 day and climatology up to 2 days (later scores are "
        "missing)."
    )
    alone = make_scores().sel(forecast=["model"])
    assert rows.beaten_baselines(alone) == rows.beaten_baselines(alone.drop_vars("rmse")) == []


def with_perfect_model() -> xr.Dataset:
    """The climatology's errors as those of the perfect model, a half, and 0 at 2 days."""
    names = ["model", "persistence", "perfect_model"]
    scores = make_scores(summary=False).assign_coords(forecast=names)
    scores["rmse"][2] = np.array([[0.5], [0.0], [0.5]])
    return scores


def test_the_perfect_model_is_the_limit_and_no_competitor() -> None:
    (sentence,) = rows.beaten_baselines(with_perfect_model())
    assert sentence == (
        "t: the model beats persistence up to 1 day. Its RMSE is 2 (24 h), 10 (3 days) times that "
        "of the perfect model."
    )
    table = rows.score_table(with_perfect_model())
    assert [[bool(cell.best) for cell in cells] for _, cells in table.rows] == [
        [True, True, False], [False, True, True], [False, False, False],
    ]  # fmt: skip


def test_verdicts_in_months() -> None:
    months = lead_coordinate(np.arange(1, len(LEADS) + 1).astype("timedelta64[M]"))
    (sentence,) = rows.beaten_baselines(make_scores().assign_coords(lead_time=months))
    assert "persistence up to 1 month and climatology up to 2 months" in sentence


def test_forecasts_say_whether_they_stayed_bounded() -> None:
    values = np.array([-1.0, 1.0])[None, None] * np.array([1.0, 2.0, 3.0])[None, :, None]
    fields = xr.Dataset(
        {"t": (("init_time", "lead_time", "x"), values)}, {"lead_time": LEADS, "init_time": [0]}
    )
    record = {"step": 2, "init_time": "2020", "channel": "t", "value": 9, "place": "x = 0"}
    sentences = rows.stability(
        {
            "silent": fields,
            "bounded": fields.assign_attrs(blow_ups="[]"),
            "constant": (0 * fields).assign_attrs(blow_ups="[]"),
            "unstable": fields.assign_attrs(blow_ups=json.dumps([record])),
        }
    )
    assert list(sentences) == ["bounded", "constant", "unstable"]
    assert sentences["bounded"] == (
        "all 1 forecasts stayed within bounds for 3 days; from the first lead time to the last the "
        "spread of t changes most, to 3.00 times what it was"
    )
    assert sentences["constant"].endswith("nothing in them varies")
    assert "1 of 1 forecasts blew up within 3 days" in sentences["unstable"]
    assert "after 2 days: t was 9 at x = 0" in sentences["unstable"]


@pytest.mark.parametrize("text", ["", "7", '[{"step": "first"}]', "[" * 9000])
def test_records_of_blow_ups_that_are_damaged_are_named(text: str) -> None:
    forecast = xr.Dataset({"t": ("init_time", [1.0])}, attrs={"blow_ups": text})
    with rejects("bad-record", "blow_ups of mine"):
        rows.stability({"mine": forecast})


def test_missing_scores_decide_nothing() -> None:
    """A forecast without scores beats no baseline, and none beats it."""
    scores = make_scores()
    empty = scores.assign(rmse=scores["rmse"].where(scores["forecast"] != "model"))
    (sentence,) = rows.beaten_baselines(empty)
    assert sentence == (
        "t: the model beats persistence (there is no score of both) and climatology (there is no "
        "score of both)."
    )
    assert not any(cell.best for cell in rows.score_table(empty).rows[0][1])
    start = scores.assign_coords(lead_time=LEADS - LEADS[0])  # at 0 h all errors may be 0
    start["rmse"][:, 0] = 0
    (sentence,) = rows.beaten_baselines(start)
    assert "beats persistence at no lead time and climatology up to 1 day" in sentence
