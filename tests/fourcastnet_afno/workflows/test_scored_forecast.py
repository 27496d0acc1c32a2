"""The verb ``forecast`` with scores: what it is given, what it keeps, and bad input."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import xarray as xr

from fourcastnet_afno.cli.run_verb import run_verb
from fourcastnet_afno.evaluation import scoring
from fourcastnet_afno.evaluation.inputs.baselines import fit_linear
from tests.builders.embedded_pages import EmbeddedPage, require_scored_fields
from tests.builders.errors import rejects
from tests.builders.experiments import GRID, make_dataset, make_experiment, make_untrained_run


@dataclass
class Files:
    """A run folder with a checkpoint of fresh weights and its data, and files of this data."""

    run: Path
    data: Path
    years: Path

    def forecast(self, folder: Path, *words: str) -> None:
        """Make forecasts of members that differ; the last of them lack truth. Errors are raised."""
        command = [
            *(f"--checkpoint={self.run / 'checkpoints' / 'best.safetensors'}",),
            *(f"--source={self.data}", "--output", str(folder / "f.zarr")),
            *("--init-times=2001-04-01..2001-04-29/3D", "--steps=2", "--members=2"),
            *("--forecast.ensemble.perturbation=gaussian", "--evaluation.num_resamples=0"),
            "--evaluation.baselines=[persistence]",
        ]
        run_verb("forecast", [*command, *words])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("files")
    make_dataset().to_netcdf(folder / "data.nc")
    make_dataset(40, seed=5).to_netcdf(folder / "years.nc")
    make_untrained_run(make_experiment(folder / "data.nc"), folder / "run")
    return Files(folder / "run", folder / "data.nc", folder / "years.nc")


def read(folder: Path) -> xr.Dataset:
    return xr.load_dataset(folder / "scores.nc", decode_timedelta=True)


@pytest.mark.parametrize(("keep", "axes"), [("members", True), ("statistics", False)])
def test_fields_may_be_kept_as_well(files: Files, tmp_path: Path, keep: str, axes: bool) -> None:
    words = [f"--scores={tmp_path / 'scores.nc'}", f"--keep={keep}", f"--truth={files.data}"]
    words += [f"--climatology={files.years}", "--evaluation.climatology_harmonics=0"]
    files.forecast(tmp_path, *words)
    scores = read(tmp_path)
    counts = scores["num_init_times"].sel(forecast="model").isel(channel=0)
    assert counts.values.tolist() == [10, 10]
    assert "crps" in scores
    with xr.open_zarr(tmp_path / "f.zarr", consolidated=False, decode_timedelta=True) as written:
        assert ("realization" in written.dims) == axes


def test_the_map_of_the_report_shows_the_baselines_that_were_scored(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are fitted once, and again only where the scores were there already."""
    fit = Mock(wraps=fit_linear)
    monkeypatch.setattr(scoring, "fit_linear", fit)
    words = [f"--scores={tmp_path / 'scores.nc'}", "--keep=members", f"--truth={files.data}"]
    words += [f"--climatology={files.years}", f"--training-years={files.data}"]
    words += ["--evaluation.climatology_harmonics=0", "--init-times=2001-04-10"]
    words += ["--evaluation.baselines=[climatology,linear]", f"--report={tmp_path / 'r.html'}"]
    for number, existing in enumerate(([], ["--existing=resume"]), 1):
        files.forecast(tmp_path, *words, *existing)
        page = EmbeddedPage(tmp_path / "r.html")
        assert page.views[-3:] == ["persistence", "climatology", "linear"]
        require_scored_fields(page, read(tmp_path), page.views[-2:], GRID.area_weights())
        assert fit.call_count == number


def test_a_repository_has_the_scores_of_a_store(files: Files, tmp_path: Path) -> None:
    pytest.importorskip("icechunk", reason="needs icechunk")
    files.forecast(tmp_path)
    files.forecast(tmp_path, f"--output={tmp_path / 'all.icechunk@branch.main/first'}")
    words = [f"--forecast=store={tmp_path / 'f.zarr'}", f"--truth={files.data}"]
    words += [f"--forecast=committed={tmp_path / 'all.icechunk@branch.main/first'}"]
    words += [f"--climatology={files.years}", "--evaluation.climatology_harmonics=0"]
    words += [f"--output={tmp_path / 'scores.nc'}", f"--report={tmp_path / 'report.html'}"]
    run_verb("score", [*words, "--evaluation.num_resamples=0", "--evaluation.baselines=[]"])
    scores = read(tmp_path)
    store, committed = (scores.sel(forecast=n, drop=True) for n in ("store", "committed"))
    assert store["rmse"].notnull().all()
    xr.testing.assert_identical(store, committed)
    assert "committed" in (tmp_path / "report.html").read_text()


def test_truth_is_by_default_the_data_of_the_run(files: Files, tmp_path: Path) -> None:
    """And the report shows scores without fields; complete ones are kept or replaced as asked."""
    words = [f"--scores={tmp_path / 'scores.nc'}", "--keep=none"]
    files.forecast(tmp_path, *words, f"--report={tmp_path / 'r.html'}")
    scores = read(tmp_path)
    names = {"scores.nc", "scores.json", "scores.csv", "r.html", "figures"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert np.isfinite(scores["acc"].sel(forecast="model")).all()
    assert str(files.run / "data.zarr") in scores.attrs["files"]
    assert "CRPS" in (tmp_path / "r.html").read_text()
    before = (tmp_path / "scores.nc").stat().st_mtime_ns
    with rejects("output-exists", "scores.nc", "--existing"):
        files.forecast(tmp_path, *words)
    files.forecast(tmp_path, *words, "--existing=resume")
    assert (tmp_path / "scores.nc").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "code", "names"),
    [
        (["--keep=none"], "bad-setting", ("--keep none", "--scores")),
        (["--truth={data}"], "bad-setting", ("--truth", "--scores")),
        (["--scores={to}/s.txt", "--truth={data}"], "bad-setting", ("ends in .nc",)),
        (["--scores={to}/s.nc", "--truth={data}", "--keep=none",
          "--forecast.ensemble.output=statistics", "--forecast.ensemble.quantiles=[0.1]"],
         "bad-setting", ("forecast.ensemble.quantiles", "no sums", "--keep statistics")),
        (["--scores={to}/s.nc", "--truth={data}", "--climatology={data}", "--keep=none",
          "--evaluation.climatology_harmonics=0", "--forecast.batch_size=auto"],
         "bad-setting", ("batch_size=auto", "--keep none", "set a number")),
        (["--scores={to}/s.nc", "--truth={to}/none.nc"], "missing-file", ("--truth", "none.nc")),
        (["--scores={data}", "--truth={data}"], "output-is-input", ("data.nc",)),
        (["--scores={to}/s.nc", "--truth={data}", "--evaluation.metrics=[rsme]"],
         "unknown-metric", ("rsme",)),
        (["--scores={to}/s.nc", "--truth={data}", "--evaluation.baselines=[perfect_model]"],
         "no-simulator", ("perfect_model",)),
    ],
)  # fmt: skip
def test_bad_input_is_named_before_anything_is_written(
    files: Files, tmp_path: Path, words: list[str], code: str, names: tuple[str, ...]
) -> None:
    given = [word.format(data=files.data, to=tmp_path) for word in words]
    with rejects(code, *names):
        files.forecast(tmp_path, *given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "code", "names"),
    [
        (lambda d: d.isel(longitude=slice(None, None, 2)), "grid-mismatch", ("regrid",)),
        (lambda d: d.assign(t=d["2m_temperature"].assign_attrs(units="m")).drop_vars(
            "2m_temperature").rename(t="2m_temperature"),
         "units-mismatch", ("2m_temperature", "--truth")),
        (lambda d: d.isel(time=slice(0, 50)), "no-common-times", ("no time in common",)),
    ],
)  # fmt: skip
def test_truth_that_does_not_fit_is_named(
    files: Files,
    tmp_path: Path,
    change: Callable[[xr.Dataset], xr.Dataset],
    code: str,
    names: tuple[str, ...],
) -> None:
    change(make_dataset()).to_netcdf(tmp_path / "truth.nc")
    words = [f"--scores={tmp_path / 's.nc'}", "--keep=none", f"--climatology={files.years}"]
    with rejects(code, *names):
        files.forecast(tmp_path, *words, f"--truth={tmp_path / 'truth.nc'}")
    assert [path.name for path in tmp_path.iterdir()] == ["truth.nc"]
