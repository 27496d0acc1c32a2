"""The same forecaster at other resolutions of a plane or the globe, interpolated and natively."""

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.forecaster.interpolation import Regridder
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from fourcastnet_afno.models.fourier.phase_origin import PhaseShifted
from tests.builders.errors import rejects

CHANNELS = Channels((Channel(name="u"), Channel(name="v")))
EXTENT = (2.0, 3.0)


def plane(rows: int, columns: int, *periodic: str) -> PlaneGrid:
    return PlaneGrid.regular(rows, columns, extent=EXTENT, periodic=periodic)


def from_zero(rows: int, columns: int) -> PlaneGrid:
    """A torus whose points start at the edge."""
    y, x = (
        tuple(np.linspace(0, length, n, endpoint=False).tolist())
        for n, length in zip((rows, columns), EXTENT, strict=True)
    )
    return PlaneGrid(y=y, x=x, periodic=("y", "x"), extent=EXTENT)


def with_ends(rows: int, columns: int) -> PlaneGrid:
    """A box whose outermost points lie on its boundary."""
    y, x = (
        tuple(np.linspace(0, length, n).tolist())
        for n, length in zip((rows, columns), EXTENT, strict=True)
    )
    return PlaneGrid(y=y, x=x, periodic=(), extent=EXTENT)


def waves(grid: Grid, seed: int = 0) -> Tensor:
    """Smooth fields (channel, rows, columns): waves of up to 2 periods, cosines on bounded axes."""
    rng = np.random.default_rng(seed)
    bases = []
    for axis in grid.dims:
        closes = axis in grid.periodic_axes
        angle = np.pi * grid.coords[axis] / grid.length(axis)
        orders = (0, 2, 4) if closes else (0, 1, 2)
        functions = [np.cos(k * angle) for k in orders]
        functions += [np.sin(k * angle) for k in orders[1:]] if closes else []
        bases.append(np.stack(functions))
    size = rng.standard_normal((2, len(bases[0]), len(bases[1])))
    return torch.from_numpy(0.3 * np.einsum("ckm,ky,mx->cyx", size, *bases)).float()


def make_forecaster(grid: Grid, **network: object) -> Forecaster:
    """Random weights, large enough that every nonlinearity is felt, and static fields."""
    settings: dict = {
        "patch_size": (1, 1),
        "embed_dim": 8,
        "depth": 2,
        "num_blocks": 2,
        "hard_thresholding_fraction": 0.6,
        "initialization": "small",
        "padding": Padding(latitude="reflect", longitude="wrap" if grid.is_periodic else "reflect"),
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        spec = FieldSpec(
            channels=CHANNELS,
            static_channels=Channels((Channel(name="orography"),)),
            forcings=(),
            grid=grid,
            step=Timestep.parse("1h"),
        )
        forecaster = Forecaster(
            ModelConfig(network=AFNONetConfig(**(settings | network))),  # type: ignore[arg-type]
            spec,
            mean=torch.zeros(2),
            std=torch.ones(2),
            diff_std=torch.ones(2),
            static=waves(grid, 7)[:1],
        )
        for name, weight in forecaster.named_parameters():
            if "mixer" in name:
                weight.data.mul_(20)
    return forecaster.eval()


@torch.no_grad()
def change(forecaster: Forecaster, grid: Grid) -> Tensor:
    state = waves(grid)
    return (
        forecaster(state[None, None], torch.zeros(1, 0, *forecaster.network_grid.shape))[0] - state
    )


def difference(found: Tensor, expected: Tensor) -> float:
    return float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))


@pytest.mark.parametrize("target", [(16, 24), (13, 20), (7, 9)])
def test_periodic_fields_are_interpolated_exactly(target: tuple[int, int]) -> None:
    given, wanted = plane(8, 12, "y", "x"), plane(*target, "y", "x")
    regridded = Regridder(given, wanted, CHANNELS)(waves(given))
    torch.testing.assert_close(regridded, waves(wanted), rtol=0, atol=1e-5)


def test_bounded_axes_are_interpolated_by_cubics() -> None:
    given, wanted = plane(6, 8), plane(12, 21)
    fields = [
        torch.from_numpy(
            (g.coords["y"] ** 3 - 2 * g.coords["y"])[:, None] * (1 + g.coords["x"] ** 2)[None]
        )
        for g in (given, wanted)
    ]
    pair = [field.float().expand(2, *field.shape) for field in fields]
    regridded = Regridder(given, wanted, CHANNELS)(pair[0])
    torch.testing.assert_close(regridded, pair[1], rtol=1e-4, atol=1e-4)
    line, fine = (PlaneGrid.regular(1, n, periodic=()) for n in (8, 16))
    ramp, finer = (torch.from_numpy(g.coords["x"]).float().expand(2, 1, -1) for g in (line, fine))
    torch.testing.assert_close(Regridder(line, fine, CHANNELS)(ramp), finer)


def test_grids_of_another_domain_are_refused() -> None:
    wider = PlaneGrid.regular(8, 12, extent=(2.0, 4.0))
    for other in (wider, plane(8, 12), plane(8, 12, "y")):
        with rejects("grid-mismatch"):
            Regridder(plane(8, 12, "y", "x"), other, CHANNELS)
    with rejects("needs-sphere", "forecast.regrid"):
        Regridder(plane(8, 12), LatLonGrid.equiangular(8, 12), CHANNELS)
    forecaster = make_forecaster(plane(8, 12, "y", "x"))
    with rejects("grid-mismatch", "forecast.resolution=native"):
        forecaster.on_grid(wider, "native")
    tied = make_forecaster(plane(8, 12, "y", "x"), mode_selection="fourcastnet")
    with rejects("bad-setting", "forecast.resolution=native"):
        tied.on_grid(plane(16, 24, "y", "x"), "native")


def test_interpolation_leaves_the_operator_as_it_is() -> None:
    coarse, fine = plane(16, 24, "y", "x"), plane(32, 48, "y", "x")
    forecaster = make_forecaster(coarse, patch_size=(2, 2))
    found = change(forecaster.on_grid(fine), fine)
    expected = Regridder(coarse, fine, CHANNELS)(change(forecaster, coarse))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


# A grid, and another resolution of the same domain of which every ``stride``-th point is its own.
NATIVE = {
    "torus from the edge": (from_zero(24, 36), from_zero(48, 72), slice(None, None, 2)),
    "torus of cells": (plane(24, 36, "y", "x"), plane(72, 108, "y", "x"), slice(1, None, 3)),
    "channel of cells": (plane(24, 36, "x"), plane(72, 108, "x"), slice(1, None, 3)),
    "box of cells": (plane(24, 36), plane(72, 108), slice(1, None, 3)),
    "box with its boundary": (with_ends(25, 37), with_ends(49, 73), slice(None, None, 2)),
    "line of cells": (
        PlaneGrid.regular(1, 36, extent=EXTENT, periodic=("x",)),
        PlaneGrid.regular(1, 108, extent=EXTENT, periodic=("x",)),
        slice(1, None, 3),
    ),
}


def disagreement(trained: Forecaster, other: Forecaster, name: str) -> float:
    coarse, fine, common = NATIVE[name]
    rows = common if coarse.shape[0] > 1 else slice(None)
    return difference(change(other, fine)[:, rows, common], change(trained, coarse))


@pytest.mark.parametrize("name", NATIVE)
def test_a_network_of_points_is_the_same_operator_at_any_resolution(name: str) -> None:
    """Measured: at most 1.2e-3, of what the coarser grid does not resolve of nonlinearities.

    With phases counted from the first point, whose place depends on the size of a cell, 0.05.
    """
    coarse, fine, _ = NATIVE[name]
    edge = "mirrored" if name == "box with its boundary" else "reflected"
    sides = tuple("periodic" if a in coarse.periodic_axes else edge for a in coarse.dims)
    trained = make_forecaster(coarse, boundary=sides)
    native = trained.on_grid(fine, "native")
    assert disagreement(trained, native, name) < 3e-3
    from_cells = coarse.coords["x"][0] > 0 and "periodic" in sides
    assert [isinstance(b.mixer, PhaseShifted) for b in native.network.blocks] == [from_cells] * 2
    if from_cells:
        for block in native.network.blocks:
            block.mixer = block.mixer.mixer  # type: ignore[assignment, union-attr]
        assert disagreement(trained, native, name) > 3e-2


@pytest.mark.parametrize("mixer", ["fno", "global_filter", "attention"])
def test_other_mixers_do_not_see_where_the_grid_starts(mixer: str) -> None:
    coarse, fine, _ = NATIVE["torus of cells"]
    trained = make_forecaster(coarse, mixer=mixer)
    assert disagreement(trained, trained.on_grid(fine, "native"), "torus of cells") < 5e-3


def test_margins_keep_their_share_of_the_domain() -> None:
    """Measured: 1e-2, as fields are mirrored around the outermost points, not around the edge."""
    margin = {"latitude": "reflect", "longitude": "reflect"}
    trained = make_forecaster(plane(24, 36), padding=Padding(**margin, margin=(2, 3)))  # type: ignore[arg-type]
    native = trained.on_grid(plane(72, 108), "native")
    assert native.network.padding.margin == (6, 9)
    assert disagreement(trained, native, "box of cells") < 3e-2
    assert trained.network.padding.margin == (2, 3)


@pytest.mark.parametrize("pole", ["none", "double_fourier_sphere"])
def test_the_globe_too(pole: str) -> None:
    """Measured: 6e-4, and 4e-3 without, as beyond the edges nothing goes on smoothly."""
    coarse, fine = LatLonGrid.equiangular(16, 32), LatLonGrid.equiangular(48, 96)
    trained = make_forecaster(coarse, pole=pole)
    pair = [sphere(grid) for grid in (coarse, fine)]
    found = [
        f(state[None, None], torch.zeros(1, 0, *state.shape[1:]))[0].detach() - state
        for f, state in zip((trained, trained.on_grid(fine, "native")), pair, strict=True)
    ]
    assert difference(found[1][:, 1::3, ::3], found[0]) < 1e-2


def sphere(grid: LatLonGrid) -> Tensor:
    x, y, z = grid.coordinate_channels()
    return torch.from_numpy(np.stack([x * y + z, x - z * y])).float()
