"""Scores of forecasts in files."""

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.preparation.prepare import prepare
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.workflows.score import evaluate_files, named_paths, truth_of
from tests.builders.embedded_pages import EmbeddedPage, require_scored_fields
from tests.builders.errors import rejects
from tests.builders.experiments import make_data_config, make_dataset
from tests.builders.forecasts import GRID, make_climatology, make_forecast, make_truth


def test_the_command_scores_files(scored_folder: Path) -> None:
    output = scored_folder / "out"
    assert {path.name for path in output.iterdir()} == {
        "scores.nc", "scores.json", "scores.csv", "report.html", "figures",
    }  # fmt: skip
    with xr.open_dataset(output / "scores.nc") as scores:
        names = ["ours", "theirs", "persistence", "climatology", "linear"]
        assert scores["forecast"].values.tolist() == names
        assert scores["region"].values.tolist() == ["global", "global_land"]
        truth = make_truth(400).isel(time=slice(300, 400))
        forecasts = {"theirs": make_forecast(truth, noise=6.0)}
        config = EvaluationConfig(baselines=[], num_resamples=0)
        expected = evaluate(forecasts, truth, make_climatology(truth), config)["rmse"]
        rmse = scores["rmse"].sel(forecast="theirs", region="global")
        expected = expected.sel(forecast="theirs", channel=rmse["channel"].values)
        np.testing.assert_allclose(rmse, expected, rtol=1e-12)
        assert (scores["rmse_verdict"].sel(forecast="ours", region="global") == -1).all()
        assert "fingerprint_of_ours" in scores.attrs
    record = json.loads((output / "scores.json").read_text())
    assert record["verdicts"]["ours"]["rmse"]["2m_temperature"]["24"] == "better"
    assert record["regions"]["global_land"]["theirs"]["rmse"]["2m_temperature"]["6"] > 0
    low, high = record["intervals"]["ours"]["rmse"]["2m_temperature"]["6"]
    assert low < record["forecasts"]["ours"]["rmse"]["2m_temperature"]["6"] < high
    lines = (output / "scores.csv").read_text().splitlines()
    assert lines[0].startswith("forecast,region,channel,lead_hours,rmse,acc")
    assert len(lines) == 1 + 5 * 2 * 2 * 4


def test_the_map_of_the_report_shows_the_baselines_that_were_scored(tmp_path: Path) -> None:
    series = make_truth(400)
    truth = series.isel(time=slice(300, 400))
    make_forecast(truth, num_inits=1).to_netcdf(tmp_path / "ours.nc")
    truth.to_netcdf(tmp_path / "truth.nc")
    series.isel(time=slice(300)).to_netcdf(tmp_path / "years.nc")
    years = SourceConfig(path=str(tmp_path / "years.nc"))
    config = EvaluationConfig(
        channels=["z500", "t2m"], num_resamples=0, spectra=False, maps=False,
        climatology_harmonics=0, baselines=["linear", "weekly_climatology", "climatology"],
    )  # fmt: skip
    scores = evaluate_files(
        [str(tmp_path / "ours.nc")], SourceConfig(path=str(tmp_path / "truth.nc")), years,
        tmp_path / "scores.nc", config, training=years, report=tmp_path / "report.html",
    )  # fmt: skip
    page, baselines = EmbeddedPage(tmp_path / "report.html"), list(scores["forecast"].values[1:])
    assert page.views == ["truth", "ours", "persistence", *baselines]
    assert sorted(baselines) == sorted(config.baselines)
    require_scored_fields(page, scores, ["ours", *baselines], GRID.area_weights())


def test_a_prepared_store_is_truth_and_climatology(tmp_path: Path) -> None:
    make_dataset().to_netcdf(tmp_path / "data.nc")
    store = prepare(make_data_config(tmp_path / "data.nc"), tmp_path / "data.zarr")
    days = np.arange(1, 4) * np.timedelta64(1, "D").astype("timedelta64[ns]")
    fields = store.dataset().compute()
    forecast = make_forecast(fields.isel(time=slice(85, None)), 8, days, noise=0.1)
    forecast.to_netcdf(tmp_path / "f.nc")
    source = SourceConfig(path=str(tmp_path / "data.zarr"))
    scores = evaluate_files([str(tmp_path / "f.nc")], source, source, tmp_path / "scores.nc")
    assert scores.attrs["fingerprint_of_truth"] == store.fingerprint
    assert "2001-01-01 to 2001-03-01" in scores.attrs["climatology"]
    assert "warning" not in scores.attrs["notes"]


def test_the_land_of_a_prepared_store_is_a_region(tmp_path: Path) -> None:
    dataset = make_dataset().rename(height="land_sea_mask")
    dataset["land_sea_mask"] = dataset["land_sea_mask"].copy(data=np.eye(6, 12, dtype="f4"))
    dataset["land_sea_mask"].attrs["units"] = "1"
    dataset.to_netcdf(tmp_path / "data.nc")
    config = make_data_config(tmp_path / "data.nc", static=["land_sea_mask"])
    store = prepare(config, tmp_path / "data.zarr")
    np.testing.assert_array_equal(truth_of(store)["land_sea_mask"], np.eye(6, 12))
    turned = PreparedStore(tmp_path / "data.zarr", CropConfig(west=180.0, east=540.0, south=0.0))
    expected = np.roll(np.eye(6, 12), -6, axis=1)[:3]
    np.testing.assert_array_equal(truth_of(turned)["land_sea_mask"], expected)


def test_errors_of_companions_name_their_option(scored_folder: Path, tmp_path: Path) -> None:
    forecasts = [str(scored_folder / "theirs.zarr")]
    truth = SourceConfig(path=str(scored_folder / "truth.nc"))
    none, output = SourceConfig(path=str(tmp_path / "none.nc")), tmp_path / "scores.nc"
    with rejects("missing-file", "none.nc", "--climatology"):
        evaluate_files(forecasts, truth, none, output)
    with rejects("missing-file", "none.nc", "--training"):
        evaluate_files(forecasts, truth, truth, output, training=none)
    with rejects("missing-file", "none.nc", "--truth"):
        evaluate_files(forecasts, none, truth, output)
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_climatology_counts_in_its_fingerprint(
    scored_folder: Path, tmp_path: Path
) -> None:
    years = xr.open_dataset(scored_folder / "training.nc")
    files = [tmp_path / "0.nc", tmp_path / "1.nc"]
    for file, part in zip(files, (slice(200), slice(200, 300)), strict=True):
        years.isel(time=part).to_netcdf(file)
    config = EvaluationConfig(
        channels=["t2m"], baselines=[], spectra=False, maps=False, num_resamples=0,
        climatology_harmonics=0,
    )  # fmt: skip

    def fingerprint() -> str:
        scores = evaluate_files(
            [str(scored_folder / "theirs.zarr")],
            SourceConfig(path=str(scored_folder / "truth.nc")),
            SourceConfig(path=[str(file) for file in files]),
            tmp_path / "scores.nc",
            config,
        )
        return scores.attrs["fingerprint_of_climatology"]

    before = fingerprint()
    assert fingerprint() == before
    files[1].touch()
    assert fingerprint() != before


@pytest.mark.parametrize(
    ("path", "name"),
    [("fcs/*.nc", "fcs"), ("fcs/ours_*.nc", "ours"), ("fcs", "fcs")],
)
def test_names_of_folders_and_globs(path: str, name: str) -> None:
    found = named_paths([path])
    assert list(found.values()) == [path]
    assert list(found) == [name]


@pytest.mark.parametrize("name", ["x\x1b[31my", "a ", "n" * 201])
def test_names_that_no_file_of_scores_can_hold(name: str) -> None:
    with rejects("bad-setting", repr(name[:80]), "NAME=PATH"):
        named_paths([f"{name}=f.nc"])


def test_outputs_that_cannot_be_written_are_named_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "scores.csv").mkdir()
    nothing = SourceConfig(path=str(tmp_path / "not read"))
    with rejects("output-exists", str(tmp_path / "scores.csv")):
        evaluate_files(["f.zarr"], nothing, nothing, tmp_path / "scores.nc")
    state = tmp_path / ("x" * 300)
    with rejects("cannot-write", str(state)):
        evaluate_files(["f.zarr"], nothing, nothing, tmp_path / "new" / "scores.nc", state=state)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]
