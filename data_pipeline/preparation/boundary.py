"""Settings of limited areas: the part ``data.boundary`` of an experiment."""

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Le

from data_pipeline.bounds import check_bounds
from data_pipeline.sources.config import SourceConfig
from data_pipeline.timestep import Timestep


@dataclass(frozen=True, kw_only=True)
class BoundaryConfig:
    """A limited area, whose edges are driven by given fields, see ``grids.relaxation``.

    In training they are those of the data itself.

    Args:
        width: Cells along each open edge in which states are relaxed to the driving fields.
        source: Driving fields of forecasts: forecasts of a model on a larger area, or any source;
            by default the data that forecasts start from. ``forecast --boundary`` overrides it.
        interval: Time between driving fields, such as 12h, between which they are interpolated
            linearly; by default they are needed at every timestep.
    """

    width: Annotated[int, Ge(1), Le(10_000)] = 4
    source: SourceConfig | None = None
    interval: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "data.boundary")
        if self.interval is not None:
            Timestep.parse(self.interval, "data.boundary.interval")
