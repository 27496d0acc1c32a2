"""Figures of scores and losses. Nothing is computed here beyond differences."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from data_pipeline.printable import printable
from fourcastnet_afno.evaluation.metrics import metric_of, with_units
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.report.outputs import MAKER

COLORS = {
    "model": "#0b62a4",
    "persistence": "#d1622b",
    "climatology": "#6b7280",
    "weekly_climatology": "#a3a3a3",
    "linear": "#2e8b57",
    "perfect_model": "#be185d",
    "truth": "black",
}
BASELINES = ("persistence", "climatology", "weekly_climatology", "linear")
_MOST_CELLS = 20  # of a row of a scorecard
_MOST_LINEAR = 10  # ratios beyond have a logarithmic axis
_CYCLE = ("#8e44ad", "#b7950b", "#0891b2", "#c0392b", "#2c3e50")


def assign_colors(names: Sequence[str]) -> dict[str, str]:
    """A color for each forecast: a fixed one for known names, a cycle for others."""
    others = [name for name in names if name not in COLORS]
    return COLORS | {name: _CYCLE[i % len(_CYCLE)] for i, name in enumerate(others)}


def as_drawn(text: object) -> str:
    """A name or units for a figure as they are.

    Matplotlib reads what is between dollars as a formula, and hides labels that start with ``_``.
    """
    shown = printable(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def unit_label(field: xr.DataArray) -> str:
    """The units of a field in brackets, for an axis or a color bar; empty where they are 1."""
    return as_drawn(with_units("", str(field.attrs.get("units", ""))))


def plot_score_curves(scores: xr.Dataset, metrics: Sequence[str] = ("rmse", "acc")) -> Figure:
    """Metrics by lead time with their intervals, a column for each channel."""
    channels = scores["channel"].values
    size = 3.6 * len(channels) + 0.8, 2.6 * len(metrics) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(metrics), len(channels), squeeze=False, sharex=True)
    colors = assign_colors(scores["forecast"].values.tolist())
    for column, channel in enumerate(channels):
        for axis, metric in zip(axes[:, column], map(metric_of, metrics), strict=True):
            for name in scores["forecast"].values:
                curve = scores.sel(channel=channel, forecast=name)
                if not np.isnan(curve[metric.name]).all():
                    _draw_curve(axis, curve, metric.name, colors.get(name), as_drawn(name))
            axis.grid(alpha=0.3)
            axis.set_ylabel(as_drawn(metric.labelled(scores["units"].values[column])))
            if metric.best == "one" and scores[metric.name].max() > _MOST_LINEAR:
                axis.set_yscale("log")
            if metric.units == "same" and metric.best != "zero":
                axis.set_ylim(bottom=0)
        axes[0, column].set_title(as_drawn(channel), fontsize=10)
        axes[-1, column].set_xlabel(as_drawn(LeadTimes.of(scores).axis[1]))
    lines, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        lines, names, loc="outside lower center", ncols=3 if len(channels) < 2 else 6,
        frameon=False, fontsize=8,
    )  # fmt: skip
    return figure


def _draw_curve(axis: Axes, scores: xr.Dataset, metric: str, color: str | None, label: str) -> None:
    """A metric of one forecast and channel by lead time, with its interval."""
    times, _ = LeadTimes.of(scores).axis
    axis.plot(times, scores[metric].values, color=color, lw=2, label=label)
    if f"{metric}_interval" in scores:
        low, high = scores[f"{metric}_interval"].transpose("bound", ...).values
        axis.fill_between(times, low, high, color=color, alpha=0.2, lw=0)


def plot_scorecard(scores: xr.Dataset, forecast: str, metric: str = "rmse") -> Figure:
    """Change of a metric against the reference in per cent, channels by lead times.

    Cells whose difference is not distinguishable from chance are hatched.
    """
    lead_times = LeadTimes.of(scores)
    shown = lead_times.selected(_MOST_CELLS)
    change, certain = relative_change(scores.isel(lead_time=shown), forecast, metric)
    channels, leads = change["channel"].values, [lead_times.labels[i] for i in shown]
    size = 0.62 * len(leads) + 3, 0.32 * len(channels) + 1.6
    figure = Figure(figsize=size, layout="constrained")
    axis = figure.subplots()
    mesh = axis.imshow(change.values, cmap="RdBu_r", vmin=-50, vmax=50, aspect="auto")
    for row, column in np.ndindex(*change.shape):
        value = change.values[row, column]
        if np.isfinite(value):
            color = "white" if abs(value) > 35 else "black"
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": color}
            axis.text(column, row, f"{value:+.0f}", **style)
        if not certain.values[row, column]:
            corner = (column - 0.5, row - 0.5)
            axis.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", lw=0, alpha=0.3))
    axis.set_yticks(range(len(channels)), [as_drawn(c) for c in channels], fontsize=8)
    axis.set_xticks(range(len(leads)), leads, fontsize=8)
    axis.set_xlabel("lead time")
    reference = scores.attrs["reference"]
    title = f"{metric_of(metric).label}: {forecast} against {reference}"
    axis.set_title(as_drawn(title), fontsize=10)
    figure.colorbar(mesh, ax=axis, label="change [%]", extend="both")
    return figure


def relative_change(
    scores: xr.Dataset, forecast: str, metric: str = "rmse"
) -> tuple[xr.DataArray, xr.DataArray]:
    """Change against the reference in per cent, and where it is distinguishable from chance.

    Both are of dims (channel, lead_time).
    """
    reference = scores[metric].sel(forecast=scores.attrs["reference"])
    ours = scores[metric].sel(forecast=forecast)
    change = (100 * (ours / reference.where(reference != 0) - 1)).transpose("channel", "lead_time")
    verdict = f"{metric}_verdict"
    if verdict not in scores:
        return change, xr.ones_like(change, dtype=bool)
    certain = scores[verdict].sel(forecast=forecast) != 0
    return change, certain.transpose("channel", "lead_time")


def plot_loss_curve(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Training loss along the epochs and validation loss after each; a panel for each stage."""
    stages = sorted({record["stage"] for record in history})
    figure = Figure(figsize=(4.6 * len(stages) + 0.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(stages), squeeze=False)[0]
    for axis, stage in zip(axes, stages, strict=True):
        records = [record for record in history if record["stage"] == stage]
        losses = np.concatenate([record["train_losses"] for record in records])
        ends = np.linspace(records[0]["epoch"] - 1, records[-1]["epoch"], len(losses) + 1)[1:]
        axis.plot(ends, losses, color="#d1622b", label="training")
        validated = [record for record in records if record["validation_loss"] is not None]
        epochs, validation = ([r[k] for r in validated] for k in ("epoch", "validation_loss"))
        axis.plot(epochs, validation, color="#0b62a4", marker="o", label="validation")
        steps = records[0]["num_steps"]
        axis.set_title(f"stage {stage}: {steps} step{'s' if steps > 1 else ''}", fontsize=10)
        axis.set(yscale="log", xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("loss (1 = persistence over one step)")
    axes[0].legend(frameon=False)
    return figure


def plot_spectra(scores: xr.Dataset, channel: str, lead_indices: Sequence[int]) -> Figure:
    """Energy spectra of forecasts and truth, and their ratio; a column for each lead time."""
    count = len(lead_indices)
    figure = Figure(figsize=(3.2 * count + 0.6, 5.0), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False, sharex=True, sharey="row", height_ratios=[2, 1])
    axis = scores[scores["spectrum"].dims[-1]]
    spectrum = scores["spectrum"].sel(channel=channel).isel({axis.name: slice(1, None)})
    wavenumbers = axis.values[1:]
    # Climatologies do not change with the lead time. Weather has the same scales at another time;
    # on a torus they may grow or vanish.
    steady = ["climatology", "weekly_climatology"]
    if axis.name == "zonal_wavenumber":
        steady.append("persistence")
    names = [n for n in spectrum["source"].values.tolist() if n not in steady]
    colors = assign_colors(names)
    truth, leads = spectrum.sel(source="truth").values, LeadTimes.of(scores).labels
    for column, index in enumerate(lead_indices):
        for name in names:
            values = spectrum.sel(source=name).values[index]
            if np.isnan(values).all():
                continue
            axes[0, column].loglog(wavenumbers, values, color=colors[name], label=as_drawn(name))
            ratio = values / np.where(truth[index] > 0, truth[index], np.nan)
            axes[1, column].semilogx(wavenumbers, ratio, color=colors[name])
            for row, quantity in enumerate(("spectrum", "spectrum_ratio")):
                if f"{quantity}_interval" in scores:
                    bounds = scores[f"{quantity}_interval"].sel(channel=channel, source=name)
                    low, high = bounds.isel(lead_time=index).transpose("bound", ...).values[:, 1:]
                    style = {"color": colors[name], "alpha": 0.2, "lw": 0}
                    axes[row, column].fill_between(wavenumbers, low, high, **style)
        axes[1, column].axhline(0.5, color="gray", ls=":", lw=1)
        axes[1, column].set(xlabel=axis.attrs["long_name"], ylim=(0, 2))
        axes[0, column].set_title(leads[index], fontsize=10)
        for panel in axes[:, column]:
            panel.grid(alpha=0.3, which="both")
    units = scores["units"].sel(channel=channel).item()
    axes[0, 0].set_ylabel(as_drawn(with_units("energy", units, "({})²")))
    axes[1, 0].set_ylabel("over truth")
    axes[0, 0].legend(frameon=False, fontsize=8)
    return figure


def plot_spread_skill(scores: xr.Dataset, channel: str, forecast: str) -> Figure:
    """Spread and RMSE of an ensemble by lead time, and its rank histograms."""
    chosen = scores.sel(forecast=forecast, channel=channel)
    num_leads = scores.sizes["lead_time"]
    figure = Figure(figsize=(7.6, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_curve(left, chosen, "rmse", COLORS["model"], "RMSE of the mean")
    _draw_curve(left, chosen, "spread", COLORS["persistence"], "spread")
    units = scores["units"].sel(channel=channel).item()
    leads = LeadTimes.of(scores)
    left.set(xlabel=as_drawn(leads.axis[1]), ylabel=as_drawn(with_units("", units)), ylim=(0, None))
    left.legend(frameon=False, fontsize=8)
    left.grid(alpha=0.3)
    ranks = scores[f"rank_histogram_{forecast}"].sel(channel=channel).values
    for index in sorted({0, num_leads // 2, num_leads - 1}):
        label = leads.labels[index]
        right.step(np.arange(ranks.shape[1]), ranks[index], where="mid", label=label)
    right.axhline(1 / ranks.shape[1], color="gray", ls=":", lw=1)
    right.set(xlabel="members below truth", ylabel="share of cells", ylim=(0, None))
    right.legend(frameon=False, fontsize=8)
    return figure


def plot_reliability(scores: xr.Dataset, channel: str, lead_index: int) -> Figure:
    """Observed frequency of events against forecast probability; a panel for each quantile."""
    levels, names = scores["quantile"].values, scores["forecast"].values.tolist()
    figure = Figure(figsize=(3.3 * len(levels) + 0.4, 3.4), layout="constrained")
    axes = figure.subplots(1, len(levels), squeeze=False, sharey=True)[0]
    chosen, colors = scores.sel(channel=channel).isel(lead_time=lead_index), assign_colors(names)
    for axis, level in zip(axes, levels, strict=True):
        axis.plot([0, 1], [0, 1], color="gray", ls=":", lw=1)
        for name in names:
            point, style = chosen.sel(forecast=name, quantile=level), {"marker": "o", "ms": 3}
            line = point["reliability_probability"], point["reliability_frequency"]
            axis.plot(*line, color=colors[name], label=as_drawn(name), **style)
        axis.set_title(f"above the {level:g} quantile", fontsize=10)
        axis.set_xlabel("forecast probability")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("observed frequency")
    axes[0].legend(frameon=False, fontsize=8)
    return figure


def render(figure: Figure, form: str = "png") -> bytes:
    """The file of a figure, as PNG, or as PDF for papers, with ``MAKER`` in it."""
    buffer = BytesIO()
    named = {"Software" if form == "png" else "Creator": MAKER}
    figure.savefig(buffer, format=form, dpi=figure.dpi, metadata=named)
    return buffer.getvalue()


def plot_run_losses(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Validation losses of runs: for each its name, and pairs of a step and a loss."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, points in losses.items():
        steps, values = zip(*points, strict=True) if points else ((), ())
        axis.plot(steps, values, marker="o", ms=3, label=as_drawn(name))
    axis.set(yscale="log", xlabel="optimizer step", ylabel="validation loss")
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False)
    return figure
