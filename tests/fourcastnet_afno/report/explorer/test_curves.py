"""Scores as curves."""

from pathlib import Path

import pytest
import xarray as xr

from fourcastnet_afno.report.explorer.curves import curves_record


def test_curves_have_the_scores(scored_folder: Path) -> None:
    with xr.open_dataset(scored_folder / "out/scores.nc", decode_timedelta=True) as scores:
        scores.load()
    record = curves_record(scores)
    assert record is not None
    assert record["regions"] == ["global", "global_land"]
    labels = [metric["label"] for metric in record["metrics"]]
    assert labels[:2] == ["RMSE", "ACC"]
    forecast = [each["name"] for each in record["forecasts"]].index("theirs")
    channel = [each["name"] for each in record["channels"]].index("2m_temperature")
    chosen = {"region": "global_land", "forecast": "theirs", "channel": "2m_temperature"}
    rmse = record["metrics"][0]
    assert rmse["values"][1][channel][forecast] == pytest.approx(
        scores["rmse"].sel(chosen).values, rel=1e-4
    )
    low = scores["rmse_interval"].sel(chosen).isel(bound=0).transpose("lead_time")
    assert rmse["low"][1][channel][forecast] == pytest.approx(low.values, rel=1e-4)
    assert [lead["label"] for lead in record["leads"]] == ["6 h", "12 h", "18 h", "24 h"]
    assert record["numFurther"] == 0


def test_without_regions_and_metrics(scored_folder: Path) -> None:
    with xr.open_dataset(scored_folder / "out/scores.nc", decode_timedelta=True) as scores:
        first = scores.isel(region=0, drop=True).load()
    record = curves_record(first)
    assert record is not None
    assert record["regions"] == ["all cells"]
    assert curves_record(first[["units"]]) is None
