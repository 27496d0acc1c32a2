"""Configurations of forecasters and heads; they import no torch, so that help comes at once."""

from dataclasses import dataclass, field
from typing import Literal

from fourcastnet_afno.models.config import AFNONetConfig

ExportFormat = Literal["onnx", "torch_export", "aot_inductor"]
Resolution = Literal["interpolate", "native"]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A forecaster: what goes in, what the network predicts, and the network.

    Args:
        num_history: Number of past states the network sees, the present one included.
        prediction: ``residual`` predicts the change over a timestep, ``direct`` the next state.
        coordinates: Whether the network sees where a grid point lies: its unit vector, or on a
            plane ``PlaneGrid.coordinate_channels``.
        network: Size and shape of the network.
    """

    num_history: int = 1
    prediction: Literal["residual", "direct"] = "residual"
    coordinates: bool = True
    network: AFNONetConfig = field(default_factory=AFNONetConfig)

    def __post_init__(self) -> None:
        if self.num_history < 1:
            raise ValueError(f"model.num_history must be at least 1, got {self.num_history}")


@dataclass(frozen=True, kw_only=True)
class DiagnosticConfig:
    """A diagnostic head.

    Args:
        logarithmic: Patterns of labels of accumulations that are predicted as logarithms.
        epsilon: Amount, in the channel's units, below which the logarithm is linear.
        nonnegative: Patterns of labels of further channels that are never negative.
        network: Size and shape of the network.
    """

    logarithmic: list[str] = field(default_factory=lambda: ["total_precipitation*"])
    epsilon: float = 1e-5
    nonnegative: list[str] = field(default_factory=lambda: ["log_total_precipitation*"])
    network: AFNONetConfig = field(default_factory=AFNONetConfig)

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise ValueError(f"diagnostic.epsilon must be above 0, got {self.epsilon}")
