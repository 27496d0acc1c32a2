"""Conventions: definitions of RMSE, ACC, climatology and weights.

The same forecast has other scores under other conventions; the differences below reach several
per cent. For a forecast f, truth o, climatology c, weighted mean <.> over a field and mean E over
initial times:

weatherbench2 (the default)
    RMSE = sqrt(E <(f - o)^2>)
    ACC  = E [ <(f - c)(o - c)> / sqrt(<(f - c)^2> <(o - c)^2>) ]
    c by day of the year and hour of day; where it is fitted here, by a mean over a window of 61
    days, see ``data_pipeline.preprocessing.window_climatology``; weights are exact cell areas.
weatherbench1
    RMSE = sqrt(E <(f - o)^2>): its paper has the mean of the roots, its code and the scores in the
    paper the root of the mean
    ACC  = E<w f' o'> / sqrt(E<f'^2> E<o'^2>), f' = f - c - [f - c], pooled over initial times,
    where [.] is the unweighted mean over cells and initial times; c is the mean of the truth at the
    valid times that are scored; weights are the cosines of the latitudes of the rows.
fourcastnet
    RMSE = E sqrt(<(f - o)^2>)
    ACC  as weatherbench2, with c constant in time (mean of the training years); weights are the
    cosines of the latitudes of the rows.

References:
    WeatherBench 2, Rasp et al., 2024, https://arxiv.org/abs/2308.15560, section 4.
    WeatherBench, Rasp et al., 2020, https://arxiv.org/abs/2002.00469, section 4, and its
    ``score.py`` (``compute_weighted_rmse`` and ``compute_weighted_acc``) for the root after the
    mean over time and the centering of the ACC.
    FourCastNet, Pathak et al., 2022, https://arxiv.org/abs/2202.11214, appendix B.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.config import (
    USUAL_HARMONICS,
    ClimatologyFit,
    EvaluationConfig,
)
from fourcastnet_afno.evaluation.metrics import METRICS, Metric
from fourcastnet_afno.evaluation.metrics.deterministic import MEAN_ROOT_ERROR, POOLED_ACC


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How scores are defined; ``_SENTENCES`` say what the values mean."""

    name: str
    root: Literal["after", "before"]  # the mean over initial times
    acc: Literal["by_field", "pooled"]
    climatology: Literal["day_of_year", "training_mean", "scored_mean"]
    weights: Literal["area", "cosine"]
    climatology_fit: ClimatologyFit  # where a climatology is fitted to years

    def fit_of(self, config: EvaluationConfig) -> ClimatologyFit:
        """How a climatology is fitted to years, see ``EvaluationConfig.climatology``."""
        is_usual = config.climatology_harmonics == USUAL_HARMONICS
        return config.climatology or (self.climatology_fit if is_usual else "harmonics")

    def grid_weights(self, grid: Grid) -> np.ndarray:
        """Weights with mean 1, float64 of shape (latitude, longitude); on a plane always areas."""
        if self.weights == "area" or not grid.on_sphere:
            return grid.area_weights()
        cosines = np.cos(np.deg2rad(grid.coords["latitude"])).clip(min=0)
        return np.repeat(cosines[:, None] / cosines.mean(), grid.shape[1], axis=1)

    def metrics(self, names: Sequence[str]) -> dict[str, Metric]:
        """Metrics by name, as this convention defines them, see ``EvaluationConfig.metrics``.

        Raises:
            InputError: If a name is unknown.
        """
        unknown = [name for name in names if name not in METRICS]
        if unknown:
            raise InputError(
                f"evaluation.metrics has the unknown names {unknown}; known are "
                f"{', '.join(METRICS)}",
                code="unknown-metric",
            )
        chosen = METRICS.copy()
        if self.root == "before":
            chosen["rmse"] = MEAN_ROOT_ERROR
        if self.acc == "pooled":
            chosen["acc"] = POOLED_ACC
        return {
            name: metric
            for name, metric in chosen.items()
            if not names or name in names or metric.shown == "everywhere" or not metric.is_optional
        }

    def describe(self, grid: Grid, trajectories: TrajectoryTimes | None) -> dict[str, str]:
        """Plain sentences, for reports."""
        weights = self.weights if grid.on_sphere else "plane"
        climatology = self.climatology
        if climatology == "day_of_year" and trajectories is not None:
            climatology = "step"
        return {
            "convention": self.name,
            "rmse": _SENTENCES[self.root],
            "acc": f"{_SENTENCES[self.acc]}; {_SENTENCES[climatology]}",
            "bias": "weighted mean of forecast minus truth, averaged over initial times",
            "area_weights": _SENTENCES[weights],
        }


CONVENTIONS = {
    "weatherbench2": Convention(
        name="weatherbench2", root="after", acc="by_field", climatology="day_of_year",
        weights="area", climatology_fit="window",
    ),
    "weatherbench1": Convention(
        name="weatherbench1", root="after", acc="pooled", climatology="scored_mean",
        weights="cosine", climatology_fit="harmonics",
    ),
    "fourcastnet": Convention(
        name="fourcastnet", root="before", acc="by_field", climatology="training_mean",
        weights="cosine", climatology_fit="harmonics",
    ),
}  # fmt: skip
_SENTENCES = {
    "plane": "cells of equal area",
    "step": "climatology by step of a trajectory",
    "after": "square root of the weighted mean square error, averaged over initial times before "
    "the root (WeatherBench 2, and the code of WeatherBench 1)",
    "before": "mean over initial times of the square root of each field's weighted mean square "
    "error (FourCastNet)",
    "by_field": "weighted correlation of anomalies from the climatology at the valid time, "
    "averaged over initial times; 0 for the climatology itself",
    "pooled": "weighted correlation of centered anomalies over all cells and initial times "
    "(WeatherBench 1)",
    "day_of_year": "climatology by day of the year and hour of day",
    "training_mean": "climatology is the mean of the training years, constant in time",
    "scored_mean": "climatology is the mean of the truth that is scored",
    "area": "exact cell areas (difference of the sine of the latitude bounds), mean 1",
    "cosine": "cosine of the latitude of the row, mean 1",
}
