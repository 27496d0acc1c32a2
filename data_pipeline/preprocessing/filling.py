"""Missing values: an error, or filled by a rule that the configuration gives for a variable.

Rules for predicted variables are applied here, those for static ones in ``static_fields``. One is
a number, or ``climatology``: the mean of the calendar month over the training period at that grid
point. Points that are always missing, such as land in sea-surface temperature, get the area mean,
and a static channel holds how often each point is missing. The store records what was filled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from data_pipeline.channels import Channel, Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import grid_of
from data_pipeline.precision import at_least_single
from data_pipeline.preprocessing.config import FillRule
from data_pipeline.sources.names import canonical_label
from data_pipeline.sources.retry import load

_MONTHS = 12


@dataclass(frozen=True)
class Filling:
    """Fill values by index of the channel.

    Args:
        values: For each filled channel an array (month, latitude, longitude).
        mask_channels: A static channel for each channel filled by its climatology.
        masks: Fraction of training times that a point lacks (mask, latitude, longitude).
    """

    values: Mapping[int, np.ndarray]
    mask_channels: Channels
    masks: np.ndarray

    @classmethod
    def fit(
        cls,
        dataset: xr.Dataset,
        channels: Channels,
        rules: Mapping[str, FillRule],
        training: np.ndarray,
    ) -> "Filling":
        """Turn rules by variable into values; a climatology sees the ``training`` times (time,).

        Raises:
            InputError: If a variable has no value at all in the training period.
        """
        grid, values, masked, masks = grid_of(dataset), {}, [], []
        for index, channel in enumerate(channels):
            rule = rule_of(rules, channel)
            if rule == "climatology":
                series = Channels((channel,)).stack(dataset.isel(time=training)).isel(channel=0)
                values[index], missing = _monthly(series, grid)
                masked.append(Channel(name=missing_label(channel), units="1"))
                masks.append(missing)
            elif rule is not None:
                values[index] = np.full((_MONTHS, *grid.shape), float(rule), np.float32)
        return cls(values, Channels(tuple(masked)), np.array(masks).reshape(-1, *grid.shape))

    @property
    def indices(self) -> list[int]:
        """Indices of the channels that are filled."""
        return list(self.values)

    def apply(self, states: np.ndarray, times: np.ndarray) -> None:
        """Fill NaN in states (time, channel, latitude, longitude) in place."""
        month = times.astype("datetime64[M]").astype(int) % _MONTHS
        for index, values in self.values.items():
            channel = states[:, index]
            np.copyto(channel, values[month], where=np.isnan(channel))


def missing_label(channel: Channel) -> str:
    """Name of the static channel that holds how often a channel was missing."""
    return f"{channel.label}_missing"


def rule_of(rules: Mapping[str, FillRule], channel: Channel) -> FillRule | None:
    """The rule for a channel: of its label or its variable, by canonical or short name."""
    by_key: dict[tuple[str, int | None], FillRule]
    by_key = {canonical_label(key): rule for key, rule in rules.items()}
    by_key |= {(key, None): rule for key, rule in rules.items()}  # own names, on planes
    for key in ((channel.label, None), (channel.name, channel.level), (channel.name, None)):
        if key in by_key:
            return by_key[key]
    return None


def check_rules(rules: Mapping[str, FillRule], names: Sequence[str]) -> None:
    """Reject rules for variables that the configuration does not name."""
    known = {*names, *(canonical_label(name)[0] for name in names)}
    unknown = [key for key in rules if not {key, canonical_label(key)[0]} & known]
    if unknown:
        raise InputError(
            f"data.fill has rules for {unknown}, and data.prognostic, data.diagnostic and "
            f"data.static name {list(dict.fromkeys(names))}; correct data.fill",
            code="bad-setting",
        )


def _monthly(series: xr.DataArray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Means of the months (month, latitude, longitude), and the fraction that is missing."""
    series = at_least_single(series)
    known = series.notnull()
    parts = xr.Dataset({"sum": series.fillna(0), "count": known, "states": known.any(grid.dims)})
    monthly = parts.groupby("time.month").sum("time").reindex(month=np.arange(1, _MONTHS + 1))
    monthly = load(monthly.fillna(0), "the values that data.fill needs")  # all in one pass
    sums, counts = monthly["sum"].values, monthly["count"].values
    total = counts.sum(axis=0)
    if not total.any():
        raise InputError(
            f"{series['channel'].item()} has no value in the training period; leave it out",
            code="no-values",
        )
    with np.errstate(invalid="ignore"):
        means, annual = sums / counts, sums.sum(axis=0) / total
    weights = grid.area_weights() * (total > 0)
    area_mean = (weights * np.nan_to_num(annual)).sum() / weights.sum()
    filled = np.where(counts > 0, means, np.where(total > 0, annual, area_mean))
    # States without any value are gaps.
    return filled.astype(np.float32), 1 - total / monthly["states"].values.sum()
