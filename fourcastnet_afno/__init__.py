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
    "ExperimentConfig": "fourcastnet_afno.workflows.config",
    "ForecastConfig": "fourcastnet_afno.inference.config",
    "Forecaster": "fourcastnet_afno.forecaster.forecaster",
    "ModelConfig": "fourcastnet_afno.forecaster.forecaster",
    "Stage": "fourcastnet_afno.training.config",
    "TrainingConfig": "fourcastnet_afno.training.config",
    "evaluate": "fourcastnet_afno.evaluation.evaluate",
    "export_checkpoint": "fourcastnet_afno.forecaster.export",
    "forcings_from": "fourcastnet_afno.inference.rollout",
    "load_forecaster": "fourcastnet_afno.forecaster.checkpoint",
    "load_fourcastnet_weights": "fourcastnet_afno.forecaster.fourcastnet_weights",
    "open_forecast": "fourcastnet_afno.inference.open",
    "rollout": "fourcastnet_afno.inference.rollout",
    "write_forecast": "fourcastnet_afno.inference.write",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
