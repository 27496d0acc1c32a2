"""The pictures of ``docs/gallery.md``, made from the simulators.

    python -m website.gallery [NAME ...]

It writes ``docs/images/gallery/NAME.png`` in a few seconds each; without names it makes all.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from data_pipeline import LatLonGrid, PDEConfig, SimulationConfig, Splits, simulate_planet
from data_pipeline.files.atomic import replacing
from data_pipeline.simulation.pde_dataset import solve
from fourcastnet_afno.inference.perturbations import SphericalRandomField

FOLDER = Path(__file__).parents[1] / "docs" / "images" / "gallery"
_ONE = Splits(train=1, validation=0, test=0)
_DOTS_PER_INCH = 80


def draw_planet() -> Figure:
    """Geopotential and vorticity of the simulated planet after a month."""
    config = SimulationConfig(
        num_trajectories=1, days=1, spinup_days=30, num_latitudes=64, num_longitudes=128
    )
    state = simulate_planet(config).isel(time=-1)
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    panels = [("geopotential", "viridis", 1e-4), ("relative_vorticity", "RdBu_r", 1e5)]
    titles = ["geopotential [10$^4$ m$^2$ s$^{-2}$]", "relative vorticity [10$^{-5}$ s$^{-1}$]"]
    for axis, (name, colors, scale), title in zip(
        figure.subplots(1, 2), panels, titles, strict=True
    ):
        field = scale * state[name].values
        largest = np.abs(field).max() if colors == "RdBu_r" else None
        limits = {"vmin": -largest, "vmax": largest} if largest else {}
        image = axis.imshow(field, cmap=colors, extent=(0, 360, -90, 90), **limits)
        axis.set(title=title, xlabel="longitude", ylabel="latitude")
        figure.colorbar(image, ax=axis, shrink=0.8)
    return figure


def draw_kolmogorov() -> Figure:
    """Vorticity of a flow that a sine drives and drag holds."""
    config = PDEConfig(
        equation="kolmogorov_flow",
        parameters={"viscosity": 0.02, "drag": 0.1, "forcing": 1.0, "wavenumber": 4},
        resolution=[96, 96], num_steps=3, timestep=2.0, substeps=120, spinup_steps=10,
        trajectories=_ONE,
    )  # fmt: skip
    return _draw_times(config, solve(config, [0])[0, :, 0])


def draw_gray_scott() -> Figure:
    """The second substance of a reaction: labyrinths grow from a few bumps."""
    config = PDEConfig(
        equation="gray_scott",
        parameters={"feed": 0.04, "kill": 0.06, "diffusion_u": 2e-5, "diffusion_v": 1e-5},
        resolution=[96, 96], num_steps=3, timestep=600.0, substeps=300, trajectories=_ONE,
    )  # fmt: skip
    return _draw_times(config, solve(config, [0])[0, :, 1], colors="magma", symmetric=False)


def draw_kuramoto_sivashinsky() -> Figure:
    """Chaos on a line, in space and time."""
    config = PDEConfig(
        equation="kuramoto_sivashinsky", parameters={"length": 64.0}, resolution=[128],
        num_steps=200, timestep=1.0, substeps=10, spinup_steps=50, trajectories=_ONE,
    )  # fmt: skip
    return _draw_line(config, solve(config, [0])[0, :, 0, 0], length=64.0)


def draw_burgers() -> Figure:
    """Waves on a line that steepen and decay, in space and time."""
    config = PDEConfig(
        equation="burgers", parameters={"viscosity": 0.005}, resolution=[512],
        num_steps=100, timestep=0.02, substeps=40, trajectories=_ONE,
    )  # fmt: skip
    return _draw_line(config, solve(config, [0])[0, :, 0, 0], length=1.0)


def draw_darcy() -> Figure:
    """Permeability of a porous medium, and the pressure in it."""
    config = PDEConfig(equation="darcy", resolution=[129, 129], trajectories=_ONE)
    permeability, pressure = solve(config, [0])[0, 1]
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    panels = [(permeability, "permeability", "cividis"), (pressure, "pressure", "viridis")]
    for axis, (field, title, colors) in zip(axes, panels, strict=True):
        image = axis.imshow(field, cmap=colors, origin="lower", extent=(0, 1, 0, 1))
        axis.set(title=title, xlabel="x", ylabel="y")
        figure.colorbar(image, ax=axis, shrink=0.9)
    return figure


def draw_random_fields() -> Figure:
    """Gaussian random fields on the sphere, by which the members of an ensemble differ."""
    grid = LatLonGrid.equiangular(64, 128)
    figure = Figure(figsize=(12, 2.6), layout="constrained")
    for axis, kilometers in zip(figure.subplots(1, 3), (500.0, 1500.0, 4000.0), strict=True):
        field = SphericalRandomField(grid, kilometers)
        (values,) = field.draw(np.random.default_rng(0), 1)
        axis.imshow(values, cmap="RdBu_r", vmin=-3, vmax=3, extent=(0, 360, -90, 90))
        axis.set(title=f"length scale {kilometers:g} km", xlabel="longitude")
    return figure


def _draw_times(
    config: PDEConfig,
    fields: Float[np.ndarray, "time y x"],
    *,
    colors: str = "RdBu_r",
    symmetric: bool = True,
) -> Figure:
    """States of a square, one after the other."""
    figure = Figure(figsize=(3 * len(fields) + 0.8, 3.1), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(fields), sharey=True)
    largest, least = np.abs(fields).max(), fields.min()
    for step, (axis, field) in enumerate(zip(axes, fields, strict=True)):
        limits = {"vmin": -largest if symmetric else least, "vmax": largest}
        image = axis.imshow(field, cmap=colors, origin="lower", **limits)
        axis.set(title=f"time {step * config.timestep:g}", xticks=[], yticks=[])
    figure.colorbar(image, ax=list(axes), shrink=0.8)
    return figure


def _draw_line(config: PDEConfig, fields: Float[np.ndarray, "time x"], *, length: float) -> Figure:
    """States of a line, time to the right."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axis, largest = figure.subplots(), np.abs(fields).max()
    extent = (0, (len(fields) - 1) * config.timestep, 0, length)
    image = axis.imshow(
        fields.T, cmap="RdBu_r", vmin=-largest, vmax=largest, extent=extent, aspect="auto",
        origin="lower",
    )  # fmt: skip
    axis.set(xlabel="time", ylabel="x")
    figure.colorbar(image, ax=axis, shrink=0.9, label="velocity")
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "planet": draw_planet,
    "random_fields": draw_random_fields,
    "kolmogorov": draw_kolmogorov,
    "gray_scott": draw_gray_scott,
    "kuramoto_sivashinsky": draw_kuramoto_sivashinsky,
    "burgers": draw_burgers,
    "darcy": draw_darcy,
}
"""What draws a picture, by its name."""


def make(name: str, folder: Path = FOLDER) -> Path:
    """Draw a picture and write it to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    with replacing(path) as temporary:
        figure = PICTURES[name]()
        figure.savefig(temporary, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return path


if __name__ == "__main__":
    for wanted in sys.argv[1:] or PICTURES:
        print(make(wanted))
