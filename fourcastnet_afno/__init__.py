"""Adaptive Fourier Neural Operator surrogates of weather and PDEs: train, roll out, score.

The names below are imported on first use, so that scoring does not import torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "AFNO2D": "fourcastnet_afno.models.mixers",
    "AFNONet": "fourcastnet_afno.models.afno",
    "AFNONetConfig": "fourcastnet_afno.models.afno",
    "EvaluationConfig": "fourcastnet_afno.evaluation.config",
    "ExperimentConfig": "fourcastnet_afno.experiment",
    "ForecastConfig": "fourcastnet_afno.autoregression",
    "Forecaster": "fourcastnet_afno.forecaster",
    "ModelConfig": "fourcastnet_afno.forecaster",
    "Stage": "fourcastnet_afno.training_config",
    "TrainingConfig": "fourcastnet_afno.training_config",
    "evaluate": "fourcastnet_afno.evaluation.evaluate",
    "export_checkpoint": "fourcastnet_afno.export",
    "forcings_from": "fourcastnet_afno.autoregression",
    "load_forecaster": "fourcastnet_afno.checkpoint",
    "load_fourcastnet_weights": "fourcastnet_afno.published",
    "open_forecast": "fourcastnet_afno.autoregression",
    "rollout": "fourcastnet_afno.autoregression",
    "write_forecast": "fourcastnet_afno.autoregression",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
