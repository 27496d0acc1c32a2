"""The report: one HTML file that holds its pictures and opens without network."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from data_pipeline.atomic import replacing
from data_pipeline.channels import Channels
from fourcastnet_afno import plots
from fourcastnet_afno.evaluation.baselines import at_valid_times
from fourcastnet_afno.evaluation.scores import lead_hours, selected_leads
from fourcastnet_afno.evaluation.tables import format_score

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem;
  color: #1f2937; background: #fff }
h1 { line-height: 1.2 }
img { max-width: 100%; height: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
td, th { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #e5e7eb }
td:nth-child(-n+3), th:nth-child(-n+3) { text-align: left }
.best { font-weight: 700; color: #0b62a4 }
.scroll { overflow-x: auto }
pre { background: #f3f4f6; padding: 1rem; overflow-x: auto; font-size: .8rem }
.verdict { font-size: 1.15rem }
dt { font-weight: 600 }
"""


def write_report(
    path: Path,
    *,
    scores: xr.Dataset,
    history: Sequence[Mapping[str, Any]],
    truth: xr.Dataset,
    predictions: xr.Dataset,
    config_text: str,
    facts: Mapping[str, str],
) -> Path:
    """Draw all figures and write the report beside them.

    Args:
        path: HTML file to write; the figures go to the folder ``figures`` beside it.
        scores: See ``evaluation.evaluate``.
        history: Losses by epoch; may be empty.
        truth: Canonical dataset with the valid times.
        predictions: The model's forecasts.
        config_text: Configuration of the run.
        facts: Further lines, as the run time.

    Returns:
        ``path``.
    """
    channel = _picture_channel(scores)
    figures = _draw_figures(path.parent / "figures", scores, history, truth, predictions, channel)
    parts = [
        f"<h1>{html.escape(path.parent.resolve().name)}: forecasts against truth</h1>",
        f'<p class="verdict">{html.escape(" ".join(verdicts(scores)))}</p>',
        f'<div class="scroll">{_table(scores)}</div>',
        *(_figure(title, file) for title, file in figures.items()),
        "<h2>Conventions</h2>" + _definitions(scores.attrs),
        "<h2>This run</h2>" + _definitions(facts),
        f"<details><summary>Configuration</summary><pre>{html.escape(config_text)}</pre></details>",
    ]
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Forecast report</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{''.join(parts)}</body></html>"
    )
    with replacing(path) as temporary:
        temporary.write_text(document, encoding="utf-8")
    return path


def verdicts(scores: xr.Dataset) -> list[str]:
    """For each channel, up to which lead time the model's RMSE is below each baseline's."""
    sentences = []
    hours = lead_hours(scores)
    for channel in scores["channel"].values:
        rmse = scores["rmse"].sel(channel=channel)
        claims = []
        for baseline in ("persistence", "climatology"):
            better = (rmse.sel(forecast="model") < rmse.sel(forecast=baseline)).values
            count = len(better) if better.all() else int(np.argmin(better))
            until = f"up to {hours[count - 1] / 24:g} days" if count else "at no lead time"
            claims.append(f"{baseline} {until}")
        sentences.append(f"{channel}: the model beats {' and '.join(claims)}.")
    return sentences


def _picture_channel(scores: xr.Dataset) -> str:
    labels = scores["channel"].values.tolist()
    return next((label for label in labels if label.startswith("geopotential")), labels[0])


def _draw_figures(
    folder: Path,
    scores: xr.Dataset,
    history: Sequence[Mapping[str, Any]],
    truth: xr.Dataset,
    predictions: xr.Dataset,
    channel: str,
) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    indices = selected_leads(scores)
    shown = [indices[0], *[i for i in indices if lead_hours(scores)[i] in (72, 120)]]
    actual, forecast = _one_forecast(truth, predictions, channel)
    drawn: dict[str, tuple[str, Figure]] = {
        "RMSE and ACC by lead time": ("scores.png", plots.score_curves(scores)),
        f"Forecast minus truth: {channel}": (
            "maps.png",
            plots.error_maps(actual.isel(lead_time=shown), forecast.isel(lead_time=shown)),
        ),
    }
    if history:
        drawn["Loss"] = ("loss.png", plots.loss_curve(history))
    if "spectrum" in scores:
        figure = plots.spectra(scores, channel, shown)
        drawn[f"Zonal energy spectra: {channel}"] = ("spectra.png", figure)
    files = {}
    for title, (name, figure) in drawn.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(plots.png(figure))
        files[title] = folder / name
    plots.rollout_animation(actual, forecast, folder / "rollout.gif")
    return {**files, f"A rollout: {channel}": folder / "rollout.gif"}


def _one_forecast(
    truth: xr.Dataset, predictions: xr.Dataset, channel: str
) -> tuple[xr.DataArray, xr.DataArray]:
    """Truth and the first forecast of a channel, (lead_time, latitude, longitude)."""
    first = predictions.isel(init_time=[0])
    names = [str(name) for name in predictions.data_vars]
    channels = Channels.from_dataset(predictions, names)
    index = channels.labels.index(channel)
    actual = at_valid_times(
        lambda times: truth[names].sel(time=times),
        first["init_time"].values,
        first["lead_time"].values,
    )
    fields = [channels.stack(d).isel(init_time=0, channel=index).compute() for d in (actual, first)]
    for field in fields:
        field.attrs["units"] = list(channels)[index].units
    return fields[0], fields[1]


def _table(scores: xr.Dataset) -> str:
    indices, hours = selected_leads(scores), lead_hours(scores)
    head = "".join(f"<th>{hours[i]} h</th>" for i in indices)
    rows = [f"<tr><th>channel</th><th>score</th><th>forecast</th>{head}</tr>"]
    for channel, units in zip(scores["channel"].values, scores["units"].values, strict=True):
        for metric, label in (("rmse", f"RMSE [{units}]"), ("acc", "ACC")):
            values = scores[metric].sel(channel=channel).values[:, indices]
            best = values.min(axis=0) if metric == "rmse" else values.max(axis=0)
            for name, row in zip(scores["forecast"].values, values, strict=True):
                cells = "".join(
                    _cell(float(v), bool(v == b), metric) for v, b in zip(row, best, strict=True)
                )
                names = (channel, label, name)
                rows.append(
                    f"<tr>{''.join(f'<td>{html.escape(str(n))}</td>' for n in names)}{cells}</tr>"
                )
    return f"<table>{''.join(rows)}</table>"


def _cell(value: float, best: bool, metric: str) -> str:
    text = format_score(metric, value)
    return f'<td class="best">{text}</td>' if best else f"<td>{text}</td>"


def _figure(title: str, file: Path) -> str:
    kind = file.suffix.removeprefix(".")
    data = base64.b64encode(file.read_bytes()).decode()
    return (
        f"<h2>{html.escape(title)}</h2>"
        f'<img alt="{html.escape(title)}" src="data:image/{kind};base64,{data}">'
    )


def _definitions(pairs: Mapping[str, object]) -> str:
    items = [
        f"<dt>{html.escape(str(key).replace('_', ' '))}</dt><dd>{html.escape(str(value))}</dd>"
        for key, value in pairs.items()
    ]
    return f"<dl>{''.join(items)}</dl>"
