"""Configurations of forecasters and heads; they import no torch, so that help comes at once."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from data_pipeline.bounds import check_bounds
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig

ExportFormat = Literal["onnx", "torch_export", "aot_inductor"]
Resolution = Literal["interpolate", "native"]
DampingPower = Literal[0, 1, 2]


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A forecaster: what goes in, what the network predicts, and the network.

    Args:
        num_history: Number of past states the network sees, the present one included.
        prediction: ``residual`` predicts the change over a timestep, ``direct`` the next state.
        coordinates: Whether the network sees the location of a grid point, see
            ``Grid.coordinate_channels``.
        band_limit: Share of the grid's wavenumbers that predictions have, see ``band_limit``; null
            for all.
        short_waves: What becomes of waves beyond ``band_limit``: a residual forecaster has them
            ``persist``, or ``decay`` by half each step.
        band_edge: How the predicted change of a residual forecaster ends at ``band_limit``:
            ``sharp``, or ``smooth``, with less of the shorter waves that stay.
        damping_days: Time in which a residual forecaster without a network would bring a state
            closer to the mean by a factor e, so that what it predicts stays bounded; null for
            persistence.
        damping_power: Power of the size of the anomaly, over that of training, with which the
            damping grows: with 1 or 2, forecasts of any length keep about that size.
        diffusion_hours: Time in which diffusion would damp the shortest waves of the band along an
            axis by a factor e, waves twice as long by a quarter of that, in addition to
            ``damping_days``, so that errors at the scales of patches do not add up; null for none.
        noise: Random fields that the network sees, so that forecasts are members of an ensemble.
        network: Size and shape of the network.
    """

    num_history: Annotated[int, Ge(1), Le(1000)] = 1
    prediction: Literal["residual", "direct"] = "residual"
    coordinates: bool = True
    band_limit: Annotated[float, Gt(0), Le(1)] | None = None
    short_waves: Literal["persist", "decay"] = "persist"
    band_edge: Literal["sharp", "smooth"] = "sharp"
    damping_days: Annotated[float, Gt(0), Le(1e6)] | None = None
    damping_power: DampingPower = 0
    diffusion_hours: Annotated[float, Gt(0), Le(1e6)] | None = None
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    network: AFNONetConfig = field(default_factory=AFNONetConfig)

    def __post_init__(self) -> None:
        check_bounds(self, "model")
        of_residual = {"short_waves": "persist", "band_edge": "sharp", "damping_days": None}
        for name, unused in of_residual.items():
            if self.prediction == "direct" and getattr(self, name) != unused:
                raise ValueError(
                    f"model.{name} is for prediction=residual, which has a state before"
                )
        if self.band_edge == "smooth" and self.band_limit is None:
            raise ValueError("model.band_edge=smooth needs a band_limit, such as 0.667")
        if self.damping_power and self.damping_days is None:
            raise ValueError("model.damping_power needs damping_days, such as 5")
        if self.diffusion_hours is not None and None in (self.band_limit, self.damping_days):
            raise ValueError(
                "model.diffusion_hours needs a band_limit and damping_days, such as 0.667 and 5"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values; unused settings that earlier versions did not know are left out."""
        unused = {
            "band_limit": None,
            "short_waves": "persist",
            "band_edge": "sharp",
            "damping_days": None,
            "damping_power": 0,
            "diffusion_hours": None,
        }
        settings = asdict(self) | {"network": self.network.to_json()}
        if not self.noise.length_scales:
            del settings["noise"]
        return {key: value for key, value in settings.items() if (key, value) not in unused.items()}


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
    epsilon: Annotated[float, Gt(0), Le(1e12)] = 1e-5
    nonnegative: list[str] = field(default_factory=lambda: ["log_total_precipitation*"])
    network: AFNONetConfig = field(default_factory=AFNONetConfig)

    def __post_init__(self) -> None:
        check_bounds(self, "diagnostic")

    def to_json(self) -> dict[str, Any]:
        """Plain values, see ``ModelConfig.to_json``."""
        return asdict(self) | {"network": self.network.to_json()}
