"""Grids end where a network mirrors their fields, at every resolution."""

from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.forecaster.boundaries import check_ends, check_same_ends
from fourcastnet_afno.models.config import AFNONetConfig, Boundary
from tests.builders.errors import rejects

EXTENT = (2.0, 3.0)


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
