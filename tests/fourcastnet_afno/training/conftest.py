"""Runs that several files of tests read, trained once."""

from pathlib import Path

import pytest

from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.experiments import make_dataset
from tests.builders.runs import make_dropless_experiment, make_scored_experiment


class Rows(list):
    """Rows of a log, each a step and its values."""

    def append_row(self, step: int, values: object) -> None:
        """Append what a function of the log is called with."""
        self.append((step, values))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of data with its store prepared, see ``make_dropless_experiment``."""
    folder = tmp_path_factory.mktemp("data")
    make_dataset().to_netcdf(folder / "data.nc")
    config = make_dropless_experiment(folder / "data.nc")
    prepare_run(config, folder / "run")
    return folder / "data.nc"


@pytest.fixture(scope="session")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process without dropout."""
    output = tmp_path_factory.mktemp("runs") / "alone"
    train_run(make_dropless_experiment(data), output)
    return output


@pytest.fixture(scope="session")
def logged_rows() -> Rows:
    """Rows that a function was called with in ``scored_run``."""
    return Rows()


@pytest.fixture(scope="session")
def scored_run(tmp_path_factory: pytest.TempPathFactory, logged_rows: Rows) -> Path:
    """A run whose validations score rollouts, see ``make_scored_experiment``."""
    folder = tmp_path_factory.mktemp("scored")
    make_dataset().to_netcdf(folder / "data.nc")
    train_run(make_scored_experiment(folder), folder / "run", [logged_rows.append_row])
    return folder / "run"
