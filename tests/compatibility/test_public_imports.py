"""Imports, commands and places that README and docs of the commit before show to users."""

import importlib
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Module and name, where a document shows the import itself. A name with a dot is of an object.
SHOWN = [
    # README.md, "Ten lines of Python", and what the text says of these objects
    ("data_pipeline", "PreparedStore"),
    ("data_pipeline", "PreparedStore.prognostic"),
    ("data_pipeline", "PreparedStore.diagnostic"),
    ("data_pipeline", "PreparedStore.dataset"),
    ("data_pipeline", "PreparedStore.climatology"),
    ("fourcastnet_afno", "evaluate"),
    ("fourcastnet_afno", "forcings_from"),
    ("fourcastnet_afno", "load_forecaster"),
    ("fourcastnet_afno", "rollout"),
    ("fourcastnet_afno", "Forecaster.on_grid"),
    # README.md, "The operator"
    ("fourcastnet_afno", "AFNO2D"),
    ("fourcastnet_afno", "load_fourcastnet_weights"),
    # docs/tutorial_pde.md
    ("data_pipeline.pde", "random_field"),
    ("data_pipeline", "DataConfig"),
    ("data_pipeline", "DataConfig.of_pde"),
    ("data_pipeline", "PDEConfig"),
    ("data_pipeline", "Splits"),
    ("fourcastnet_afno", "AFNONetConfig"),
    ("fourcastnet_afno", "ExperimentConfig"),
    ("fourcastnet_afno", "ForecastConfig"),
    ("fourcastnet_afno", "ModelConfig"),
    ("fourcastnet_afno", "Stage"),
    ("fourcastnet_afno", "TrainingConfig"),
    ("fourcastnet_afno", "experiment"),
    ("fourcastnet_afno.experiment", "quickstart"),
    ("fourcastnet_afno.experiment", "prepare"),
    ("fourcastnet_afno.experiment", "train"),
    ("fourcastnet_afno.experiment", "forecast"),
    ("fourcastnet_afno.experiment", "evaluate"),
    # docs/equations.md
    ("data_pipeline.pde", "gaussian_bumps"),
    # docs/forecasts.md, "Python" and "The store"
    ("fourcastnet_afno.evaluation.climatologies", "open_climatology"),
    ("fourcastnet_afno.autoregression", "Persistence"),
    ("fourcastnet_afno.autoregression", "ForecastConfig"),
    ("fourcastnet_afno.autoregression", "rollout"),
    ("fourcastnet_afno.autoregression", "write_forecast"),
    ("fourcastnet_afno.autoregression", "Stepper"),
    ("fourcastnet_afno.autoregression", "Climatology"),
    ("fourcastnet_afno.autoregression", "ShallowWaterSolver"),
    ("fourcastnet_afno.autoregression", "DiagnosticModel"),
    ("fourcastnet_afno.autoregression", "open_forecast"),
    ("fourcastnet_afno.autoregression", "open_diagnostics"),
    # pyproject.toml, the command
    ("fourcastnet_afno.cli", "main"),
]

# All that the two packages give by their own names.
OF_FOURCASTNET_AFNO = [
    "AFNO2D", "AFNONet", "AFNONetConfig", "EvaluationConfig", "ExperimentConfig", "ForecastConfig",
    "Forecaster", "ModelConfig", "Stage", "TrainingConfig", "evaluate", "export_checkpoint",
    "forcings_from", "load_forecaster", "load_fourcastnet_weights", "open_forecast", "rollout",
    "write_forecast",
]  # fmt: skip
OF_DATA_PIPELINE = [
    "BenchmarkConfig", "Channel", "Channels", "DataConfig", "InputError", "LatLonGrid", "Loader",
    "PDEConfig", "Period", "PlaneGrid", "PreparedStore", "Sample", "SimulationConfig",
    "SourceConfig", "Splits", "WindowDataset", "grid_of", "open_source", "prepare", "simulate",
]  # fmt: skip


def imported(module: str, name: str) -> object:
    """What ``from module import name`` gives, which takes submodules too."""
    package = importlib.import_module(module)
    if hasattr(package, name):
        return getattr(package, name)
    return importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize(("module", "name"), SHOWN)
def test_what_the_documents_import_is_there(module: str, name: str) -> None:
    first, *rest = name.split(".")
    found = imported(module, first)
    for part in rest:
        found = getattr(found, part)
    assert found is not None


@pytest.mark.parametrize(
    ("package", "names"),
    [("fourcastnet_afno", OF_FOURCASTNET_AFNO), ("data_pipeline", OF_DATA_PIPELINE)],
)
def test_the_packages_give_all_names_of_before(package: str, names: list[str]) -> None:
    """Before, ``data_pipeline.prepare`` was the module, which hid the function of that name."""
    module = importlib.import_module(package)
    assert set(names) <= set(dir(module))
    assert set(names) <= set(module.__all__)
    found = {name: getattr(module, name) for name in names}
    not_callable = {name for name, value in found.items() if not callable(value)}
    assert not_callable <= {"prepare"}


def test_the_command_and_the_module_are_the_same_program() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"]["fourcastnet-afno"] == "fourcastnet_afno.cli:main"
    assert find_spec("fourcastnet_afno.__main__") is not None
