"""Scores as curves by lead time, as values of JSON."""

from typing import Any

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.metrics import metric_of
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.evaluation.scores.tables import curve_metrics, curve_names
from fourcastnet_afno.report.explorer.axes import leads_record
from fourcastnet_afno.report.plots import assign_colors

_MOST_NUMBERS = 200_000  # about 0.6 MB of the page


def curves_record(scores: xr.Dataset) -> dict[str, Any] | None:
    """Every metric (region, channel, forecast, lead_time) with its interval; those of curves first.

    Of very many channels the first ones; ``None`` without metrics.
    """
    first = curve_metrics(scores)
    names = [*first, *(name for name in curve_names(scores) if name not in first)]
    names = [name for name in names if scores[name].notnull().any()]
    if not names:
        return None
    regions = scores["region"].values.tolist() if "region" in scores.dims else ["all cells"]
    each = sum(scores[name].isel(channel=0).size * 3 for name in names)
    shown = scores.isel(channel=slice(max(1, _MOST_NUMBERS // each)))
    forecasts = shown["forecast"].values.tolist()
    colors = assign_colors(forecasts)
    return {
        "metrics": [_metric(shown, name, len(regions)) for name in names],
        "regions": regions,
        "channels": [
            {"name": str(name), "units": str(units)}
            for name, units in zip(shown["channel"].values, shown["units"].values, strict=True)
        ],
        "forecasts": [{"name": name, "color": colors[name]} for name in forecasts],
        **leads_record(LeadTimes.of(shown)),
        "numFurther": scores.sizes["channel"] - shown.sizes["channel"],
    }


def _metric(scores: xr.Dataset, name: str, num_regions: int) -> dict[str, Any]:
    described, interval = metric_of(name), f"{name}_interval"

    def numbers(array: xr.DataArray) -> list[Any]:
        """Nested lists with five digits; what is not finite is null."""
        if "region" not in array.dims:  # the same in all
            array = array.expand_dims(region=num_regions)
        return _rounded(array.transpose("region", "channel", "forecast", "lead_time").values)

    record = {
        "label": described.label.replace("_", " "),
        "units": described.units,
        "values": numbers(scores[name]),
    }
    if interval in scores and scores[interval].notnull().any():
        low, high = (numbers(scores[interval].isel(bound=index)) for index in (0, 1))
        record |= {"low": low, "high": high}
    return record


def _rounded(values: np.ndarray) -> list[Any]:
    if values.ndim > 1:
        return [_rounded(part) for part in values]
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in values.tolist()]
