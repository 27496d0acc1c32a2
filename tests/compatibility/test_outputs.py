"""What earlier versions wrote is recognized, so that it is replaced where a verb replaces it."""

from collections.abc import Callable
from pathlib import Path

from data_pipeline.files.outputs import check_outputs
from data_pipeline.yaml_text import read_yaml
from fourcastnet_afno.evaluation.aggregation import state_output
from fourcastnet_afno.evaluation.scores.tables import scores_outputs
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.inference.open import forecast_output
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.outputs import prepared_outputs, training_outputs


def test_outputs_of_earlier_versions_may_be_replaced(unpack: Callable[..., Path]) -> None:
    folder = unpack("planet_forecast", "ensemble_whole", "vorticity", "scores", "evaluation")
    forecasts = ("planet/forecast.zarr", "ensemble.zarr", "vorticity.zarr")
    outputs = [
        *(forecast_output(folder / name) for name in forecasts),
        *scores_outputs(folder / "scores.json", folder / "scores.nc"),
        state_output(folder / "evaluation.npz"),
    ]
    assert all(o.path.exists() for o in outputs if o.path.suffix != ".csv")
    check_outputs(outputs, {})


def test_a_run_of_an_earlier_version_goes_on(unpack: Callable[..., Path]) -> None:
    run = unpack("planet_run", "planet_store") / "planet"
    config = parse_config(
        ExperimentConfig, read_yaml((run / "config.yaml").read_text(), "config.yaml")
    )
    outputs = [*prepared_outputs(config, run), *training_outputs(run)]
    assert sum(output.path.exists() for output in outputs) == 6
    check_outputs(outputs, {})
