"""A metric: statistics of each pair of forecast and truth, and how their averages become a score.

A statistic is computed of a ``PairBlock``, or of other statistics. The engine averages its values
over initial times, and a metric combines the averages. To add one, write this in any module that is
imported before ``evaluate`` is called:

    register(
        Metric(
            name="l4",
            label="L4 error",
            statistics=(Statistic("fourth_power", lambda pair: pair.mean(pair.error**4)),),
            combine=lambda mean: mean**0.25,
            shown="everywhere",
        )
    )
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fourcastnet_afno.evaluation.statistics.pairs import TruthAt


@dataclass(frozen=True)
class Statistic:
    """Values of each pair of forecast and truth, (..., [further axes], region).

    Args:
        name: Name in files of states.
        compute: Values of a ``PairBlock``, or from the values of ``inputs``; ``None`` where the
            statistic does not apply.
        inputs: Statistics that this one follows from; none where it is computed of the fields.
        complete: Values of all pairs without missing cells, where truth alone gives them; others
            are computed.
    """

    name: str
    compute: Callable[..., np.ndarray | None]
    inputs: tuple["Statistic", ...] = ()
    complete: Callable[[TruthAt], np.ndarray] | None = None

    @property
    def leaves(self) -> tuple["Statistic", ...]:
        """The statistics of fields that this one follows from."""
        if not self.inputs:
            return (self,)
        return tuple(leaf for statistic in self.inputs for leaf in statistic.leaves)


def derived(*inputs: Statistic) -> Callable[[Callable[..., np.ndarray]], Statistic]:
    """Make a function of other statistics' values a statistic of its name."""
    return lambda compute: Statistic(compute.__name__, compute, inputs)


def computed_together(compute: Callable[..., Any], *names: str) -> tuple[Statistic, ...]:
    """Statistics that one function of a ``PairBlock`` gives by name, computed once for all.

    The function gives an empty dictionary where they do not apply.
    """
    return tuple(Statistic(name, lambda p, name=name: p.once(compute).get(name)) for name in names)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score.

    Args:
        name: Name in the results.
        label: Name in tables and figures.
        statistics: Statistics that are averaged over initial times.
        combine: Score from these averages, in the same order.
        best: Where the score is best: at low values, at high ones, at zero or at one.
        units: Whether it has the channel's units, their square, or none.
        dims: Axes of the statistics between the pair and the region.
        shown: Tables and curves of all scores or only those on planes, curves of the report only,
            or files only. A metric that is shown everywhere is always computed.
        is_optional: Whether ``evaluation.metrics`` may leave it out. Metrics of ensembles and
            events are there whenever their statistics apply.
    """

    name: str
    label: str
    statistics: tuple[Statistic, ...]
    combine: Callable[..., np.ndarray] = lambda mean: mean
    best: Literal["low", "high", "zero", "one"] = "low"
    units: Literal["same", "squared", "none"] = "same"
    dims: tuple[str, ...] = ()
    shown: Literal["everywhere", "planes", "curves", "files"] = "files"
    is_optional: bool = True

    def loss(self, values: np.ndarray) -> np.ndarray:
        """Distance from the best value, the same for every metric: lower is better."""
        match self.best:
            case "low":
                return values
            case "high":
                return -values
            case "zero":
                return np.abs(values)
            case "one":
                return np.abs(np.log(np.maximum(values, 1e-300)))

    def labelled(self, units: str) -> str:
        """Label with the units of the score, of a channel in ``units``."""
        match self.units:
            case "same":
                return with_units(self.label, units)
            case "squared":
                return with_units(self.label, units, "({})^2")
            case "none":
                return self.label


def with_units(label: str, units: str, form: str = "{}") -> str:
    """A label with units in brackets, as by ``form``; alone where they are 1 or unknown."""
    if units in ("", "1"):
        return label
    return f"{label} [{form.format(units)}]".strip()


METRICS: dict[str, Metric] = {}
"""All metrics by name, in the order of the results."""


def register(*metrics: Metric) -> None:
    """Add metrics to all further evaluations, their tables, figures and reports."""
    for metric in metrics:
        METRICS[metric.name] = metric


def metric_of(name: str) -> Metric:
    """The metric of a name, or a description of it where the scores are of an unknown one."""
    return METRICS.get(name) or Metric(name=name, label=name, statistics=(), units="none")


def safe_ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotients; NaN where the denominator is not positive."""
    missing = np.full_like(np.asarray(numerator, float), np.nan)
    return np.divide(numerator, denominator, out=missing, where=denominator > 0)
