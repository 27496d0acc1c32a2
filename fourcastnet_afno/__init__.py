"""Adaptive Fourier Neural Operator surrogates of weather and PDEs: train, roll out, score.

The names below are imported on first use, so that scoring does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "evaluation.config": ["EvaluationConfig"],
        "evaluation.evaluate": ["evaluate"],
        "forecaster.checkpoint": ["load_forecaster"],
        "forecaster.config": ["ModelConfig"],
        "forecaster.export": ["export_checkpoint"],
        "forecaster.forecaster": ["Forecaster"],
        "forecaster.fourcastnet_weights": ["load_fourcastnet_weights"],
        "inference.config": ["ForecastConfig"],
        "inference.open": ["open_forecast"],
        "inference.rollout": ["forcings_from", "rollout"],
        "inference.write": ["write_forecast"],
        "models.afno": ["AFNONet"],
        "models.config": ["AFNONetConfig"],
        "models.mixers": ["AFNO2D"],
        "training.config": ["Stage", "TrainingConfig"],
        "workflows.config": ["ExperimentConfig"],
    },
)
