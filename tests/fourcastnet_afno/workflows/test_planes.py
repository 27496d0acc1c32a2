"""Problems on planes through every verb, as weather goes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.errors import InputError
from data_pipeline.grids.plane import PlaneGrid, grid_of
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno import load_forecaster
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.inputs.climatologies import from_store
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.evaluation.statistics.spectra import isotropic_energy_spectrum
from fourcastnet_afno.forecaster.boundaries import adapt_config_to_grid
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.inference.config import EnsembleConfig, ForecastConfig
from fourcastnet_afno.inference.open import open_diagnostics, open_forecast
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from fourcastnet_afno.report import plots
from fourcastnet_afno.report.lines import mean_lines
from fourcastnet_afno.report.report import picture_channel
from fourcastnet_afno.training.config import Stage, TrainingConfig, ValidationConfig
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.forecast import forecast_run
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.baselines import persistence
from tests.builders.errors import rejects
from tests.builders.planes import SQUARE, TORUS, make_advection, make_plane_config, make_steady


def make_config(
    path: Path, prognostic: list[str], num_steps: int, padding: Padding | None = None
) -> ExperimentConfig:
    network = AFNONetConfig(
        patch_size=(1, 1),
        embed_dim=12,
        depth=2,
        num_blocks=2,
        padding=padding or Padding(latitude="wrap"),
    )
    return ExperimentConfig(
        data=make_plane_config(path, prognostic),
        model=ModelConfig(network=network),
        training=TrainingConfig(
            stages=[Stage(epochs=8, learning_rate=1e-2)],
            validation=ValidationConfig(num_steps=1),
            batch_size=6,
            ema_decay=0.5,
            input_noise=0.0,
            device="cpu",
        ),
        forecast=ForecastConfig(num_steps=num_steps),
        evaluation=EvaluationConfig(num_resamples=20),
    )


def scores_of(config: ExperimentConfig, run: Path) -> xr.Dataset:
    """All verbs but the report, which takes its time to draw."""
    for verb in (prepare_run, train_run, forecast_run):
        verb(config, run)
    store = PreparedStore(run / "data.zarr")
    forecasts = {"model": str(run / "forecast.zarr")}
    return evaluate(forecasts, store.dataset(), from_store(store), config.evaluation)


@pytest.fixture(scope="module")
def torus_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torus")
    make_advection().to_netcdf(folder / "data.nc")
    config = make_config(folder / "data.nc", ["tracer"], 5)
    (folder / "config.yaml").write_text(config.to_yaml())
    for verb in ("prepare", "train", "forecast", "evaluate"):
        arguments = ["--config", str(folder / "config.yaml"), "--output", str(folder / "run")]
        assert main([verb, *arguments]) == 0
    return folder


def test_forecasts_on_a_torus_start_where_all_steps_are_known(torus_run: Path) -> None:
    forecast = open_forecast(torus_run / "run" / "forecast.zarr")
    assert forecast["tracer"].dims == ("init_time", "lead_time", "y", "x")
    assert grid_of(forecast) == TORUS
    starts = make_advection()["time"].sel(time=slice("2201", None))[::8]
    np.testing.assert_array_equal(forecast["init_time"], starts)
    assert np.isfinite(forecast["tracer"].values).all()


def test_scores_on_a_torus_are_those_of_the_fields(torus_run: Path) -> None:
    run = torus_run / "run"
    truth, forecast = make_advection(), open_forecast(run / "forecast.zarr")
    valid = forecast["valid_time"].values
    wanted = truth["tracer"].sel(time=valid.ravel()).values.reshape(forecast["tracer"].shape)
    squares = ((forecast["tracer"].values - wanted) ** 2).mean((2, 3))
    scores = json.loads((run / "scores.json").read_text())["forecasts"]
    rmse = [scores["model"]["rmse"]["tracer"][str(h)] for h in range(1, 6)]
    np.testing.assert_allclose(rmse, np.sqrt(squares.mean(0)), rtol=1e-5)
    relative = np.sqrt(squares / (wanted**2).mean((2, 3))).mean(0)
    found = [scores["model"]["relative_l2"]["tracer"][str(h)] for h in range(1, 6)]
    np.testing.assert_allclose(found, relative, rtol=1e-5)
    assert rmse[0] < scores["persistence"]["rmse"]["tracer"]["1"]
    with xr.open_dataset(run / "scores.nc") as stored:
        assert stored["wavenumber"].attrs["long_name"] == "magnitude of the wave vector"
        spectrum = stored["spectrum"].sel(source="truth", channel="tracer")
        np.testing.assert_allclose(
            spectrum.sum("wavenumber"), (wanted**2).mean((0, 2, 3)), rtol=1e-4
        )
        first, *_ = open_forecast(run / "forecast.zarr")["tracer"].values.swapaxes(0, 1)
        ours = isotropic_energy_spectrum(first, TORUS.extent).mean(axis=0)
        found = stored["spectrum"].sel(source="model", channel="tracer").isel(lead_time=0)
        np.testing.assert_allclose(found, ours, rtol=1e-6)
        assert stored["spectrum"]["source"].values.tolist() == ["truth", *stored["forecast"].values]
        figure = plots.plot_spectra(stored, "tracer", LeadTimes.of(stored).selected(4))
        assert [axis.get_title() for axis in figure.axes[:4]] == ["1 h", "2 h", "3 h", "5 h"]
        labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert labels == ["truth", "model", "persistence", "linear"]
        line = figure.axes[0].get_lines()[0]
        np.testing.assert_array_equal(line.get_xdata(), stored["wavenumber"][1:])
        assert "effective_resolution_km" not in stored
        assert stored["rmse_map"].dims[-2:] == ("y", "x")
    report = (run / "report.html").read_text()
    assert "relative L2" in report
    assert "Spectra" in report
    assert "energy spectra (magnitude of the wave vector)" in report
    assert "<th>effective wavenumber, 1 h</th>" in report


def test_spectra_on_a_torus_do_not_depend_on_the_cut(torus_run: Path) -> None:
    store = PreparedStore(torus_run / "run" / "data.zarr")
    config = EvaluationConfig(num_resamples=0, baselines=["persistence"], maps=False)
    forecasts = {"model": str(torus_run / "run" / "forecast.zarr")}
    whole, parts = (
        evaluate(forecasts, store.dataset(), from_store(store), config, block_bytes=size)
        for size in (None, 1)
    )
    for name in ("spectrum", "effective_wavenumber"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5)


def test_steady_problems_go_through_every_verb(tmp_path: Path) -> None:
    make_steady().to_netcdf(tmp_path / "data.nc")
    edges = Padding(latitude="reflect", longitude="reflect")
    config = make_config(tmp_path / "data.nc", ["source", "solution"], 1, edges)
    scores = scores_of(config, tmp_path / "run")
    forecast = open_forecast(tmp_path / "run" / "forecast.zarr")
    given = make_steady()["source"].sel(time=forecast["init_time"].values)
    np.testing.assert_array_equal(forecast["source"].isel(lead_time=0), given)
    model, mean = (
        float(scores["relative_l2"].sel(forecast=name, channel="solution").isel(lead_time=0))
        for name in ("model", "climatology")
    )
    assert model < 0.8 * mean
    nothing = scores["relative_l2"].sel(forecast="persistence", channel="solution")
    assert float(nothing.isel(lead_time=0)) == pytest.approx(1)
    assert "spectrum" not in scores
    assert picture_channel(scores) == "solution"
    history = json.loads((tmp_path / "run" / "history.json").read_text())
    assert np.isfinite([row["validation_loss"] for row in history]).all()


def test_a_checkpoint_of_a_plane_is_used_at_another_resolution(
    torus_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = PlaneGrid.regular(24, 36, extent=TORUS.extent)
    make_advection(fine, counts=(0, 0, 2), length=3).to_netcdf(tmp_path / "fine.nc")
    found = {}
    for resolution in ("native", "interpolate"):
        output = tmp_path / f"{resolution}.{'zarr' if resolution == 'native' else 'nc'}"
        options = {
            "--config": torus_run / "config.yaml",
            "--output": output,
            "--checkpoint": torus_run / "run" / "checkpoints" / "best.safetensors",
            "--source.path": tmp_path / "fine.nc",
            "--forecast.num_steps": 2,
            "--forecast.resolution": resolution,
        }
        assert main(["forecast", *(str(x) for pair in options.items() for x in pair)]) == 0
        found[resolution] = open_forecast(output)
        assert grid_of(found[resolution]) == fine
        assert found[resolution].sizes["init_time"] == 2
    assert "the network works on the data's grid" in capsys.readouterr().out
    changes = [f["tracer"].isel(lead_time=0).values for f in found.values()]
    difference = np.abs(changes[0] - changes[1]).max()
    assert 0 < difference < 0.2 * np.abs(changes[0]).max()


def test_problems_in_one_dimension_go_through_every_verb(tmp_path: Path) -> None:
    line = PlaneGrid.regular(1, 16, extent=(1.0, 2.0), periodic=("x",))
    data = make_advection(line, counts=(4, 2, 2), length=30)
    data.to_netcdf(tmp_path / "data.nc")
    config = make_config(tmp_path / "data.nc", ["tracer"], 4, Padding())
    config = replace(config, training=replace(config.training, stages=[Stage(epochs=1)]))
    scores = scores_of(config, tmp_path / "run")
    assert scores["spectrum"].sizes["wavenumber"] == 9
    bias, rmse = mean_lines(scores, "tracer", "model").axes
    for axis, name in ((bias, "bias_map"), (rmse, "rmse_map")):
        np.testing.assert_allclose(axis.lines[0].get_ydata(), scores[name][0, 0, 0, 0], rtol=1e-6)
    # Trajectories of 30 states at the 1st hour of a day: one more start, of which 4 are followed.
    starts = open_forecast(tmp_path / "run" / "forecast.zarr")["init_time"].values
    assert len(starts) == 4
    (diagnosed,) = open_diagnostics(tmp_path / "run" / "forecast.zarr")["mean"].isel(
        init_time=[0], lead_time=0, channel=0
    )
    assert np.isfinite(diagnosed)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("--evaluation.regions", "[tropics]", "a part of evaluation.regions needs latitudes"),
        ("--data.crop", "{north: 10}", "data.crop needs latitudes"),
    ],
)
def test_settings_of_the_sphere_are_refused_by_name(
    torus_run: Path, setting: str, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config", str(torus_run / "config.yaml"), "--output", str(torus_run / "run")]
    assert main(["evaluate", *arguments, setting, value]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("perturbation", ["gaussian", "bred", "spherical"])
def test_ensembles_on_planes(perturbation: str, torus_run: Path, tmp_path: Path) -> None:
    checkpoint = torus_run / "run" / "checkpoints" / "best.safetensors"
    forecaster, dataset = load_forecaster(checkpoint), make_advection()
    starts = dataset["time"].values[3:4]
    settings = EnsembleConfig(
        num_members=3,
        perturbation=perturbation,  # type: ignore[arg-type]
        breeding_cycles=1,
        breeding_steps=1,
    )
    config = ForecastConfig(num_steps=1, ensemble=settings)
    if perturbation == "spherical":
        with rejects("needs-sphere", "perturbation=gaussian"):
            write_forecast(forecaster, dataset, starts, config, tmp_path / "f.zarr", {})
        return
    written = write_forecast(forecaster, dataset, starts, config, tmp_path / "f.zarr", {})
    assert written is not None
    members = written["tracer"].values[0, :, 0]
    assert np.abs(members - members[0]).max(axis=(1, 2))[1:].min() > 0


def test_scores_of_another_resolution_are_of_means_over_cells() -> None:
    fine = PlaneGrid.regular(16, 24, extent=TORUS.extent)
    times, leads = make_advection()["time"].values[:3], np.array([0, 1]) * np.timedelta64(1, "h")
    forecasts = persistence(make_advection(fine), times, leads)
    blocks = forecasts.coarsen(y=2, x=2).mean()  # type: ignore[attr-defined]
    truth, config = make_advection(), EvaluationConfig(regrid="forecast", num_resamples=0)
    climate = constant_climatology(truth)
    scores = evaluate({"fine": forecasts, "means": blocks}, truth, climate, config)
    ours, theirs = (scores["rmse"].sel(forecast=name).values for name in ("fine", "means"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    with rejects("grid-mismatch", "8 x 12"):
        evaluate({"fine": forecasts}, truth, climate, EvaluationConfig())


def constant_climatology(truth: xr.Dataset) -> xr.Dataset:
    """Coefficients of a mean for every hour of day."""
    return truth.mean("time", keep_attrs=True).expand_dims(hour=range(24), harmonic=[0])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({}, "padding.longitude=wrap"),
        (
            {"padding": Padding(latitude="wrap", longitude="zero")},
            "padding.latitude=wrap",
        ),
        (
            {"padding": Padding(longitude="zero"), "pole": "double_fourier_sphere"},
            "pole=double_fourier_sphere",
        ),
    ],
)
def test_networks_that_do_not_suit_a_plane_are_rejected(options: dict, named: str) -> None:
    network = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=1, num_blocks=2, **options)
    with pytest.raises(InputError) as error:
        adapt_config_to_grid(network, SQUARE, "model.network")
    assert named in str(error.value)


def test_the_doctor_describes_planes(
    torus_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = str(torus_run / "config.yaml")
    assert main(["doctor", "--config", config, "--output", str(tmp_path / "run")]) == 0
    assert "8 x 12, plane of 2 x 3, periodic in y x" in capsys.readouterr().out
