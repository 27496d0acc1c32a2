"""Settings of training that starts from a checkpoint; they import no torch."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from data_pipeline.bounds import check_bounds

StatisticsOrigin = Literal["own", "kept", "folded"]


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Changes of low rank that are trained in place of weights (LoRA), see ``adapters``.

    Args:
        rank: Largest rank of the change of a matrix; 0 trains the weights themselves.
        alpha: The change is the product of two factors times ``alpha`` over ``rank``.
        layers: Patterns of names of weights that are changed so, where that takes fewer numbers
            than the weights have; smaller ones are trained as they are.
        trained: Patterns of names of further weights that are trained as they are, such as
            ``network.patch_embed.*``. All others keep their values.
    """

    rank: Annotated[int, Ge(0), Le(4096)] = 0
    alpha: Annotated[float, Gt(0), Le(1e6)] = 8.0
    layers: list[str] = field(default_factory=lambda: ["network.blocks.*"])
    trained: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_bounds(self, "training.adapters")
