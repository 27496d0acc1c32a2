"""Limited areas follow driving states, and grids end where a network mirrors their fields."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.forecaster.boundaries import check_ends, check_same_ends, with_boundary
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.forecaster.export import describe, example_inputs
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.models.config import AFNONetConfig, Boundary, Padding
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states

EXTENT = (2.0, 3.0)
TIMES = np.array(["2001-01-01", "2001-07-01"], "datetime64[ns]")
CLOSED = Padding(latitude="reflect", longitude="reflect")
SMALL = {"patch_size": (2, 2), "embed_dim": 8, "depth": 1, "num_blocks": 2}
AREA = LatLonGrid(
    latitude=(60.0, 55.0, 50.0, 45.0, 40.0, 35.0), longitude=tuple(5.0 * i for i in range(8))
)


@pytest.fixture(scope="module")
def forecaster() -> Forecaster:
    """Of an area with a zone of two cells."""
    plain = make_forecaster(AREA, network=AFNONetConfig(**SMALL, padding=CLOSED))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        moments = [t.flatten() for t in plain.scales[:3]]
        return Forecaster(
            plain.config,
            replace(plain.spec, boundary_width=2),
            **dict(zip(("mean", "std", "diff_std"), moments, strict=True)),
            static=torch.zeros(0, *AREA.shape),
        )


def step(forecaster: Forecaster, state: Tensor, driving: Tensor) -> Tensor:
    forcing = forecaster.forcing_at(TIMES)
    return forecaster(state, with_boundary(forcing, driving))


def test_the_outermost_cells_are_those_of_the_driving_state(forecaster: Forecaster) -> None:
    state, driving = make_states(forecaster, 2, 1), make_states(forecaster, 2, seed=1)
    following = step(forecaster, state, driving)
    for edge in (0, -1):
        assert torch.equal(following[..., edge, :], driving[..., edge, :])
        assert torch.equal(following[..., edge], driving[..., edge])
    assert not torch.equal(following[..., 1, 1:-1], driving[..., 1, 1:-1])


def test_nothing_is_known_of_the_driving_state_inside(forecaster: Forecaster) -> None:
    state, driving = make_states(forecaster, 2, 1), make_states(forecaster, 2, seed=1)
    other = driving.clone()
    other[..., 2:-2, 2:-2] = torch.nan
    assert torch.equal(step(forecaster, state, driving), step(forecaster, state, other))
    other = driving.clone()
    other[..., 0, :] += 100  # at an edge it is seen by the network, which changes the inside
    changed = step(forecaster, state, driving) - step(forecaster, state, other)
    assert changed[..., 2:-2, 2:-2].abs().max() > 0


def test_a_step_without_its_driving_state_is_a_defect(forecaster: Forecaster) -> None:
    with pytest.raises(ValueError, match="driving state"):
        forecaster(make_states(forecaster, 2, 1), forecaster.forcing_at(TIMES))


def test_a_checkpoint_keeps_the_width_and_others_have_none(
    forecaster: Forecaster, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "a.safetensors", forecaster, {}, {})
    loaded = load_forecaster(tmp_path / "a.safetensors")
    assert loaded.spec.boundary_width == 2
    state, driving = make_states(forecaster, 2, 1), make_states(forecaster, 2, seed=1)
    assert torch.equal(step(loaded, state, driving), step(forecaster.eval(), state, driving))
    assert "boundary_width" not in make_forecaster().spec.to_json()
    with rejects("bad-record", "boundary_width"):
        FieldSpec.from_json({**forecaster.spec.to_json(), "boundary_width": -1})


def test_another_grid_is_rejected(forecaster: Forecaster) -> None:
    with rejects("grid-mismatch", "data.boundary", str(AREA)):
        forecaster.on_grid(LatLonGrid.equiangular(6, 12))


def test_an_exported_step_takes_the_driving_state_too(forecaster: Forecaster) -> None:
    state, forcing = example_inputs(forecaster, 2)
    assert list(forcing.shape) == describe(forecaster, 2)["inputs"]["forcing"] == [2, 3, 6, 8]
    assert forecaster(state, forcing).isfinite().all()


def make_network(y: Boundary, x: Boundary) -> AFNONetConfig:
    return AFNONetConfig(patch_size=(1, 1), boundary=(y, x))


def make_cells(rows: int, columns: int, *periodic: str) -> Grid:
    return PlaneGrid.regular(rows, columns, extent=EXTENT, periodic=periodic)


def make_points(rows: int, columns: int) -> Grid:
    """The outermost points are on the boundary."""
    y, x = (
        tuple(length * i / (n - 1) for i in range(n))
        for length, n in zip(EXTENT, (rows, columns), strict=True)
    )
    return PlaneGrid(y=y, x=x, periodic=(), extent=EXTENT)


def test_mirrored_axes_have_points_on_both_ends() -> None:
    check_ends(make_network("mirrored", "mirrored"), make_points(9, 13), "model.network")
    with rejects("boundary-mismatch", "model.network.boundary=mirrored", "extent_y"):
        check_ends(make_network("mirrored", "mirrored"), make_cells(8, 12), "model.network")
    with rejects("boundary-mismatch", "diagnostic.network.boundary=mirrored", "x of the grid"):
        check_ends(
            make_network("reflected", "mirrored"), make_cells(8, 12, "x"), "diagnostic.network"
        )
    line = PlaneGrid(y=(0.5,), x=(0.0, 1.5, 3.0), periodic=(), extent=EXTENT)
    check_ends(make_network("mirrored", "mirrored"), line, "model.network")


def test_other_resolutions_end_at_the_same_locations() -> None:
    mirrored, reflected = (make_network(kind, kind) for kind in ("mirrored", "reflected"))  # type: ignore[arg-type]
    check_same_ends(mirrored, make_points(9, 13), make_points(17, 25))
    check_same_ends(reflected, make_cells(8, 12), make_cells(16, 24))
    with rejects("boundary-mismatch", "boundary=mirrored", "the last y"):
        check_same_ends(mirrored, make_points(9, 13), make_cells(16, 24))
    with rejects("boundary-mismatch", "boundary=reflected", "y -0.125"):
        check_same_ends(reflected, make_points(9, 13), make_points(17, 25))
    region, inside = (
        LatLonGrid(latitude=latitude, longitude=(0.0, 5.0, 10.0, 15.0))
        for latitude in ((30.0, 20.0, 10.0), (27.5, 22.5, 17.5, 12.5))
    )
    with rejects("boundary-mismatch", "boundary=mirrored", "latitude 30 and 10"):
        check_same_ends(mirrored, region, inside)
    check_same_ends(reflected, region, inside)  # grids on the sphere state no domain
