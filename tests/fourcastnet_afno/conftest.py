"""Files that the tests of scores and of the report share."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fourcastnet_afno.cli.main import main
from tests.builders.browser import Browser, open_browser
from tests.builders.folders import shared_folder
from tests.builders.forecasts import make_forecast, make_truth, to_weatherbench
from tests.builders.pictures import drawn_pictures


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless browser for all tests of pages."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def scored_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scores and the report of two forecasts in WeatherBench 2's layout, in the folder ``out``.

    The processes that run the tests share it, whichever makes it.
    """
    return shared_folder(tmp_path_factory, "scored", _score_two_forecasts)


def _score_two_forecasts(folder: Path) -> None:
    series = make_truth(400)
    land = (np.arange(8) < 4) * np.ones((6, 8))
    truth = series.isel(time=slice(300, 400))
    truth.assign(land_sea_mask=(("latitude", "longitude"), land, {"units": "1"})).to_netcdf(
        folder / "truth.nc"
    )
    series.isel(time=slice(300)).to_netcdf(folder / "training.nc")
    for name, noise in (("ours", 3.0), ("theirs", 6.0)):
        forecast = make_forecast(truth, members=3 if name == "ours" else 0, noise=noise)
        to_weatherbench(forecast).to_zarr(
            folder / f"{name}.zarr", zarr_format=3, consolidated=False
        )
    arguments = [
        "evaluate", f"--forecast={folder}/ours.zarr", f"--forecast=theirs={folder}/theirs.zarr",
        f"--truth={folder}/truth.nc", f"--climatology={folder}/training.nc",
        f"--training={folder}/training.nc", "--evaluation.climatology_harmonics=0",
        f"--output={folder}/out/scores.nc", f"--report={folder}/out/report.html",
        "--evaluation.regions=[global,global_land]", "--evaluation.quantiles=[0.9]",
        "--evaluation.channels=[z500,t2m]", "--evaluation.num_resamples=50",
        "--evaluation.reference=theirs",
    ]  # fmt: skip
    with drawn_pictures():
        assert main(arguments) == 0
