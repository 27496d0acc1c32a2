"""The report, and the scores of files that it shows."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.preparation.prepare import prepare
from data_pipeline.sources.config import SourceConfig
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.report.plots import relative_change
from fourcastnet_afno.report.report import write_report
from fourcastnet_afno.workflows.score import evaluate_files, truth_of
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.forecasts import make_climatology, make_forecast, make_truth, to_weatherbench

ZARR = {"zarr_format": 3, "consolidated": False}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two forecasts in WeatherBench 2's layout, truth with land, and data of other times."""
    folder = tmp_path_factory.mktemp("files")
    whole = make_truth(400)
    land = (np.arange(8) < 4) * np.ones((6, 8))
    truth = whole.isel(time=slice(300, 400))
    truth.assign(land_sea_mask=(("latitude", "longitude"), land, {"units": "1"})).to_netcdf(
        folder / "truth.nc"
    )
    whole.isel(time=slice(300)).to_netcdf(folder / "training.nc")
    for name, noise in (("ours", 3.0), ("theirs", 6.0)):
        forecast = make_forecast(truth, members=3 if name == "ours" else 0, noise=noise)
        to_weatherbench(forecast).to_zarr(folder / f"{name}.zarr", **ZARR)
    return folder


@pytest.fixture(scope="module")
def scored(files: Path) -> Path:
    words = [
        "evaluate", f"--forecast={files}/ours.zarr", f"--forecast=theirs={files}/theirs.zarr",
        f"--truth={files}/truth.nc", f"--climatology={files}/training.nc",
        f"--training={files}/training.nc", "--evaluation.climatology_harmonics=0",
        f"--output={files}/out/scores.nc", f"--report={files}/out/report.html",
        "--evaluation.regions=[global,global_land]", "--evaluation.quantiles=[0.9]",
        "--evaluation.channels=[z500,u850,v850,t2m]", "--evaluation.num_resamples=50",
        "--evaluation.reference=theirs",
    ]  # fmt: skip
    assert main(words) == 0
    return files / "out"


def test_the_command_scores_files(files: Path, scored: Path) -> None:
    assert {path.name for path in scored.iterdir()} == {
        "scores.nc", "scores.json", "scores.csv", "report.html", "figures",
    }  # fmt: skip
    with xr.open_dataset(scored / "scores.nc") as scores:
        names = ["ours", "theirs", "persistence", "climatology", "linear"]
        assert scores["forecast"].values.tolist() == names
        assert scores["region"].values.tolist() == ["global", "global_land"]
        truth = make_truth(400).isel(time=slice(300, 400))
        forecasts = {"theirs": make_forecast(truth, noise=6.0)}
        config = EvaluationConfig(baselines=[], num_resamples=0)
        expected = evaluate(forecasts, truth, make_climatology(truth), config)
        found = scores["rmse"].sel(forecast="theirs", region="global")
        wanted = expected["rmse"].sel(forecast="theirs", channel=found["channel"].values)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert (scores["rmse_verdict"].sel(forecast="ours", region="global") == -1).all()
        assert "fingerprint_of_ours" in scores.attrs
    record = json.loads((scored / "scores.json").read_text())
    assert record["verdicts"]["ours"]["rmse"]["2m_temperature"]["24"] == "better"
    assert record["regions"]["global_land"]["theirs"]["rmse"]["2m_temperature"]["6"] > 0
    low, high = record["intervals"]["ours"]["rmse"]["2m_temperature"]["6"]
    assert low < record["forecasts"]["ours"]["rmse"]["2m_temperature"]["6"] < high
    lines = (scored / "scores.csv").read_text().splitlines()
    assert lines[0].startswith("forecast,region,channel,lead_hours,rmse,acc")
    assert len(lines) == 1 + 5 * 2 * 4 * 4


def test_the_report_holds_everything(scored: Path) -> None:
    text = (scored / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]{0,20})', text)
    assert len(sources) > 8
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    for title in ("Scorecard", "Scores", "Maps", "Spectra", "Ensembles and events", "Conventions"):
        assert re.search(rf"<h2[^>]*>{title}", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text
    for said in (
        "exact cell areas",
        "fingerprint of truth",
        "ours against theirs",
        "missing values",
    ):
        assert said in text
    names = {path.name for path in (scored / "figures").iterdir()}
    assert {"scores.png", "scores.pdf", "scorecard_ours.pdf", "maps.png", "rollout.gif"} <= names
    assert {"spread_skill_ours.png", "reliability.png", "crps.png", "spectra.pdf"} <= names


def test_the_scorecard_says_what_the_scores_say(scored: Path) -> None:
    with xr.open_dataset(scored / "scores.nc") as scores:
        first = scores.isel(region=0).load()
    change, certain = relative_change(first, "ours")
    channel = change["channel"].values[0]
    ours, theirs = (
        float(first["rmse"].sel(forecast=n, channel=channel)[0]) for n in ("ours", "theirs")
    )
    assert float(change.sel(channel=channel)[0]) == pytest.approx(100 * (ours / theirs - 1))
    assert certain.all()
    text = (scored / "report.html").read_text()
    assert f"{100 * (ours / theirs - 1):+.0f} % ▼" in text


def test_a_prepared_store_is_truth_and_climatology(tmp_path: Path) -> None:
    dataset = make_dataset()
    dataset.to_netcdf(tmp_path / "data.nc")
    store = prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")
    days = np.arange(1, 4) * np.timedelta64(1, "D").astype("timedelta64[ns]")
    fields = store.dataset().compute()
    forecast = make_forecast(fields.isel(time=slice(85, None)), 8, days, noise=0.1)
    forecast.to_netcdf(tmp_path / "f.nc")
    source = SourceConfig(path=str(tmp_path / "data.zarr"))
    found = evaluate_files([str(tmp_path / "f.nc")], source, source, tmp_path / "scores.nc")
    assert found.attrs["fingerprint_of_truth"] == store.fingerprint
    assert "2001-01-01 to 2001-03-01" in found.attrs["climatology"]
    assert "warning" not in found.attrs["notes"]


def test_the_land_of_a_prepared_store_is_a_region(tmp_path: Path) -> None:
    dataset = make_dataset().rename(height="land_sea_mask")
    dataset["land_sea_mask"] = dataset["land_sea_mask"].copy(data=np.eye(6, 12, dtype="f4"))
    dataset["land_sea_mask"].attrs["units"] = "1"
    dataset.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", static=["land_sea_mask"])
    store = prepare(config, tmp_path / "data.zarr")
    np.testing.assert_array_equal(truth_of(store)["land_sea_mask"], np.eye(6, 12))


def test_a_report_of_few_times_on_a_region(tmp_path: Path) -> None:
    """No intervals, no spectra, missing lead times: the report leaves out what there is not."""
    box = {"latitude": slice(60, -60), "longitude": slice(0, 200)}
    truth = make_truth().sel(box)
    forecasts = {
        "ours": make_forecast(truth, 4),
        "theirs": make_forecast(truth, 4).isel(lead_time=[0]),
    }
    scores = evaluate(forecasts, truth, make_climatology(truth))
    assert "spectrum" not in scores
    write_report(tmp_path / "report.html", scores=scores, truth=truth, forecasts=forecasts)
    text = (tmp_path / "report.html").read_text()
    assert "theirs lacks 3 of 4 lead times" in text
    assert ">Spectra<" not in text
