"""A limited area from its data to forecasts: trained, driven, resumed, shared and scored."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.preparation.boundary import BoundaryConfig
from data_pipeline.store.cropping import CropConfig
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.models.config import Padding
from fourcastnet_afno.training.config import Stage, ValidationConfig
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset, make_experiment, make_untrained_run
from tests.builders.forecasters import contents

DATA = make_dataset(grid=LatLonGrid.equiangular(8, 12))
CROP = CropConfig(north=70.0, south=-70.0, west=30.0, east=240.0)
NAMES = ("mean_sea_level_pressure", "2m_temperature")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 6 x 8 cells whose outermost ones are driven, its data, and forecasts of it."""
    folder = tmp_path_factory.mktemp("area")
    DATA.to_netcdf(folder / "data.nc")
    stages, validation = [Stage(epochs=1, num_steps=2)], ValidationConfig(num_init_times=2)
    config = make_experiment(folder / "data.nc", stages=stages, validation=validation)
    padding = Padding(latitude="reflect", longitude="reflect")
    network = replace(config.model.network, patch_size=(2, 2), padding=padding)
    data = replace(config.data, crop=CROP, boundary=BoundaryConfig(width=1))
    model = replace(config.model, network=network)
    train_run(replace(config, data=data, model=model), folder / "run")
    assert forecast(folder, folder / "forecast.zarr") == 0
    return folder


def forecast(folder: Path, output: Path, *words: str) -> int:
    return main(
        [
            "forecast", f"--checkpoint={folder}/run/checkpoints/best.safetensors",
            f"--source={folder}/data.nc", "--init-times=2001-03-22,2001-03-25", "--steps=4",
            f"--output={output}", *words,
        ]
    )  # fmt: skip


def edges_of(dataset: xr.Dataset) -> np.ndarray:
    """Values of the outermost cells."""
    sides = ({"latitude": [0, -1]}, {"longitude": [0, -1]})
    return np.concatenate([dataset[n].isel(side).values.ravel() for n in NAMES for side in sides])


def truth_of(forecasts: xr.Dataset) -> xr.Dataset:
    """The data at the valid times of forecasts, in their area."""
    place = {"latitude": forecasts["latitude"], "longitude": forecasts["longitude"]}
    return DATA.sel(place).sel(time=forecasts["valid_time"])


def test_the_data_to_start_from_drives_by_default(folder: Path) -> None:
    written = open_forecast(folder / "forecast.zarr")
    assert written.attrs["boundary_width"] == "1"
    assert written["2m_temperature"].shape == (2, 4, 6, 8)
    truth = truth_of(written)
    np.testing.assert_array_equal(edges_of(written), edges_of(truth))
    error = abs(written["2m_temperature"] - truth["2m_temperature"])[..., 1:-1, 1:-1]
    assert float(error.min()) > 0


def test_other_data_and_forecasts_drive(folder: Path, tmp_path: Path) -> None:
    warmer = DATA.map(lambda x: x + 1 if "time" in x.dims else x, keep_attrs=True)
    warmer.to_netcdf(tmp_path / "other.nc")
    assert forecast(folder, tmp_path / "a.zarr", f"--boundary={tmp_path}/other.nc") == 0
    first = open_forecast(tmp_path / "a.zarr")
    assert first.attrs["boundary"] == f"{tmp_path}/other.nc"
    np.testing.assert_array_equal(edges_of(first), edges_of(truth_of(first).map(lambda x: x + 1)))
    words = (f"--boundary={tmp_path}/a.zarr", "--forecast.batch_size=1")
    assert forecast(folder, tmp_path / "b.zarr", *words) == 0
    second = open_forecast(tmp_path / "b.zarr")
    for name in NAMES:  # the same states drove, whatever runs together
        np.testing.assert_allclose(first[name], second[name], rtol=1e-6)


def test_members_of_an_ensemble_have_the_same_edges(folder: Path, tmp_path: Path) -> None:
    words = ["--members=2", "--forecast.ensemble.perturbation=bred"]
    words += ["--forecast.ensemble.breeding_cycles=1", "--forecast.ensemble.breeding_steps=1"]
    assert forecast(folder, tmp_path / "a.zarr", *words) == 0
    written = open_forecast(tmp_path / "a.zarr")
    control, other = (written.isel(realization=member) for member in range(2))
    np.testing.assert_array_equal(edges_of(other), edges_of(control))
    assert not np.array_equal(other["2m_temperature"], control["2m_temperature"])


def test_another_boundary_is_another_forecast(folder: Path, tmp_path: Path) -> None:
    before, words = contents(folder / "forecast.zarr"), ["--existing=resume"]
    assert forecast(folder, folder / "forecast.zarr", *words) == 0
    make_dataset(grid=LatLonGrid.equiangular(8, 12), seed=1).to_netcdf(tmp_path / "other.nc")
    words.append(f"--boundary={tmp_path}/other.nc")
    assert forecast(folder, folder / "forecast.zarr", *words) == 2
    assert contents(folder / "forecast.zarr") == before


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--steps=40"], "2001-05-01"),
        (["--boundary={folder}/forecast.zarr", "--steps=5"], "data.boundary.interval"),
    ],
)
def test_what_does_not_drive_every_step_stops_before_the_first(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    named: str,
) -> None:
    assert forecast(folder, tmp_path / "a.zarr", *(o.format(folder=folder) for o in options)) == 2
    assert named in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_other_models_take_no_boundary(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_experiment(folder / "data.nc")
    network = replace(config.model.network, patch_size=(2, 2))
    config = replace(config, model=replace(config.model, network=network))
    checkpoint, _ = make_untrained_run(config, tmp_path / "run")
    words = ["forecast", f"--checkpoint={checkpoint}", "--steps=1", f"--output={tmp_path}/a.zarr"]
    assert main([*words, f"--boundary={folder}/data.nc"]) == 2
    assert "takes no --boundary" in " ".join(capsys.readouterr().err.split())


def test_scores_leave_the_zone_out_and_say_so(folder: Path, tmp_path: Path) -> None:
    truth = truth_of(open_forecast(folder / "forecast.zarr"))
    place = {axis: truth[axis] for axis in ("latitude", "longitude")}
    DATA.sel(place).to_netcdf(tmp_path / "truth.nc")
    errors = []
    for margin, note in ((0, "which count"), (1, "1 cells along each open edge are left out")):
        words = ["score", f"--forecast={folder}/forecast.zarr", f"--truth={tmp_path}/truth.nc"]
        words += [f"--climatology={tmp_path}/truth.nc", f"--output={tmp_path}/{margin}.nc"]
        words += ["--evaluation.baselines=[]", "--evaluation.num_resamples=0"]
        assert main([*words, f"--evaluation.margin={margin}"]) == 0
        scores = xr.load_dataset(tmp_path / f"{margin}.nc")
        assert note in scores.attrs["notes"]
        errors.append(scores["rmse"].values)
    assert (errors[0] < errors[1]).all()  # they are 0 at the edges
