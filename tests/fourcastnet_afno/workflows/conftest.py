from pathlib import Path

import pytest

from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.experiments import make_dataset, make_experiment
from tests.builders.pictures import blank_pictures

__all__ = ["blank_pictures", "experiment"]


@pytest.fixture
def experiment(tmp_path: Path) -> ExperimentConfig:
    """A tiny experiment whose data is there."""
    make_dataset().to_netcdf(tmp_path / "data.nc")
    return make_experiment(tmp_path / "data.nc")
