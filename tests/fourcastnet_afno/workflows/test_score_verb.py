"""The verb that scores files: side by side, on a cluster, after an interruption, and bad input."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation import engine
from fourcastnet_afno.evaluation.aggregation import AggregationState
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.plan import ScoringPlan, ScoringTask
from fourcastnet_afno.evaluation.tasks import run_task
from tests.builders.evaluation_fixtures import make_coefficients, make_forecast, make_truth

TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


FORECAST = make_forecast(TRUTH, num_members=2)


FAST = EvaluationConfig(num_resamples=0, maps=False, baselines=["climatology"])


WEATHERBENCH = {"init_time": "time", "lead_time": "prediction_timedelta", "realization": "number"}


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
        (["--forecast={one}", "--truth=no.nc"], "correct --truth"),
        (["--forecast={one}", "--forecast={one}"], "two forecasts are called one"),
        (["--forecast={one}", "--output=scores.txt"], "ends in .nc"),
        (["--forecast={one}", "--evaluation.regions=[tropics_land]"], "needs the variable land"),
        (["--forecast={one}", "--evaluation.metrics=[rsme]"], "unknown names"),
        (["--forecast={one}", "--evaluation.climatology_harmonics=3"], "do not cover the year"),
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
    assert main(["evaluate", constant, *sources, *given]) == 2
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

    def stop(plan: ScoringPlan, task: ScoringTask) -> list[AggregationState]:
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

    def counted(plan: ScoringPlan, task: ScoringTask) -> list[AggregationState]:
        done.append(task)
        return run_task(plan, task)

    monkeypatch.setattr(engine, "run_task", counted)
    again = scores("again", f"--state={kept}", "--evaluation.num_threads=1")
    xr.testing.assert_identical(again, whole)
    assert len(done) == 2
    assert not kept.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
