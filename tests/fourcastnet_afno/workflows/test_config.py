from pathlib import Path

import yaml

from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.experiments import make_experiment


def test_text_of_an_experiment_gives_it_back() -> None:
    experiment = make_experiment(Path("data.nc"), batch_size=4)
    assert parse_config(ExperimentConfig, yaml.safe_load(experiment.to_yaml())) == experiment


def test_the_text_holds_all_sections_with_their_defaults() -> None:
    settings = yaml.safe_load(make_experiment(Path("data.nc")).to_yaml())
    sections = ["data", "model", "training", "diagnostic", "forecast", "evaluation"]
    assert list(settings) == sections
    assert settings["evaluation"]["regions"] == ["global"]
