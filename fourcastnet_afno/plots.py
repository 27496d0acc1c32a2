"""Figures from datasets of scores and fields. Nothing is computed here beyond differences."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from data_pipeline.atomic import replacing
from data_pipeline.progress import track

COLORS = {"model": "#0b62a4", "persistence": "#d1622b", "climatology": "#6b7280", "truth": "black"}
_GIF_FRAMES = 40


def score_curves(scores: xr.Dataset) -> Figure:
    """RMSE and ACC by lead time, a column for each channel."""
    channels = scores["channel"].values
    figure = Figure(figsize=(3.6 * len(channels) + 0.8, 5.6), layout="constrained")
    axes = figure.subplots(2, len(channels), squeeze=False, sharex=True)
    days = scores["lead_time"].values / np.timedelta64(1, "D")
    for column, channel in enumerate(channels):
        units = scores["units"].values[column]
        for row, metric in enumerate(("rmse", "acc")):
            axis: Axes = axes[row, column]
            for name in scores["forecast"].values:
                values = scores[metric].sel(forecast=name, channel=channel).values
                axis.plot(days, values, color=COLORS.get(name), label=name, lw=2)
            axis.grid(alpha=0.3)
        axes[0, column].set_title(channel, fontsize=10)
        axes[0, column].set_ylabel(f"RMSE [{units}]")
        axes[0, column].set_ylim(bottom=0)
        axes[1, column].set_ylabel("ACC")
        axes[1, column].set_xlabel("lead time [days]")
    axes[0, 0].legend(frameon=False)
    return figure


def loss_curve(history: Sequence[Mapping[str, Any]]) -> Figure:
    """Training loss along the epochs and validation loss after each; a panel for each stage."""
    stages = sorted({record["stage"] for record in history})
    figure = Figure(figsize=(4.6 * len(stages) + 0.6, 3.6), layout="constrained")
    axes = figure.subplots(1, len(stages), squeeze=False)[0]
    for axis, stage in zip(axes, stages, strict=True):
        records = [record for record in history if record["stage"] == stage]
        losses = np.concatenate([record["train_losses"] for record in records])
        first, last = records[0]["epoch"] - 1, records[-1]["epoch"]
        ends = np.linspace(first, last, len(losses) + 1)[1:]
        axis.plot(ends, losses, color="#d1622b", label="training")
        validated = [record for record in records if record["validation_loss"] is not None]
        epochs = [record["epoch"] for record in validated]
        validation = [record["validation_loss"] for record in validated]
        axis.plot(epochs, validation, color="#0b62a4", marker="o", label="validation")
        steps = records[0]["num_steps"]
        axis.set_title(f"stage {stage}: {steps} step{'s' if steps > 1 else ''}", fontsize=10)
        axis.set_yscale("log")
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("loss (1 = persistence over one step)")
    axes[0].legend(frameon=False)
    return figure


def error_maps(truth: xr.DataArray, predictions: xr.DataArray) -> Figure:
    """Truth, forecast and forecast minus truth; a row for each lead time.

    Args:
        truth: (lead_time, latitude, longitude) at the valid times, with ``units``.
        predictions: Likewise.
    """
    figure = Figure(figsize=(12.5, 2.4 * truth.sizes["lead_time"] + 0.3), layout="constrained")
    axes = figure.subplots(truth.sizes["lead_time"], 3, squeeze=False, sharex=True, sharey=True)
    difference = predictions - truth
    low, high = float(truth.min()), float(truth.max())
    largest = float(np.abs(difference).max()) or 1.0
    units = truth.attrs.get("units", "")
    for row, lead in enumerate(truth["lead_time"].values):
        hours = int(lead / np.timedelta64(1, "h"))
        for column, (name, field) in enumerate(
            (("truth", truth), ("forecast", predictions), ("forecast minus truth", difference))
        ):
            limits = (-largest, largest) if column == 2 else (low, high)
            mesh = _draw(
                axes[row, column], field[row], limits, "RdBu_r" if column == 2 else "viridis"
            )
            axes[row, column].set_title(f"{name}, {hours} h", fontsize=9)
            if column > 0:
                figure.colorbar(mesh, ax=axes[row, column], label=units)
        axes[row, 0].set_ylabel("latitude")
    for column in range(3):
        axes[-1, column].set_xlabel("longitude")
    return figure


def _draw(axis: Axes, field: xr.DataArray, limits: tuple[float, float], cmap: str):  # noqa: ANN202
    return axis.pcolormesh(
        field["longitude"], field["latitude"], field.values,
        vmin=limits[0], vmax=limits[1], cmap=cmap, shading="nearest",
    )  # fmt: skip


def spectra(scores: xr.Dataset, channel: str, lead_indices: Sequence[int]) -> Figure:
    """Zonal energy spectra of model and truth, a panel for each lead time."""
    figure = Figure(figsize=(3.2 * len(lead_indices) + 0.6, 3.4), layout="constrained")
    axes = figure.subplots(1, len(lead_indices), squeeze=False, sharey=True)[0]
    spectrum = scores["spectrum"].sel(channel=channel).isel(zonal_wavenumber=slice(1, None))
    wavenumbers = np.arange(1, spectrum.sizes["zonal_wavenumber"] + 1)
    for axis, index in zip(axes, lead_indices, strict=True):
        for name in ("truth", "model"):
            axis.loglog(
                wavenumbers, spectrum.sel(source=name).values[index], color=COLORS[name], label=name
            )
        hours = int(scores["lead_time"].values[index] / np.timedelta64(1, "h"))
        axis.set_title(f"{hours} h", fontsize=10)
        axis.set_xlabel("zonal wavenumber")
        axis.grid(alpha=0.3, which="both")
    units = scores["units"].sel(channel=channel).item()
    axes[0].set_ylabel(f"energy [({units})$^2$]")
    axes[0].legend(frameon=False)
    return figure


def rollout_animation(truth: xr.DataArray, predictions: xr.DataArray, path: Path) -> None:
    """Write truth beside forecast as a GIF, a frame for each lead time (at most 40).

    Args:
        truth: (lead_time, latitude, longitude) at the valid times.
        predictions: Likewise.
        path: File to write.
    """
    count = truth.sizes["lead_time"]
    chosen = np.unique(np.linspace(0, count - 1, min(count, _GIF_FRAMES)).round().astype(int))
    figure = Figure(figsize=(9.5, 3), layout="constrained", dpi=80)
    axes = figure.subplots(1, 2, sharey=True)
    limits = float(truth.min()), float(truth.max())
    meshes = [
        _draw(axis, field[0], limits, "viridis")
        for axis, field in zip(axes, (truth, predictions), strict=True)
    ]
    figure.colorbar(meshes[1], ax=axes, label=truth.attrs.get("units", ""))
    frames = []
    for index in track(chosen, "Drawing the animation"):
        hours = int(truth["lead_time"].values[index] / np.timedelta64(1, "h"))
        for axis, mesh, field, name in zip(
            axes, meshes, (truth, predictions), ("truth", "forecast"), strict=True
        ):
            mesh.set_array(field.values[index])
            axis.set_title(f"{name}, {hours // 24} d {hours % 24:02d} h", fontsize=10)
        frames.append(Image.open(BytesIO(png(figure))).convert("RGB"))
    # One palette for all frames, from the first and the last: viewers mix up palettes by frame.
    both = Image.new("RGB", (frames[0].width, 2 * frames[0].height))
    both.paste(frames[0])
    both.paste(frames[-1], (0, frames[0].height))
    palette = both.quantize(256)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    with replacing(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=150,
            loop=0,
        )


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=figure.dpi)
    return buffer.getvalue()


def run_losses(losses: Mapping[str, Sequence[tuple[int, float]]]) -> Figure:
    """Validation losses of several runs by step.

    Args:
        losses: Steps and losses by name of the run.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axis = figure.subplots()
    for name, points in losses.items():
        steps, values = zip(*points, strict=True) if points else ((), ())
        axis.plot(steps, values, marker="o", ms=3, label=name)
    axis.set_yscale("log")
    axis.set_xlabel("optimizer step")
    axis.set_ylabel("validation loss")
    axis.grid(alpha=0.3, which="both")
    axis.legend(frameon=False)
    return figure
