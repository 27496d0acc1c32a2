"""Pieces of the report's HTML: scorecards, tables, figures, definitions and their style."""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fourcastnet_afno.evaluation.scores.assemble import lead_hours, selected_leads
from fourcastnet_afno.evaluation.scores.tables import best_of, format_score, table_metrics
from fourcastnet_afno.report.plots import LABELS, relative_change

_MAX_ROWS = 24  # of a table that is not folded

_FEW_FORECASTS = 8

STYLE = """
:root { color-scheme: light dark; --ink: #1f2937; --soft: #6b7280; --paper: #ffffff;
  --line: #e5e7eb; --panel: #f6f7f9; --strong: #0b62a4; --better: 37 99 235; --worse: 200 60 30 }
@media (prefers-color-scheme: dark) { :root { --ink: #e5e7eb; --soft: #9ca3af; --paper: #14181f;
  --line: #2c3440; --panel: #1c222c; --strong: #7cc0ff; --better: 80 140 255;
  --worse: 240 110 70 } }
* { box-sizing: border-box }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 1120px; margin: 2rem auto;
  padding: 0 1rem; color: var(--ink); background: var(--paper) }
h1 { line-height: 1.2; font-size: clamp(1.4rem, 4vw, 2rem) }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem }
h3 { margin-bottom: .3rem }
a { color: var(--strong) }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem }
figure { margin: 1rem 0; break-inside: avoid }
figcaption { color: var(--soft); font-size: .9rem }
img { max-width: 100%; height: auto; display: block; border-radius: 6px; background: #fff }
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr)) }
.grid figure { margin: 0 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem }
td, th { padding: .22rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
  white-space: nowrap }
td.name, th.name { text-align: left }
table.card td.cell { min-width: 3.6rem; border: 1px solid var(--paper); text-align: center }
td.unsure { color: var(--soft) }
.best { font-weight: 700; color: var(--strong) }
.verdict { font-size: 1.1rem }
.note { background: var(--panel); border-left: 4px solid var(--strong); padding: .5rem 1rem }
.legend { color: var(--soft); font-size: .9rem }
pre { background: var(--panel); padding: 1rem; overflow-x: auto; font-size: .8rem }
dl { display: grid; grid-template-columns: minmax(8rem, 14rem) 1fr; gap: .25rem 1rem }
dt { font-weight: 600; overflow-wrap: anywhere } dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr } dd { margin-bottom: .5rem }
  td, th { padding: .2rem .35rem } table { font-size: .78rem }
  table.card td.cell { min-width: 0 }
  table.card .name { position: sticky; left: 0; background: var(--paper);
    min-width: 8.4rem; white-space: normal; overflow-wrap: anywhere } }
@media (prefers-color-scheme: dark) { img.chart { filter: invert(.9) hue-rotate(180deg) } }
@media print { body { max-width: none; margin: 0; color: #000; background: #fff; font-size: 11px }
  nav { display: none } .scroll { overflow: visible } details:not([open]) { display: none }
  .verdict { font-size: 1em } .verdict details:not([open]) { display: block }
  .verdict details::details-content { content-visibility: visible; block-size: auto }
  tr { break-inside: avoid } h3 { break-after: avoid }
  img.chart { filter: none } h2 { break-after: avoid } table.card td.cell { min-width: 0 }
  td, th { padding: .1rem .3rem }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact } }
"""


def text(value: object) -> str:
    """Escaped."""
    return html.escape(str(value))


def scorecard_table(scores: xr.Dataset, forecast: str, metric: str = "rmse") -> str:
    """Change of a metric against the reference, channels by lead times, colored by its size."""
    change, certain = relative_change(scores, forecast, metric)
    hours = lead_hours(scores)
    indices = selected_leads(scores)
    head = "".join(f"<th>{hours[i]} h</th>" for i in indices)
    rows = []
    for row, channel in enumerate(change["channel"].values):
        cells = "".join(
            _cell_of_change(float(change.values[row, i]), bool(certain.values[row, i]))
            for i in indices
        )
        rows.append(f'<tr><td class="name">{text(channel)}</td>{cells}</tr>')
    title = f"{LABELS.get(metric, metric)}: {forecast} against {scores.attrs['reference']}"
    return (
        f'<h3>{text(title)}</h3><div class="scroll"><table class="card"><tr>'
        f'<th class="name">channel</th>{head}</tr>{"".join(rows)}</table></div>'
    )


def _cell_of_change(change: float, certain: bool) -> str:
    if not np.isfinite(change):
        return '<td class="cell">-</td>'
    tone = "better" if change < 0 else "worse"
    if not certain:
        return f'<td class="cell unsure" title="not distinguishable">{change:+.0f} % ≈</td>'
    strength = min(0.75, 0.12 + abs(change) / 70)
    sign = "▼" if change < 0 else "▲"
    return (
        f'<td class="cell" style="background: rgb(var(--{tone}) / {strength:.2f})" '
        f'title="{tone}">{change:+.0f} % {sign}</td>'
    )


def score_table(scores: xr.Dataset) -> str:
    """``table_metrics`` of all forecasts at selected lead times, the best of each column marked."""
    indices, hours = selected_leads(scores), lead_hours(scores)
    head = "".join(f"<th>{hours[i]} h</th>" for i in indices)
    names = "".join(f'<th class="name">{n}</th>' for n in ("channel", "score", "forecast"))
    rows = [f"<tr>{names}{head}</tr>"]
    for channel, units in zip(scores["channel"].values, scores["units"].values, strict=True):
        for metric, label in table_metrics(scores, str(units)).items():
            values = scores[metric].sel(channel=channel).transpose("forecast", "lead_time").values
            values = values[:, indices]
            best = best_of(metric, values)
            for name, row in zip(scores["forecast"].values, values, strict=True):
                cells = "".join(
                    _cell(float(v), bool(v == b), metric) for v, b in zip(row, best, strict=True)
                )
                labels = "".join(f'<td class="name">{text(n)}</td>' for n in (channel, label, name))
                rows.append(f"<tr>{labels}{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _cell(value: float, best: bool, metric: str) -> str:
    shown = format_score(metric, value)
    return f'<td class="best">{shown}</td>' if best else f"<td>{shown}</td>"


def summary_table(scores: xr.Dataset) -> str:
    """Effective resolution at selected lead times and correlation time of each forecast."""
    units = {
        "effective_resolution_km": "resolution, {} h [km]",
        "effective_wavenumber": "wavenumber, {} h",
    }
    resolution = next((name for name in units if name in scores), None)
    if resolution is None and "correlation_time_hours" not in scores:
        return ""
    indices, hours = selected_leads(scores), lead_hours(scores)
    chosen = [indices[0], indices[-1]]
    head = ['<th class="name">channel</th><th class="name">forecast</th>']
    if resolution is not None:
        head += [f"<th>effective {units[resolution].format(hours[i])}</th>" for i in chosen]
    if "correlation_time_hours" in scores:
        head.append("<th>correlation above 0.8 [h]</th>")
    rows = []
    for channel in scores["channel"].values:
        for name in scores["forecast"].values:
            one = scores.sel(channel=channel, forecast=name)
            cells = []
            if resolution is not None:
                cells += [_rounded(one[resolution].values[i]) for i in chosen]
            if "correlation_time_hours" in scores:
                value = float(one["correlation_time_hours"])
                cells.append(f"over {hours[-1]}" if np.isnan(value) else f"{value:.0f}")
            labels = "".join(f'<td class="name">{text(n)}</td>' for n in (channel, name))
            rows.append(f"<tr>{labels}{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    table = f"<table><tr>{''.join(head)}</tr>{''.join(rows)}</table>"
    title = "Resolution and correlation"
    if len(rows) > _MAX_ROWS:
        summary = f"<summary>{title}</summary>"
        return f'<details>{summary}<div class="scroll">{table}</div></details>'
    return f'<h3>{title}</h3><div class="scroll">{table}</div>'


def _rounded(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "-"


def picture(title: str, file: Path, kind: str = "chart") -> str:
    """A figure that holds its picture; ``chart`` is inverted on dark screens, ``map`` is not."""
    form = file.suffix.removeprefix(".")
    data = base64.b64encode(file.read_bytes()).decode()
    return (
        f'<figure><img class="{kind}" alt="{text(title)}" src="data:image/{form};base64,{data}">'
        f"<figcaption>{text(title)}</figcaption></figure>"
    )


def definitions(pairs: Mapping[str, object]) -> str:
    """A list of names and what they stand for."""
    items = [
        f"<dt>{text(str(key).replace('_', ' '))}</dt><dd>{text(value)}</dd>"
        for key, value in pairs.items()
    ]
    return f"<dl>{''.join(items)}</dl>"


def counts_table(scores: xr.Dataset) -> str:
    """Initial times that were scored and values that were missing, by forecast."""
    counts, missing = scores["num_init_times"], scores["missing_values"]
    rows = []
    for name in scores["forecast"].values:
        own = counts.sel(forecast=name)
        leads = int((own > 0).any("channel").sum())
        lowest, highest = int(own.min()), int(own.max())
        spread = str(highest) if lowest == highest else f"{lowest} to {highest}"
        lacking = int(np.nansum(missing.sel(forecast=name).values))
        cells = "".join(f"<td>{c}</td>" for c in (leads, spread, lacking))
        rows.append(f'<tr><td class="name">{text(name)}</td>{cells}</tr>')
    head = "<th>lead times</th><th>initial times</th><th>missing values</th>"
    return (
        f'<div class="scroll"><table><tr><th class="name">forecast</th>{head}</tr>'
        f"{''.join(rows)}</table></div>"
    )


def stability(forecasts: Mapping[str, xr.Dataset]) -> str:
    """Which forecasts stayed bounded to their end, as the forecasts themselves say."""
    told = {
        n: json.loads(f.attrs["blow_ups"]) for n, f in forecasts.items() if "blow_ups" in f.attrs
    }
    return definitions({name: _stability(forecasts[name], told[name]) for name in told})


def _stability(forecast: xr.Dataset, blow_ups: Sequence[Mapping[str, Any]]) -> str:
    count = forecast.sizes["init_time"] * forecast.sizes.get("realization", 1)
    hours = forecast["lead_time"].values[-1] / np.timedelta64(1, "h")
    if not blow_ups:
        return f"all {count} forecasts stayed within bounds for {hours:g} h; {_growth(forecast)}"
    first = min(blow_ups, key=lambda record: record["lead_hours"])
    return (
        f"{len(blow_ups)} of {count} forecasts blew up within {hours:g} h, the first one, from "
        f"{first['init_time']}, after {first['lead_hours']} h: {first['channel']} was "
        f"{first['value']} at {first['place']}"
    )


def _growth(forecast: xr.Dataset) -> str:
    """How the spread of the fields changes from the first lead time to the last, at the worst."""
    some = forecast.isel(init_time=slice(_FEW_FORECASTS), lead_time=[0, -1])
    some = some.isel(realization=0) if "realization" in some.dims else some
    ratios = {}
    for name in some.data_vars:
        first, last = some[name].std([d for d in some[name].dims if d != "lead_time"]).values
        if first > 0:
            ratios[str(name)] = float(last / first)
    if not ratios:
        return "nothing in them varies"
    name = max(ratios, key=lambda key: abs(np.log(max(ratios[key], 1e-9))))
    return (
        f"from the first lead time to the last the spread of {name} changes most, to "
        f"{ratios[name]:.2f} times what it was"
    )


def verdict_table(scores: xr.Dataset) -> list[str]:
    """For each channel, up to which lead time a forecast's RMSE is below each baseline's."""
    sentences = []
    hours = lead_hours(scores)
    names = scores["forecast"].values.tolist()
    baselines = [
        n for n in ("persistence", "climatology", "weekly_climatology", "linear") if n in names
    ]
    for channel in scores["channel"].values:
        rmse = scores["rmse"].sel(channel=channel)
        for name in [n for n in names if n not in baselines]:
            claims = []
            for baseline in baselines:
                better = (rmse.sel(forecast=name) < rmse.sel(forecast=baseline)).values
                count = len(better) if better.all() else int(np.argmin(better))
                until = f"up to {hours[count - 1] / 24:g} days" if count else "at no lead time"
                claims.append(f"{baseline.replace('_', ' ')} {until}")
            who = "the model" if name == "model" else name
            if claims:
                listed = ", ".join(claims[:-1]) + (" and " if claims[:-1] else "") + claims[-1]
                sentences.append(f"{channel}: {who} beats {listed}.")
    return sentences
