"""Metrics: the statistics of each pair of forecast and truth, and the scores made of them."""

from fourcastnet_afno.evaluation.metrics.metric import (
    METRICS,
    Metric,
    Statistic,
    metric_of,
    register,
    with_units,
)

# They register their metrics, in the order of the results.
from fourcastnet_afno.evaluation.metrics import deterministic, ensembles, events  # isort: skip

__all__ = [
    "METRICS",
    "Metric",
    "Statistic",
    "deterministic",
    "ensembles",
    "events",
    "metric_of",
    "register",
    "with_units",
]
