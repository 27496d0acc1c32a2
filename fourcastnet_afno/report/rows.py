"""Rows of the report's tables and sentences of its lists, as values that the templates lay out."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple, TypedDict

import numpy as np
import xarray as xr

from data_pipeline.precision import at_least_single
from data_pipeline.records import from_plain, naming_file, parse_json
from data_pipeline.timestep import lead_label, recorded_time
from fourcastnet_afno.evaluation.config import PERFECT_MODEL
from fourcastnet_afno.evaluation.metrics import metric_of
from fourcastnet_afno.evaluation.metrics.deterministic import CORRELATED
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.evaluation.scores.tables import best_of, format_score, table_metrics
from fourcastnet_afno.report.plots import BASELINES, relative_change

_FEW_FORECASTS = 8


class Cell(NamedTuple):
    """A value as text; the best of its column is marked."""

    text: str
    best: bool = False


class Table(NamedTuple):
    """Titles of the label columns and of the columns of cells; labels and cells of each row."""

    labels: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[Sequence[str], Sequence[Cell]]]


class Scorecard(NamedTuple):
    """Change of a metric against the reference, a column for each lead time.

    Each row has the channel and, by lead time, the change in per cent (``None`` where there is
    none) and whether it is distinguishable from chance.
    """

    title: str
    leads: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[float | None, bool]]]]


def scorecard(scores: xr.Dataset, forecast: str, metric: str = "rmse") -> Scorecard:
    """Compare a forecast with the reference at selected lead times."""
    leads = LeadTimes.of(scores)
    indices = leads.selected()
    changes, certain = relative_change(scores, forecast, metric)
    channels = changes["channel"].values.tolist()
    values, sure = changes.values[:, indices].tolist(), certain.values[:, indices].tolist()
    rows = [
        (label, [(v if np.isfinite(v) else None, s) for v, s in zip(*cells, strict=True)])
        for label, *cells in zip(channels, values, sure, strict=True)
    ]
    title = f"{metric_of(metric).label}: {forecast} against {scores.attrs['reference']}"
    return Scorecard(title, [leads.labels[index] for index in indices], rows)


def score_table(scores: xr.Dataset) -> Table:
    """``table_metrics`` of all forecasts at selected lead times, the best of each column marked."""
    leads = LeadTimes.of(scores)
    indices = leads.selected()
    rows = []
    for channel, units in zip(scores["channel"].values, scores["units"].values, strict=True):
        for metric, label in table_metrics(scores, str(units)).items():
            values = scores[metric].sel(channel=channel).transpose("forecast", "lead_time").values
            values = values[:, indices]
            best = best_of(metric, values, scores["forecast"].values.tolist())
            for name, numbers in zip(scores["forecast"].values, values, strict=True):
                texts = [format_score(metric, float(number)) for number in numbers]
                rows.append(((channel, label, name), list(map(Cell, texts, numbers == best))))
    titles = [leads.labels[index] for index in indices]
    return Table(("channel", "score", "forecast"), titles, rows)


def summary_table(scores: xr.Dataset) -> Table | None:
    """Resolution and energy at patches at the first and the last lead time, correlation time.

    A dash stands for forecasts whose longest wave has too little energy, and for those without
    patches; ``missing`` for those without a score.
    """
    columns, rows = _summary_columns(scores), []
    for channel, name in product(scores["channel"].values, scores["forecast"].values):
        cells = []
        for _, values in columns:
            value, quantity = float(values.sel(channel=channel, forecast=name)), str(values.name)
            if quantity == "patch_energy_ratio":
                cells.append(Cell(format_score(quantity, value)))
            elif np.isfinite(value):
                cells.append(Cell(f"{value:.0f}"))
            elif quantity.startswith("correlation_time"):
                cells.append(Cell(_correlated_leads(scores.sel(channel=channel, forecast=name))))
            else:
                cells.append(Cell("missing" if np.isnan(value) else "-"))
        rows.append(((channel, name), cells))
    return (
        Table(("channel", "forecast"), [title for title, _ in columns], rows) if columns else None
    )


def _summary_columns(scores: xr.Dataset) -> list[tuple[str, xr.DataArray]]:
    """Titles of the columns of ``summary_table``, and their scores."""
    resolutions = {
        "effective_resolution_km": "effective resolution, {} [km]",
        "effective_wavenumber": "effective wavenumber, {}",
    }
    titles = dict([item for item in resolutions.items() if item[0] in scores][:1])
    if "patch_energy_ratio" in scores:
        titles["patch_energy_ratio"] = "energy at patches over truth's, {}"
    leads = LeadTimes.of(scores).labels
    columns = [
        (title.format(leads[index]), scores[name].isel(lead_time=index))
        for name, title in titles.items()
        for index in dict.fromkeys((0, len(leads) - 1))
    ]
    for name in (str(name) for name in scores.data_vars):
        if name.startswith("correlation_time_"):
            unit = name.removeprefix("correlation_time_").replace("hours", "h")
            columns.append((f"correlation above 0.8 [{unit}]", scores[name]))
    return columns


def _correlated_leads(scores: xr.Dataset) -> str:
    """Time that a correlation which is nowhere below 0.8 lasts at least, as far as it is known."""
    numbers, _ = LeadTimes.of(scores).numbers
    values = scores["correlation"].values
    has_fallen, known = (values < CORRELATED).any(), np.flatnonzero(values >= CORRELATED)
    return "missing" if has_fallen or not len(known) else f"over {numbers[known[-1]]:g}"


def counts_table(scores: xr.Dataset) -> Table:
    """Scored initial times and missing values of each forecast."""
    rows = []
    for name in scores["forecast"].values:
        counts = scores["num_init_times"].sel(forecast=name)
        num_leads = int((counts > 0).any("channel").sum())
        lowest, highest = int(counts.min()), int(counts.max())
        num_inits = str(highest) if lowest == highest else f"{lowest} to {highest}"
        missing = int(np.nansum(scores["missing_values"].sel(forecast=name).values))
        rows.append(((name,), [Cell(str(num_leads)), Cell(num_inits), Cell(str(missing))]))
    return Table(("forecast",), ("lead times", "initial times", "missing values"), rows)


class _BlowUp(TypedDict):
    """Entries that are read of the record of a forecast that ended."""

    step: int
    init_time: str
    channel: str
    value: Any
    place: str


def stability(forecasts: Mapping[str, xr.Dataset]) -> dict[str, str]:
    """A sentence on each forecast with a record of its blow-ups: whether it stayed bounded."""
    sentences = {}
    for name, forecast in forecasts.items():
        if "blow_ups" not in forecast.attrs:
            continue
        with naming_file(f"the attribute blow_ups of {name}", "write it again", "bad-record"):
            records = parse_json(str(forecast.attrs["blow_ups"]), "it")
            blow_ups = from_plain(list[_BlowUp], records, "it")
        count = forecast.sizes["init_time"] * forecast.sizes.get("realization", 1)
        leads = LeadTimes.of(forecast)
        end = leads.labels[-1]
        if blow_ups:
            first = min(blow_ups, key=lambda record: record["step"])
            after = lead_label(first["step"] * leads.values[0], leads.trajectories)
            start = recorded_time(first["init_time"], leads.trajectories)
            sentences[name] = (
                f"{len(blow_ups)} of {count} forecasts blew up within {end}, the first one, "
                f"from {start}, after {after}: {first['channel']} was "
                f"{first['value']} at {first['place']}"
            )
            continue
        ends = forecast.isel(init_time=slice(_FEW_FORECASTS), lead_time=[0, -1])
        ends = ends.isel(realization=0) if "realization" in ends.dims else ends
        ratios, growth = {}, "nothing in them varies"
        for field, values in ends.data_vars.items():
            spread = at_least_single(values).std([d for d in values.dims if d != "lead_time"])
            first, last = spread.values
            if first > 0 and np.isfinite(last):
                ratios[field] = float(last / first)
        if ratios:
            field = max(ratios, key=lambda key: abs(np.log(max(ratios[key], 1e-9))))
            growth = (
                f"from the first lead time to the last the spread of {field} changes most, to "
                f"{ratios[field]:.2f} times what it was"
            )
        sentences[name] = f"all {count} forecasts stayed within bounds for {end}; {growth}"
    return sentences


def beaten_baselines(scores: xr.Dataset) -> list[str]:
    """For each channel, up to which lead time a forecast's RMSE is below each baseline's.

    Where there is the perfect model, also how far it is above that.
    """
    if "rmse" not in scores:
        return []
    sentences, names, leads = [], scores["forecast"].values.tolist(), LeadTimes.of(scores)
    baselines = [name for name in BASELINES if name in names]
    has_limit = PERFECT_MODEL in names
    for channel in scores["channel"].values if baselines else ():
        rmse = scores["rmse"].sel(channel=channel)
        for name in [name for name in names if name not in (*baselines, PERFECT_MODEL)]:
            claims = []
            for baseline in baselines:
                until = _beaten_until(rmse.sel(forecast=name), rmse.sel(forecast=baseline), leads)
                claims.append(f"{baseline.replace('_', ' ')} {until}")
            forecast = "the model" if name == "model" else name
            listed = " and ".join([", ".join(claims[:-1]), claims[-1]] if claims[1:] else claims)
            limit = _above_limit(rmse, name, leads) if has_limit else ""
            sentences.append(f"{channel}: {forecast} beats {listed}.{limit}")
    return sentences


def _above_limit(rmse: xr.DataArray, forecast: str, leads: LeadTimes) -> str:
    """How many times that of the perfect model an RMSE is, at selected lead times."""
    ours, limit = (rmse.sel(forecast=name).values for name in (forecast, PERFECT_MODEL))
    ratios = ours / np.where(limit > 0, limit, np.nan)
    shown = [i for i in leads.selected(4) if np.isfinite(ratios[i])]
    times = [f"{ratios[i]:.3g} ({leads.labels[i]})" for i in shown]
    return f" Its RMSE is {', '.join(times)} times that of the perfect model." if times else ""


def _beaten_until(ours: xr.DataArray, theirs: xr.DataArray, lead_times: LeadTimes) -> str:
    """Up to which lead time our errors are smaller, of those that both have after the start."""
    leads = lead_times.values
    later = leads.astype(np.int64) > 0
    known = later & np.isfinite(ours.values) & np.isfinite(theirs.values)
    if not known.any():
        return "(there is no score of both)"
    better = (ours.values < theirs.values)[known]
    count = len(better) if better.all() else int(np.argmin(better))
    if count == 0:
        return "at no lead time"
    last = leads[known][count - 1]
    until = lead_label(last, lead_times.trajectories)
    until = "1 day" if until == "24 h" else until
    is_cut = count == len(better) and last < leads[later][-1]
    return f"up to {until}{' (later scores are missing)' if is_cut else ''}"
