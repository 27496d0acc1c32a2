"""Configurations from the plain values that checkpoints and run folders keep."""

from dataclasses import asdict

import pytest
import yaml

from fourcastnet_afno.forecaster.config import DiagnosticConfig, ModelConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from fourcastnet_afno.training.config import OptimizerConfig, RolloutConfig
from fourcastnet_afno.training.schedules import ScheduleConfig


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(network=AFNONetConfig(padding=Padding(margin=(2, 3)), reference_grid=(8, 4))),
        DiagnosticConfig(epsilon=1e-3, nonnegative=["a*"]),
        LossConfig(kind="amse", channel_weights={"2m_temperature": 0.1}),
        RolloutConfig(gradient="checkpointed", discount=0.9),
        OptimizerConfig(name="lamb", betas=(0.8, 0.9), frozen=["network.blocks.0.*"]),
        ScheduleConfig(kind="wsd", decay_fraction=0.3),
    ],
)
def test_settings_survive_yaml(config: object) -> None:
    record = yaml.safe_load(yaml.safe_dump(asdict(config)))  # type: ignore[call-overload]
    assert parse_config(type(config), record) == config
