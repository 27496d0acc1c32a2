"""The report: one HTML file that holds its pictures and opens without network."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from data_pipeline.channels import Channels
from data_pipeline.files.atomic import replacing
from data_pipeline.grids.plane import grid_of
from fourcastnet_afno.evaluation.inputs.baselines import at_valid_times
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast
from fourcastnet_afno.evaluation.scores.assemble import lead_hours, selected_leads
from fourcastnet_afno.evaluation.scores.tables import table_metrics
from fourcastnet_afno.report import maps, plots
from fourcastnet_afno.report.parts import (
    STYLE,
    counts_table,
    definitions,
    picture,
    score_table,
    scorecard_table,
    stability,
    summary_table,
    text,
    verdict_table,
)

_MAX_CURVES, _MAX_SENTENCES = 6, 8


def write_report(
    path: Path,
    *,
    scores: xr.Dataset,
    truth: xr.Dataset,
    forecasts: Mapping[str, xr.Dataset],
    history: Sequence[Mapping[str, Any]] = (),
    config_text: str = "",
    facts: Mapping[str, str] | None = None,
) -> Path:
    """Draw all figures and write the report beside them.

    Args:
        path: HTML file to write; the figures go to the folder ``figures`` beside it, as PNG and
            PDF.
        scores: See ``evaluation.evaluate``; of several regions the first is drawn.
        truth: Canonical dataset with the valid times.
        forecasts: What was scored, by name; the first is shown in maps.
        history: Losses by epoch; may be empty.
        config_text: Configuration of the run, if any.
        facts: Further lines, as the run time.

    Returns:
        ``path``.
    """
    scores = scores.isel(region=0) if "region" in scores.dims else scores
    figures = _Figures(path.parent / "figures")
    shown = next(iter(forecasts))
    sections = {
        "Scorecard": _scorecards(scores, figures),
        "Scores": _curves(scores, figures),
        "Maps": _maps(scores, truth, forecasts, shown, figures),
        "Spectra": _spectra(scores, figures),
        "Ensembles and events": _probabilities(scores, figures),
        "Stability": stability(forecasts),
        "Training": _training(history, figures),
        "Conventions and data": _conventions(scores, facts or {}, config_text),
    }
    sections = {title: body for title, body in sections.items() if body}
    title = f"{path.parent.resolve().name}: forecasts against truth"
    links = "".join(f'<a href="#{_anchor(name)}">{text(name)}</a>' for name in sections)
    parts = [f'<h2 id="{_anchor(name)}">{text(name)}</h2>{b}' for name, b in sections.items()]
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{text(title)}</h1>{_head(scores)}<nav>{links}</nav>{''.join(parts)}</body></html>"
    )
    with replacing(path) as temporary:
        temporary.write_text(document, encoding="utf-8")
    return path


class _Figures:
    """The folder of figures.

    Args:
        folder: Made where missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def add(self, name: str, title: str, figure: Figure, kind: str = "chart") -> str:
        """Write a figure as PNG and PDF, and give its HTML."""
        for suffix, render in ((".png", plots.png), (".pdf", plots.pdf)):
            with replacing(self._folder / f"{name}{suffix}") as temporary:
                temporary.write_bytes(render(figure))
            figure.set_layout_engine("none")  # it is laid out
        return picture(title, self._folder / f"{name}.png", kind)

    def animation(self, name: str, title: str, draw: Callable[[Path], None]) -> str:
        """Let ``draw`` write a GIF, and give its HTML."""
        draw(self._folder / f"{name}.gif")
        return picture(title, self._folder / f"{name}.gif", "map")


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


def _head(scores: xr.Dataset) -> str:
    sentences = verdict_table(scores) if "rmse" in scores else []
    said = "<br>".join(text(sentence) for sentence in sentences)
    if len(sentences) > _MAX_SENTENCES:
        summary = f"{text(sentences[0])} And {len(sentences) - 1} more."
        said = f"<details><summary>{summary}</summary>{said}</details>"
    notes = [line for line in str(scores.attrs.get("notes", "")).splitlines() if line]
    noted = "".join(f'<p class="note">{text(note)}</p>' for note in notes)
    return f'<div class="verdict">{said}</div>{noted}'


def _scorecards(scores: xr.Dataset, figures: _Figures) -> str:
    """Each forecast against the reference: as a table here, as a figure beside the report."""
    if "rmse" not in scores:
        return ""
    reference = scores.attrs["reference"]
    parts = [
        '<p class="legend">Change of the RMSE against the reference in per cent: blue ▼ is better, '
        "red ▲ is worse, ≈ cannot be told from chance (paired block bootstrap over initial times, "
        f"{scores.attrs['confidence']:.0%} intervals, blocks of "
        f"{scores.attrs['block_length']}).</p>"
    ]
    for name in scores["forecast"].values.tolist():
        if name == reference or np.isnan(scores["rmse"].sel(forecast=name)).all():
            continue
        parts.append(scorecard_table(scores, name))
        if name not in plots.BASELINES:
            title = f"Scorecard of {name}"
            figures.add(f"scorecard_{name}", title, plots.plot_scorecard(scores, name))
    return "".join(parts)


def _curves(scores: xr.Dataset, figures: _Figures) -> str:
    metrics = [*table_metrics(scores, ""), "standard_deviation_ratio"]
    metrics = [name for name in metrics if name in scores]
    if not metrics:
        return ""
    channels = scores["channel"].values.tolist()
    band = f"bands are {scores.attrs['confidence']:.0%} intervals"
    parts = [
        figures.add(
            f"scores_{c}", f"{c}: {band}", plots.plot_score_curves(scores.sel(channel=[c]), metrics)
        )
        for c in channels[:_MAX_CURVES]
    ]
    figures.add(
        "scores", "Scores", plots.plot_score_curves(scores.isel(channel=slice(_MAX_CURVES)))
    )
    more = ""
    if len(channels) > _MAX_CURVES:
        more = (
            f'<p class="legend">{len(channels) - _MAX_CURVES} further channels: see the table.</p>'
        )
    table = f"<details open><summary>Table</summary>{score_table(scores)}</details>"
    if len(channels) > _MAX_CURVES:
        table = table.replace("<details open>", "<details>")
    return f'<div class="grid">{"".join(parts)}</div>{more}{table}{summary_table(scores)}'


def _maps(
    scores: xr.Dataset,
    truth: xr.Dataset,
    forecasts: Mapping[str, xr.Dataset],
    shown: str,
    figures: _Figures,
) -> str:
    channel = _picture_channel(scores)
    land = _land(truth)
    pair = _one_forecast(truth, forecasts[shown], channel)
    parts = [] if pair is None else _pair_maps(*pair, channel, shown, land, figures)
    if "bias_map" in scores and channel in scores["map_channel"].values:
        drawn = maps.mean_maps(scores, channel, shown, land)
        title = f"{channel} of {shown}: bias and RMSE over all initial times"
        parts.insert(1, figures.add("mean_maps", title, drawn, "map"))
    return "".join(parts)


def _pair_maps(
    actual: xr.DataArray,
    forecast: xr.DataArray,
    channel: str,
    shown: str,
    land: xr.DataArray | None,
    figures: "_Figures",
) -> list[str]:
    """One forecast beside truth, still and moving."""
    hours = [int(lead / np.timedelta64(1, "h")) for lead in actual["lead_time"].values]
    wanted = sorted({0, *(i for i, hour in enumerate(hours) if hour in (72, 120))})
    start = str(forecast.attrs["init_time"])[:16].replace("T", " ")
    drawn = maps.error_maps(actual.isel(lead_time=wanted), forecast.isel(lead_time=wanted), land)
    return [
        figures.add("maps", f"{channel} of {shown}, from {start} UTC", drawn, "map"),
        figures.animation(
            "rollout",
            f"{channel}: truth and {shown}, from {start} UTC",
            lambda path: maps.rollout_animation(actual, forecast, path),
        ),
    ]


def _picture_channel(scores: xr.Dataset) -> str:
    """Geopotential where there is any, or else the first channel that changes."""
    labels = scores["channel"].values.tolist()
    for start in ("geopotential_500", "geopotential"):
        found = [label for label in labels if label.startswith(start)]
        if found:
            return found[0]
    if "rmse" in scores and "persistence" in scores["forecast"]:
        changes = scores["rmse"].sel(forecast="persistence").max("lead_time") > 0
        labels = scores["channel"].values[changes.values].tolist() or labels
    return labels[0]


def _land(truth: xr.Dataset) -> xr.DataArray | None:
    if "land_sea_mask" not in truth:
        return None
    mask = truth["land_sea_mask"]
    mask = mask.isel(time=0) if "time" in mask.dims else mask
    return mask.transpose("latitude", "longitude").compute()


def _one_forecast(
    truth: xr.Dataset, predictions: xr.Dataset, channel: str
) -> tuple[xr.DataArray, xr.DataArray] | None:
    """Truth and a forecast (the mean over its members) of a channel.

    Returns:
        The forecast with the most lead times that truth covers, both (lead_time, latitude,
        longitude); ``None`` where there is none, or truth is on another grid.
    """
    ready = canonical_forecast(predictions)
    if not grid_of(truth).is_same(grid_of(ready)):
        return None
    every = Channels.from_dataset(ready, [str(n) for n in ready.data_vars if n in truth])
    channels = Channels(tuple(c for c in every if c.label == channel))
    (chosen,) = channels
    leads = ready["lead_time"].values
    known = np.isin(ready["init_time"].values[:, None] + leads, truth["time"].values)
    if not known.any():
        return None
    index = int(np.argmax(known.sum(axis=1)))
    first = ready[[chosen.name]].isel(init_time=[index], lead_time=known[index])
    if "realization" in first.dims:
        first = first.mean("realization", keep_attrs=True)
    inits, leads = first["init_time"].values, first["lead_time"].values
    names = list(first.data_vars)
    actual = at_valid_times(lambda times: truth[names].sel(time=times), inits, leads)
    fields = [channels.stack(d).isel(init_time=0, channel=0).compute() for d in (actual, first)]
    for field in fields:
        field.attrs = {"units": chosen.units, "init_time": str(inits[0])}
    return fields[0], fields[1]


def _spectra(scores: xr.Dataset, figures: _Figures) -> str:
    if "spectrum" not in scores:
        return ""
    channel = _picture_channel(scores)
    drawn = plots.plot_spectra(scores, channel, _leads_of_spectra(scores))
    scale = scores[scores["spectrum"].dims[-1]].attrs["long_name"]
    title = f"{channel}: energy spectra ({scale}) by lead time, and their ratio to truth's"
    if "spectrum_interval" in scores:
        title += f"; bands are {scores.attrs['confidence']:.0%} intervals"
    return figures.add("spectra", title, drawn)


def _leads_of_spectra(scores: xr.Dataset) -> list[int]:
    """The first lead time and 3, 5 and 10 days, or of shorter forecasts the middle and the last."""
    indices, hours = selected_leads(scores), lead_hours(scores)
    later = [i for i in indices[1:] if hours[i] in (72, 120, 240)]
    later = later or [indices[len(indices) // 2], indices[-1]]
    return list(dict.fromkeys([indices[0], *later]))


def _probabilities(scores: xr.Dataset, figures: _Figures) -> str:
    channel, wide, parts = _picture_channel(scores), [], []
    for name in scores["forecast"].values.tolist():
        if f"rank_histogram_{name}" in scores and {"rmse", "spread"} <= set(scores.data_vars):
            title = f"{channel} of {name}: spread and skill, and rank histograms"
            drawn = plots.plot_spread_skill(scores, channel, name)
            wide.append(figures.add(f"spread_skill_{name}", title, drawn))
    if "crps" in scores:
        drawn = plots.plot_score_curves(scores.sel(channel=[channel]), ("crps",))
        parts.append(figures.add("crps", f"{channel}: CRPS", drawn))
    if "reliability_frequency" in scores:
        index = selected_leads(scores)[-1] // 2
        title = f"{channel}: reliability of events at {lead_hours(scores)[index]} h"
        drawn = plots.plot_reliability(scores, channel, index)
        parts.append(figures.add("reliability", title, drawn))
    grid = f'<div class="grid">{"".join(parts)}</div>' if parts else ""
    return "".join(wide) + grid


def _training(history: Sequence[Mapping[str, Any]], figures: _Figures) -> str:
    if not history:
        return ""
    return figures.add("loss", "Loss by epoch", plots.plot_loss_curve(history))


def _conventions(scores: xr.Dataset, facts: Mapping[str, str], config_text: str) -> str:
    hidden = ("notes", "settings", "missing_values_in_all", "table_metrics")
    pairs = {key: value for key, value in scores.attrs.items() if key not in hidden}
    text_of = config_text or str(scores.attrs.get("settings", ""))
    return (
        counts_table(scores)
        + definitions(pairs | dict(facts))
        + f"<details><summary>Configuration</summary><pre>{text(text_of)}</pre></details>"
    )
