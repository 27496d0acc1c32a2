"""Settings of an evaluation: scores, conventions, regions and baselines."""

from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt

from data_pipeline.bounds import CountOrZero, Number, Seed, check_bounds
from data_pipeline.grids.relaxation import BoundaryWidth
from fourcastnet_afno.evaluation.regions import REGIONS, box_of

ClimatologyFit = Literal["window", "harmonics"]
ConventionName = Literal["weatherbench2", "weatherbench1", "fourcastnet"]
USUAL_HARMONICS = 2
BaselineName = Literal[
    "persistence", "climatology", "weekly_climatology", "linear", "perfect_model"
]

PERFECT_MODEL: BaselineName = "perfect_model"


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Scores that are computed, where and how.

    Args:
        convention: Definitions of RMSE, ACC, climatology and weights, see ``scores.conventions``.
        channels: Variables, or labels of channels such as ``geopotential_500`` or ``z500``; empty
            for all that the forecasts hold.
        metrics: Names of the metrics that every forecast has, see ``evaluation.metrics``; empty for
            all. RMSE and ACC are always computed.
        spectra: Whether energy spectra are computed, see ``statistics.spectra``.
        maps: Whether maps of the errors are kept, of at most four channels.
        regions: Some of ``evaluation.regions.REGIONS``, each also with ``_land`` or ``_sea`` where
            the truth holds ``land_sea_mask``.
        margin: Cells along each open edge of a limited area that no region counts, such as those of
            ``data.boundary.width``, whose values are given.
        by_season: Whether scores are also given for December to February, March to May and so on.
        by_init_hour: Whether scores are also given for each hour of day of the initial times.
        quantiles: Levels of the climatological quantiles whose exceedance is scored (Brier score,
            fraction skill, reliability); none by default.
        neighborhoods: Widths in grid cells of the squares of the fraction skill score.
        extremes: Whether the relative error of the highest quantiles of each field is computed.
        reference: The forecast that the others are compared with; the first baseline by default.
        confidence: Probability that an interval holds the score.
        num_resamples: Resamples of the bootstrap; 0 leaves intervals out.
        seed: Seed of the bootstrap, and of the noise of the baseline ``perfect_model``.
        baselines: Baselines that are scored next to the forecasts; ``perfect_model``, for a run
            with ``data.simulation`` or ``data.pde``, is the simulator itself.
        linear_components: Principal components of the baseline ``linear``.
        perfect_model_members: Members of the baseline ``perfect_model`` where the simulator is
            random; their mean is scored.
        climatology: How a climatology is fitted to years: ``window``, WeatherBench 2's mean over 61
            days, or ``harmonics`` of the day of the year; by default harmonics where another
            number of them than 2 is set, and else as the convention does.
        climatology_harmonics: How many harmonics are fitted; 0 fits a constant.
        regrid: The side that is averaged, conservatively, onto the other's grid where forecast and
            truth differ: ``forecast`` or ``truth``; with ``refuse`` this is an error.
        num_threads: Threads that read and sum.
        point: Latitude and longitude (y and x on a plane) whose values the report of an ensemble
            shows by lead time; by default where its members end farthest apart.
    """

    convention: ConventionName = "weatherbench2"
    channels: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    spectra: bool = True
    maps: bool = True
    regions: list[str] = field(default_factory=lambda: ["global"])
    margin: BoundaryWidth = 0
    by_season: bool = False
    by_init_hour: bool = False
    quantiles: list[Annotated[float, Gt(0), Lt(1)]] = field(default_factory=list)
    neighborhoods: list[Annotated[int, Ge(1), Le(100_001)]] = field(default_factory=lambda: [3, 9])
    extremes: bool = False
    reference: str | None = None
    confidence: Annotated[float, Gt(0), Lt(1)] = 0.95
    num_resamples: CountOrZero = 500
    seed: Seed = 0
    baselines: list[BaselineName] = field(
        default_factory=lambda: ["persistence", "climatology", "linear"]
    )
    linear_components: Annotated[int, Ge(1), Le(100_000)] = 100
    perfect_model_members: Annotated[int, Ge(1), Le(10_000)] = 10
    climatology: ClimatologyFit | None = None
    climatology_harmonics: Annotated[int, Ge(0), Le(1000)] = USUAL_HARMONICS
    regrid: Literal["refuse", "forecast", "truth"] = "refuse"
    num_threads: Annotated[int, Ge(1), Le(4096)] = 2
    point: list[Number] = field(default_factory=list)

    def __post_init__(self) -> None:
        unknown = [name for name in self.regions if box_of(name) not in REGIONS]
        if unknown or not self.regions:
            raise ValueError(
                f"evaluation.regions has the unknown names {unknown}; known are "
                f"{', '.join(REGIONS)}, each also with _land or _sea"
            )
        if any(width % 2 == 0 for width in self.neighborhoods):
            raise ValueError(
                f"evaluation.neighborhoods must be odd numbers of cells, got {self.neighborhoods}"
            )
        if len(self.point) not in (0, 2):
            raise ValueError(
                f"evaluation.point must be two numbers, such as [52.5, 13.4], got {self.point}"
            )
        check_bounds(self, "evaluation")

    def settings(self) -> dict[str, Any]:
        """All settings as plain values, but for unused ones that earlier versions did not know."""
        settings = asdict(self)
        if not self.point:
            del settings["point"]
        if not self.margin:
            del settings["margin"]
        return settings
