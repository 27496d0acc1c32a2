"""Forecasts from files: layouts, bad input, and the verb."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation import engine
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.open import open_canonical_forecast
from fourcastnet_afno.evaluation.plan import Result, ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.tasks import run_task
from tests.builders.evaluation_fixtures import DAY, make_coefficients, make_forecast, make_truth

TRUTH = make_truth()
COEFFICIENTS = make_coefficients(TRUTH)
FORECAST = make_forecast(TRUTH, num_members=2)
FAST = EvaluationConfig(num_resamples=0, maps=False, baselines=["climatology"])
WEATHERBENCH = {"init_time": "time", "lead_time": "prediction_timedelta", "realization": "number"}


def rmse(forecast: xr.Dataset | str, config: EvaluationConfig = FAST) -> xr.DataArray:
    return evaluate({"model": forecast}, TRUTH, COEFFICIENTS, config)["rmse"]


def store(
    forecast: xr.Dataset, path: Path, order: Sequence[str], chunks: dict[str, int], plain: bool
) -> str:
    """Write with axes in another order, and chunks that are mapped if ``plain``."""
    moved = forecast.transpose(*order, missing_dims="ignore")
    encoding = {}
    for name, array in moved.data_vars.items():
        sizes = [chunks.get(str(d), array.sizes[d]) for d in array.dims]
        encoding[name] = {"chunks": sizes} | ({"compressors": None} if plain else {})
    moved.to_zarr(path, zarr_format=3, consolidated=False, encoding=encoding)
    return str(path)


LAYOUTS = [
    ("time", "prediction_timedelta", "number", "level", "latitude", "longitude"),
    ("number", "time", "level", "prediction_timedelta", "longitude", "latitude"),
    ("prediction_timedelta", "latitude", "longitude", "level", "time", "number"),
]


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("south_first", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_axes_of_a_store_may_lie_in_any_order(
    tmp_path: Path, order: Sequence[str], south_first: bool, plain: bool
) -> None:
    forecast = FORECAST.rename(WEATHERBENCH)
    forecast = forecast.isel(latitude=slice(None, None, -1)) if south_first else forecast
    chunks = {"time": 20, "prediction_timedelta": 2, "level": 1}
    path = store(forecast, tmp_path / "f.zarr", order, chunks, plain)
    np.testing.assert_allclose(rmse(path), rmse(FORECAST), rtol=1e-12)
    np.testing.assert_allclose(rmse(open_canonical_forecast(path)), rmse(FORECAST), rtol=1e-12)


def test_a_part_of_an_opened_store_is_that_part(tmp_path: Path) -> None:
    path = store(FORECAST.rename(WEATHERBENCH), tmp_path / "f.zarr", LAYOUTS[0], {}, True)
    late = {"init_time": slice(10, None), "lead_time": slice(1, None)}
    np.testing.assert_allclose(
        rmse(open_canonical_forecast(path).isel(late)), rmse(FORECAST.isel(late)), rtol=1e-12
    )


@pytest.mark.parametrize("units", ["hours", "days"])
def test_netcdf_and_numeric_lead_times(tmp_path: Path, units: str) -> None:
    hours = (FORECAST["lead_time"].values / np.timedelta64(1, "h")).astype(int)
    counts = hours if units == "hours" else hours // 24
    numeric = FORECAST.assign_coords(lead_time=("lead_time", counts, {"units": units}))
    np.testing.assert_array_equal(rmse(numeric), rmse(FORECAST))
    FORECAST.rename(WEATHERBENCH).to_netcdf(tmp_path / "f.nc")
    np.testing.assert_array_equal(rmse(str(tmp_path / "f.nc")), rmse(FORECAST))


def shifted(years: int) -> xr.Dataset:
    return FORECAST.assign_coords(init_time=FORECAST["init_time"] + years * 365 * DAY)


def on_grid(rows: int) -> xr.Dataset:
    grid = LatLonGrid.equiangular(rows, 12)
    return FORECAST.isel(latitude=slice(rows)).assign_coords(grid.coords)


@pytest.mark.parametrize(
    ("forecast", "words"),
    [
        (shifted(9), "no time in common: truth has 2001-01-01"),
        (FORECAST.assign_coords(level=[300, 850]), r"lacks the channels.*temperature_300"),
        (on_grid(3), r"the grids differ.*evaluation\.regrid"),
        (FORECAST.rename(temperature="a", **{"2m_temperature": "b"}), "no variable in common"),
        (FORECAST.rename(lead_time="ahead"), "expected lead times as one of"),
        (FORECAST.isel(init_time=0, drop=True), "expected initial times"),
        (FORECAST.isel(init_time=[0, 0, 1]), "init_time values more than once"),
    ],
)
def test_what_does_not_fit_is_named(forecast: xr.Dataset, words: str) -> None:
    with pytest.raises(InputError, match=words):
        rmse(forecast)


def test_mixed_units_are_refused() -> None:
    forecast = FORECAST.copy()
    forecast["2m_temperature"] = FORECAST["2m_temperature"].assign_attrs(units="degC")
    with pytest.raises(InputError, match=r"2m_temperature.*(degC|celsius).*K"):
        rmse(forecast)


def test_missing_lead_times_are_scored_where_they_are() -> None:
    short = FORECAST.isel(lead_time=[0, 2])
    scores = evaluate({"all": FORECAST, "short": short}, TRUTH, COEFFICIENTS, FAST)
    assert "short lacks 1 of 3 lead times" in scores.attrs["notes"]
    ours, all_of_them = (scores["rmse"].sel(forecast=n).values for n in ("short", "all"))
    np.testing.assert_array_equal(ours[[0, 2]], all_of_them[[0, 2]])
    assert np.isnan(ours[1]).all()
    assert scores["num_init_times"].sel(forecast="short").values[1].tolist() == [0, 0, 0]


def test_regridding_a_constant_error_keeps_it() -> None:
    coarse = LatLonGrid.equiangular(3, 6)
    truth = make_truth(grid=coarse)
    fine = make_forecast(truth) * 0
    valid = fine["init_time"] + fine["lead_time"]
    on_fine = truth.sel(time=valid).drop_vars("time") + 1.5
    rows, columns = np.repeat(np.arange(3), 2), np.repeat(np.arange(6), 2)
    longitude = (coarse.coords["longitude"][:, None] + [-15, 15]).ravel()
    on_fine = on_fine.isel(latitude=rows, longitude=columns)
    on_fine = on_fine.assign_coords(
        latitude=LatLonGrid.equiangular(6, 12).coords["latitude"], longitude=longitude % 360
    ).sortby("longitude")
    config = EvaluationConfig(regrid="forecast", num_resamples=0, baselines=[])
    scores = evaluate({"m": on_fine}, truth, make_coefficients(truth), config)
    for name in ("rmse", "bias", "mae"):
        np.testing.assert_allclose(scores[name], 1.5, rtol=1e-5)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_truth(60).to_netcdf(folder / "truth.nc")
    make_truth(30, seed=7).to_netcdf(folder / "years.nc")
    FORECAST.isel(realization=0).rename(
        {k: v for k, v in WEATHERBENCH.items() if k != "realization"}
    ).to_zarr(folder / "one.zarr", zarr_format=3, consolidated=False)
    make_forecast(TRUTH, seed=5).to_netcdf(folder / "two.nc")
    return folder


def test_the_verb_scores_forecasts_side_by_side(files: Path, tmp_path: Path) -> None:
    words = ["evaluate", f"--forecast={files / 'one.zarr'}", f"--forecast=b={files / 'two.nc'}"]
    words += ["--truth", str(files / "truth.nc"), "--climatology", str(files / "years.nc")]
    words += ["--training", str(files / "years.nc"), "--evaluation.regions=[global,tropics]"]
    words += ["--evaluation.climatology_harmonics=0"]
    output, report = tmp_path / "x" / "scores.nc", tmp_path / "x" / "report.html"
    assert main([*words, "--output", str(output), "--report", str(report)]) == 0
    with xr.open_dataset(output, decode_timedelta=True) as scores:
        names = scores["forecast"].values.tolist()
        assert names == ["one", "b", "persistence", "climatology", "linear"]
        assert scores["rmse"].notnull().all()
        assert "warning: the climatology is of 2001-01-01" in scores.attrs["notes"]
        expected = evaluate(
            {"b": make_forecast(TRUTH, seed=5)}, make_truth(60), COEFFICIENTS, FAST
        )["rmse"].sel(forecast="b")
        found = scores["rmse"].sel(forecast="b", region="global")
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    text = report.read_text()
    assert "b beats persistence" in text
    assert "warning: the climatology" in text
    assert {p.suffix for p in output.parent.iterdir()} >= {".nc", ".json", ".csv", ".html"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--forecast=none.zarr"], "none.zarr"),
        (["--forecast={one}", "--forecast={one}"], "two forecasts are called one"),
        (["--forecast={one}", "--output=scores.txt"], "ends in .nc"),
        (["--forecast={one}", "--evaluation.regions=[tropics_land]"], "needs the variable land"),
        (["--forecast={one}", "--evaluation.metrics=[rsme]"], "unknown names"),
        (["--forecast={one}", "--evaluation.climatology_harmonics=2"], "do not cover the year"),
        (["--forecast={one}", "--evaluation.quantiles=[0.9]"], "need the training years"),
    ],
)
def test_bad_input_of_the_verb(
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [word.format(one=files / "one.zarr") for word in words]
    sources = [f"--truth={files / 'truth.nc'}", f"--climatology={files / 'years.nc'}"]
    constant = "--evaluation.climatology_harmonics=0"
    assert main(["evaluate", constant, *given, *sources]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# In a process of its own, as functions that the tests' type checker has wrapped cannot be sent.
_ON_A_CLUSTER = """
import sys
from distributed import LocalCluster
from fourcastnet_afno.cli.main import main

with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
    status = main([*sys.argv[1:], f"--scheduler-address={cluster.scheduler_address}"])
    assert "run_task" in cluster.scheduler.task_prefixes
sys.exit(status)
"""


def _words(files: Path) -> list[str]:
    words = ["evaluate", f"--forecast={files / 'two.nc'}", f"--truth={files / 'truth.nc'}"]
    words += [f"--climatology={files / 'years.nc'}", f"--training={files / 'years.nc'}"]
    return [*words, "--evaluation.climatology_harmonics=0", "--evaluation.num_resamples=20"]


@pytest.mark.slow
def test_the_verb_on_a_cluster_gives_the_same(files: Path, tmp_path: Path) -> None:
    assert main([*_words(files), f"--output={tmp_path / 'here.nc'}"]) == 0
    on_cluster = [*_words(files), f"--output={tmp_path / 'there.nc'}"]
    subprocess.run([sys.executable, "-c", _ON_A_CLUSTER, *on_cluster], check=True)
    whole, there = (xr.load_dataset(tmp_path / f"{n}.nc") for n in ("here", "there"))
    assert whole.sizes == there.sizes
    for name, array in whole.data_vars.items():
        if array.dtype.kind == "f":
            np.testing.assert_allclose(there[name], array, rtol=1e-12, err_msg=str(name))


def test_the_verb_goes_on_after_an_interruption(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "kept.npz"

    def scores(name: str, *further: str) -> xr.Dataset:
        assert main([*_words(files), f"--output={tmp_path / name}.nc", *further]) == 0
        return xr.load_dataset(tmp_path / f"{name}.nc").drop_attrs(deep=False)

    whole = scores("here")

    def stop(plan: ScoringPlan, task: ScoringTask) -> dict[int, Result]:
        if task.channels == (1,):
            raise KeyboardInterrupt
        return run_task(plan, task)

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_task", stop)
        stopped = [*_words(files), f"--output={tmp_path / 'again.nc'}", f"--state={kept}"]
        assert main(stopped) == 130
    assert kept.exists()
    assert not (tmp_path / "again.nc").exists()
    done: list[ScoringTask] = []

    def counted(plan: ScoringPlan, task: ScoringTask) -> dict[int, Result]:
        done.append(task)
        return run_task(plan, task)

    monkeypatch.setattr(engine, "run_task", counted)
    again = scores("again", f"--state={kept}", "--evaluation.num_threads=1")
    xr.testing.assert_identical(again, whole)
    assert len(done) == 2
    assert not kept.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
