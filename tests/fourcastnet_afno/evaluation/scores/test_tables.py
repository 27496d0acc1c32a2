"""Scores for machines and for terminals."""

import io
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.scores.tables import (
    format_score,
    scores_table,
    scores_to_csv,
    scores_to_json,
    write_scores,
)
from tests.builders import baselines

DAY = np.timedelta64(1, "D").astype("timedelta64[ns]")
LEADS = DAY * np.arange(1, 4)


def test_scores_for_machines(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray, tmp_path: Path
) -> None:
    forecasts = {"persistence": baselines.persistence(truth, inits, LEADS)}
    scores = evaluate(forecasts, truth, coefficients)
    record = scores_to_json(scores)
    value = record["forecasts"]["persistence"]["rmse"]["2m_temperature"]["48"]
    assert value == scores["rmse"].sel(channel="2m_temperature").values[0, 1]
    assert record["units"]["2m_temperature"] == "K"
    write_scores(scores, tmp_path / "scores.json", tmp_path / "scores.nc")
    with xr.open_dataset(tmp_path / "scores.nc") as again:
        np.testing.assert_array_equal(again["rmse"], scores["rmse"])


@pytest.mark.parametrize("factor", [1.0, 1e-9])
def test_the_table_fits_a_terminal(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray, factor: float
) -> None:
    forecasts = {"persistence": baselines.persistence(truth, inits, LEADS)}
    scores = evaluate(forecasts, truth, coefficients).sel(channel=["mean_sea_level_pressure"])
    console = Console(width=80, file=io.StringIO())
    console.print(scores_table(scores.assign(rmse=factor * scores["rmse"])))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    power = -7 if factor < 1 else 0
    row = next(line for line in text.splitlines() if "persistence" in line).split()
    shown = [float(word) for word in row[row.index("persistence") + 1 :]]
    assert ("1e-7" in text) == (factor < 1)
    expected = scores["rmse"].sel(forecast="persistence").values.ravel() * factor / 10.0**power
    np.testing.assert_allclose(shown, expected, rtol=5e-3)


def test_trajectories_have_steps_and_no_unit_where_there_is_none(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    attrs, hour = TrajectoryTimes(step=0.25, num_states=9).attrs, DAY // 24
    plain, fitted = (
        dataset[["2m_temperature"]].rename({"2m_temperature": "tracer"})
        for dataset in (truth, coefficients)
    )
    plain = plain.assign_attrs(attrs)
    for dataset in (plain, fitted):
        dataset["tracer"].attrs["units"] = "1"
    forecasts = {"persistence": baselines.persistence(plain, inits, hour * np.array([24, 48]))}
    scores = evaluate(forecasts, plain, fitted)
    lines = scores_to_csv(scores).splitlines()
    assert lines[0].startswith("forecast,channel,lead_steps,")
    assert {line.split(",")[2] for line in lines[1:]} == {"24.0", "48.0"}
    assert "correlation_time_steps" in scores
    console = Console(width=80, file=io.StringIO())
    console.print(scores_table(scores))
    text = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "steps of 0.25" in text
    assert "24 steps 48 steps" in text
    assert "[1]" not in text


def test_names_and_units_are_shown_as_they_are(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    """Units in brackets and names in tags are no markup, and the notes of a file neither."""
    forecasts = {"[red]": baselines.persistence(truth, inits, LEADS)}
    scores = evaluate(forecasts, truth, coefficients).sel(channel=["2m_temperature"])
    scores["units"] = ("channel", ["m s-1"])
    scores.attrs["notes"] = "left out: [/x] \x1b[31m"
    console = Console(width=200, file=io.StringIO())
    console.print(scores_table(scores))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for shown in ("RMSE [m s-1]", "[red]", r"left out: [/x] \x1b[31m"):
        assert shown in text


def test_missing_scores_are_no_verdicts(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray, tmp_path: Path
) -> None:
    """In JSON they are null, as the score is, not "not distinguishable"."""
    forecast = baselines.persistence(truth, inits, LEADS)
    forecast = forecast.where(forecast["lead_time"] < 3 * DAY).transpose("init_time", ...)
    scores = evaluate({"m": forecast}, truth, coefficients)
    record = scores_to_json(scores)
    found = record["verdicts"]["m"]["rmse"]["2m_temperature"]
    assert found["72"] is None is record["forecasts"]["m"]["rmse"]["2m_temperature"]["72"]
    assert found["48"] == "worse"


def test_lead_times_shorter_than_an_hour_keep_their_scores_apart(
    truth: xr.Dataset, coefficients: xr.Dataset, inits: np.ndarray
) -> None:
    forecast = baselines.persistence(truth, inits, LEADS)
    scores = evaluate({"m": forecast}, truth, coefficients)
    short = scores.assign_coords(lead_time=scores["lead_time"].values // 96)  # 15 min
    values = scores_to_json(short)["forecasts"]["m"]["rmse"]["2m_temperature"]
    assert list(values) == ["0.25", "0.5", "0.75"]


def test_scores_of_every_size_fit_a_column() -> None:
    sizes = (12345.6, 12.345, 0.012345, 0.00012345, -6.789e-10, 0.0, np.nan, np.inf)
    assert [format_score("rmse", value) for value in sizes] == [
        "12346", "12.3", "0.0123", "1.2e-04", "-6.8e-10", "0", "-", "inf",
    ]  # fmt: skip
    assert format_score("acc", 0.98765) == "0.988"
