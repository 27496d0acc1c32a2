"""The configuration of an experiment."""

from dataclasses import asdict, dataclass, field

import yaml

from data_pipeline.preparation.config import DataConfig
from data_pipeline.redaction import redacted
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.forecaster.config import DiagnosticConfig, ModelConfig
from fourcastnet_afno.inference.config import ForecastConfig
from fourcastnet_afno.training.config import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Everything that an experiment depends on.

    Args:
        data: Where the data comes from, its channels, timestep and splits.
        model: What the forecaster sees and predicts, and its network.
        training: How it is trained; for ``train-diagnostic``, how the head is.
        diagnostic: A head that predicts the diagnostic channels from the forecaster's state.
        forecast: Which forecasts of the test period are made.
        evaluation: How they are scored.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    diagnostic: DiagnosticConfig = field(default_factory=DiagnosticConfig)
    forecast: ForecastConfig = field(default_factory=ForecastConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def to_yaml(self, *, with_secrets: bool = False) -> str:
        """The configuration as text that every verb accepts as ``--config``.

        Secrets of sources are ``***`` in it, see ``data_pipeline.redaction``, unless it is for the
        user alone.
        """
        settings = asdict(self)
        return yaml.safe_dump(settings if with_secrets else redacted(settings), sort_keys=False)
