"""Pictures of AFNO's predictions at resolutions that it was not trained with."""

from pathlib import Path

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.pde.problems import Problem, Shape, array_name
from benchmarks.pde.runs import Run, load_trained
from benchmarks.pde.training import one_step, spread_pairs
from data_pipeline.files.atomic import replacing
from fourcastnet_afno.evaluation.statistics.spectra import zonal_energy_spectrum

_TITLES = ("truth", "prediction", "error", "spectrum along x")
_SAMPLES = 20
_LEAST_POWER = 1e-9  # of the largest, below which is rounding


def draw(problem: Problem, output: Path, images: Path) -> Path | None:
    """Draw truth, prediction and error of a sample and spectra of many; a row a resolution.

    The last channel of the state is shown, one step ahead, of the network of seed 0.

    Args:
        problem: The learned problem.
        output: Folder of data and weights.
        images: Folder for the picture.

    Returns:
        Path of the picture; None if the run has not ended.
    """
    run = Run(problem=problem, label="afno", kind="afno", seed=0)
    if not run.path(output).exists():
        return None
    data = problem.load(output / "data")
    surrogate = load_trained(run, data, output)
    shapes = sorted(problem.test_shapes)
    figure = Figure(figsize=(12, 2.9 * len(shapes)), layout="constrained")
    rows = figure.subplots(len(shapes), 4, squeeze=False)
    for axes, shape in zip(rows, shapes, strict=True):
        states, targets = spread_pairs(data[array_name(shape)], _SAMPLES)
        with torch.inference_mode():
            predicted = one_step(surrogate, states)
        _draw_row(axes, problem, shape, targets[:, -1], predicted[:, -1])
    for axis, title in zip(rows[0], _TITLES, strict=True):
        axis.set_title(title)
    path = images / f"pde_{problem.name}.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=80, bbox_inches="tight")
    return path


def _draw_row(
    axes: np.ndarray, problem: Problem, shape: Shape, truth: Tensor, predicted: Tensor
) -> None:
    trained = " (trained)" if shape == problem.train_shape else ""
    axes[0].set_ylabel(f"{shape[0]} x {shape[1]}{trained}")
    error = predicted - truth
    largest = truth[0].abs().max().item()
    limits = (largest, largest, error[0].abs().max().item())
    fields_by_column = (truth, predicted, error)
    for axis, fields, limit in zip(axes, fields_by_column, limits, strict=False):
        _show(axis, fields[0].numpy(), limit)
    spectra = [spectrum(fields.numpy(), problem.steady).mean(0) for fields in fields_by_column]
    for name, power in zip(_TITLES, spectra, strict=False):
        axes[3].loglog(np.arange(1, len(power)), power[1:], label=name)
    largest = max(power[1:].max() for power in spectra)
    axes[3].set_ylim(_LEAST_POWER * largest, 3 * largest)
    axes[3].axvline(
        (problem.train_shape[1] - 1) / (1 if problem.steady else 2), color="gray", linestyle=":"
    )
    axes[3].legend(fontsize="small")
    axes[3].set_xlabel("wavenumber (dotted: training)")


def _show(axis: Axes, field: Float[np.ndarray, "y x"], limit: float) -> None:
    image = axis.imshow(field, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.figure.colorbar(image, ax=axis, shrink=0.8)


def spectrum(
    fields: Float[np.ndarray, "sample y x"], is_bounded: bool
) -> Float[np.ndarray, "sample wavenumber"]:
    """Mean square of the waves along x, the mean over rows.

    Args:
        fields: Values on the points of a periodic axis, or of an axis with both ends, zero there.
        is_bounded: Whether waves are sines of half periods, with zeros at both ends.
    """
    if not is_bounded:
        return zonal_energy_spectrum(fields, np.ones(fields.shape[-2:]))
    amplitudes = scipy.fft.dst(fields[..., 1:-1], type=1, axis=-1) / (fields.shape[-1] - 1)
    return np.pad((amplitudes**2 / 2).mean(-2), ((0, 0), (1, 0)))
