"""Former place of ``workflows``: what version 0.1 exported here, for files that import it."""

from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.evaluate_run import evaluate_run as evaluate
from fourcastnet_afno.workflows.forecast import forecast_run as forecast
from fourcastnet_afno.workflows.prepare import prepare_run as prepare
from fourcastnet_afno.workflows.run import compare_runs, quickstart
from fourcastnet_afno.workflows.train import train_run as train
