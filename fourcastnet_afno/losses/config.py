"""Configuration of the loss; it imports no torch, so that the command line shows it at once."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Interval, Le

from data_pipeline.bounds import check_bounds

LossKind = Literal["mse", "l1", "huber", "relative_l2", "amse", "crps"]
Weight = Annotated[float, Ge(0), Le(1e12)]
SpectralBasis = Literal["spherical_harmonics", "zonal"]


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Kind of the loss, its scale and its weights.

    Args:
        kind: See the head of ``losses.loss``; ``crps`` needs an ensemble, else it is ``l1``.
        scale: Errors are in units of the standard deviation of the ``change`` over a timestep, or
            of the ``state``.
        area_weights: Whether points are weighted by the area of their cell; without, all points
            count alike, near the poles too, as in FourCastNet's published code.
        level_weights: ``pressure`` weights channels in proportion to their pressure, with mean 1
            over the channels that have levels; the others have the weight 1.
        channel_weights: Further weights by label, such as ``{10m_u_component_of_wind: 0.1}``.
        huber_delta: Error, in units of the scale, from which the Huber loss is linear.
        relative_to: Whether the relative L2 loss has one norm for a ``sample`` or one for each
            ``channel``.
        spectral_basis: Wavenumbers of the adjusted mean square error.
        crps_alpha: Share of the fair score in the almost fair scores of an ensemble, in 0..1.
        spectral_weight: Weight of the CRPS of spectral coefficients, which is added to ``crps`` of
            the points.
        energy_weight: Weight of the energy score of each channel, likewise.
    """

    kind: LossKind = "mse"
    scale: Literal["change", "state"] = "change"
    area_weights: bool = True
    level_weights: Literal["equal", "pressure"] = "equal"
    channel_weights: dict[str, Weight] = field(default_factory=dict)
    huber_delta: Annotated[float, Gt(0), Le(1e12)] = 1.0
    relative_to: Literal["sample", "channel"] = "sample"
    spectral_basis: SpectralBasis = "spherical_harmonics"
    crps_alpha: Annotated[float, Interval(ge=0, le=1)] = 0.95
    spectral_weight: Weight = 0.0
    energy_weight: Weight = 0.0

    def __post_init__(self) -> None:
        check_bounds(self, "training.loss")
        if self.kind == "amse" and not self.area_weights:
            raise ValueError(
                "loss.kind=amse compares spectra, which need loss.area_weights=true, got false"
            )
        for name in ("spectral_weight", "energy_weight"):
            if getattr(self, name) > 0 and self.kind != "crps":
                raise ValueError(
                    f"loss.{name} is added to loss.kind=crps, got {getattr(self, name)} and kind "
                    f"{self.kind}; set it to 0 there"
                )


@dataclass(frozen=True, kw_only=True)
class LossChanges:
    """Settings of the loss that a stage changes; those that are null stay as they are.

    Args:
        kind: Kind of the loss in this stage.
        spectral_weight: Weight of the CRPS of spectral coefficients.
        energy_weight: Weight of the energy score.
    """

    kind: LossKind | None = None
    spectral_weight: Weight | None = None
    energy_weight: Weight | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "training.stages.loss")

    def of(self, config: LossConfig) -> LossConfig:
        """The configuration with the changes."""
        changes = {name: value for name, value in asdict(self).items() if value is not None}
        return replace(config, **changes)
