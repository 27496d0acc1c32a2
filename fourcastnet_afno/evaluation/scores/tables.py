"""Scores for machines and for terminals."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import xarray as xr
from rich.console import Group

from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Output, check_outputs, read_head, read_json
from data_pipeline.terminal import TextTable, plain
from data_pipeline.timestep import lead_key, lead_times_of
from fourcastnet_afno.evaluation.config import PERFECT_MODEL
from fourcastnet_afno.evaluation.metrics import metric_of
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes

_MOST_WIDE = 5  # columns with labels such as 12 months that fit into 80 characters
_PARTS = {"forecasts", "intervals", "verdicts", "conventions", "units"}  # of JSON
_ATTRIBUTES = {"settings", "reference", "num_init_times"}  # of NetCDF
_CSV_HEAD = re.compile(rb"forecast,(region,)?channel,lead_\w+,")
_CURVE = {"forecast", "lead_time", "channel"}


def curve_names(scores: xr.Dataset) -> list[str]:
    """Metrics with one value for each forecast, lead time and channel (and region)."""
    skipped = ("_verdict", "_interval", "num_init_times", "missing_values")
    return [
        str(name)
        for name, array in scores.data_vars.items()
        if set(array.dims) - {"region"} == _CURVE and not str(name).endswith(skipped)
    ]


def scores_to_json(scores: xr.Dataset) -> dict[str, Any]:
    """Scores as values of JSON.

    Returns:
        ``forecasts`` -> forecast -> metric -> channel -> lead hours -> value, of the first region;
        likewise ``intervals`` with [lower, upper], and ``regions`` -> region -> forecasts for
        further regions; ``conventions``, ``units``, ``verdicts`` (better, worse or not
        distinguishable from the reference) by forecast, metric, channel and lead hours.
    """
    several = "region" in scores.dims
    first = scores.isel(region=0) if several else scores
    labels = {-1: "better", 0: "not distinguishable", 1: "worse"}
    verdicts = _nested(first, "_verdict", labels)
    verdicts.pop(scores.attrs.get("reference", ""), None)
    record = {
        "forecasts": _nested(first),
        "intervals": _nested(first, "_interval"),
        "verdicts": verdicts,
        "conventions": {key: _json_value(value) for key, value in scores.attrs.items()},
        "units": dict(
            zip(scores["channel"].values.tolist(), scores["units"].values.tolist(), strict=True)
        ),
    }
    if several:
        names = scores["region"].values.tolist()
        record["regions"] = {name: _nested(scores.sel(region=name)) for name in names}
    return record


def _nested(
    scores: xr.Dataset, suffix: str = "", labels: Mapping[Any, Any] | None = None
) -> dict[str, Any]:
    """Values or their labels by forecast, metric, channel and lead hours, of a suffix."""
    hours = [str(lead_key(lead)) for lead in lead_times_of(scores["lead_time"])]
    channels = scores["channel"].values.tolist()
    names = [name for name in curve_names(scores) if name + suffix in scores]
    result: dict[str, Any] = {}
    for forecast in scores["forecast"].values.tolist():
        result[forecast] = {}
        for name in names:
            array = scores[name + suffix].sel(forecast=forecast)
            if suffix == "_verdict":  # there is none of missing scores
                bounds = scores[f"{name}_difference_interval"].sel(forecast=forecast)
                array = array.where(bounds.notnull().all("bound"))
            values = array.transpose("channel", "lead_time", ...).values.tolist()
            if np.isnan(array.values.astype(float)).all():
                continue
            result[forecast][name] = {
                channel: {
                    hour: _json_value(labels.get(v) if labels else v)
                    for hour, v in zip(hours, row, strict=True)
                }
                for channel, row in zip(channels, values, strict=True)
            }
    return result


def _json_value(value: Any) -> Any:  # noqa: ANN401
    """JSON has no NaN: a missing score is null."""
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def scores_outputs(json_path: Path, netcdf_path: Path) -> list[Output]:
    """The files that ``write_scores`` writes; it replaces those that it has written."""
    csv_path = json_path.with_suffix(".csv")
    markers = [
        (netcdf_path, "scores", _is_netcdf_of_scores),
        (json_path, "scores as JSON", lambda path: read_json(path).keys() >= _PARTS),
        (csv_path, "scores as CSV", lambda path: bool(_CSV_HEAD.match(read_head(path)))),
    ]
    return [Output(*marker, is_certain=True) for marker in markers]


def _is_netcdf_of_scores(path: Path) -> bool:
    with netCDF4.Dataset(path) as file:
        return "forecast" in file.dimensions and set(file.ncattrs()) >= _ATTRIBUTES


def write_scores(scores: xr.Dataset, json_path: Path, netcdf_path: Path) -> None:
    """Write the scores as JSON, as NetCDF, and as CSV next to the JSON.

    Raises:
        InputError: If one of the files exists and does not hold scores, see ``scores_outputs``.
    """
    check_outputs(scores_outputs(json_path, netcdf_path), {})
    with replacing(json_path) as temporary:
        temporary.write_text(json.dumps(scores_to_json(scores), indent=1))
    with replacing(netcdf_path, RuntimeError) as temporary:  # as the library calls a full disk
        scores.to_netcdf(temporary, engine="netcdf4")
    with replacing(json_path.with_suffix(".csv")) as temporary:
        temporary.write_text(scores_to_csv(scores))


def scores_to_csv(scores: xr.Dataset) -> str:
    """A line for each forecast, channel, lead time and region, a column for each metric."""
    names = curve_names(scores)
    frame = scores[names].reset_coords(drop=True).to_dataframe().reset_index()
    leads = LeadTimes.of(scores)
    numbers, unit = leads.numbers
    lead = f"lead_{unit}"
    if unit != "months":  # which are numbers
        frame["lead_time"] = numbers[np.searchsorted(leads.values, frame["lead_time"].to_numpy())]
    frame = frame.rename(columns={"lead_time": lead})
    keys = [k for k in ("forecast", "region", "channel", lead) if k in frame]
    return frame[keys + names].to_csv(index=False)


def format_score(metric: str, value: float) -> str:
    """A score with three significant digits, tiny ones with two; three decimals of a skill."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf"
    described = metric_of(metric)
    if described.units == "none" and described.best == "high":
        return f"{value:.3f}"
    if 0 < abs(value) < 1e-3:  # such as a solver's rounding
        return f"{value:.1e}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table_metrics(scores: xr.Dataset, units: str) -> dict[str, str]:
    """Names and labels of the metrics in tables: RMSE and ACC, on a plane relative L2 too."""
    names = str(scores.attrs.get("table_metrics", "rmse acc")).split()
    return {name: metric_of(name).labelled(units) for name in names if name in scores}


def curve_metrics(scores: xr.Dataset) -> list[str]:
    """Names of the metrics whose curves the report shows: those in tables, and a few more."""
    further = [n for n in curve_names(scores) if metric_of(n).shown == "curves"]
    return [*table_metrics(scores, ""), *further]


def scores_table(scores: xr.Dataset) -> Group:
    """``table_metrics`` at selected lead times, a table for each channel, the best in bold."""
    first = scores.isel(region=0) if "region" in scores.dims else scores
    tables = [_channel_table(first.sel(channel=name)) for name in first["channel"].values]
    notes = [plain(line, "yellow") for line in str(scores.attrs.get("notes", "")).splitlines()]
    return Group(*tables, *notes)


def _channel_table(scores: xr.Dataset) -> TextTable:
    leads = LeadTimes.of(scores)
    is_wide = leads.numbers[1] in ("months", "steps")
    indices = leads.selected(_MOST_WIDE) if is_wide else leads.selected()
    title = f"{scores['channel'].item()} over {scores.attrs['num_init_times']} initial times"
    if leads.trajectories is not None:
        title += f", {leads.trajectories.step_label}"
    table = TextTable(title)
    table.add_columns("score")
    table.add_columns("forecast", no_wrap=True)
    titles = [leads.labels[index] for index in indices]
    table.add_columns(*titles, justify="right", no_wrap=True)
    # A common factor of small values, such as those of vorticity in 1/s.
    largest = np.nanmax(np.abs(scores["rmse"].values[..., indices]), initial=0.0)
    power = math.floor(math.log10(largest)) if 0 < largest < 1e-2 else 0
    units = "" if scores["units"].item() == "1" else scores["units"].item()
    unit = f"{f'1e{power} ' if power else ''}{units}".strip()
    for metric, label in table_metrics(scores, unit).items():
        values = scores[metric].transpose("forecast", "lead_time").values[:, indices]
        values = values / 10.0**power if metric_of(metric).units == "same" else values
        best = best_of(metric, values, scores["forecast"].values.tolist())
        for row, name in enumerate(scores["forecast"].values):
            cells = [
                plain(format_score(metric, v), "bold" if v == b else "")
                for v, b in zip(values[row], best, strict=True)
            ]
            table.add_row(label if row == 0 else "", name, *cells)
        table.add_section()
    return table


def best_of(metric: str, values: np.ndarray, forecasts: Sequence[str]) -> np.ndarray:
    """The best score (column) of scores (forecast, column); NaN where a column has none.

    The perfect model is no competitor: it is what the others could reach.
    """
    values = values[[name != PERFECT_MODEL for name in forecasts]] if forecasts[1:] else values
    losses = metric_of(metric).loss(values)
    best = np.where(np.isnan(losses), np.inf, losses).argmin(axis=0)
    return np.take_along_axis(values, best[None], axis=0)[0]
