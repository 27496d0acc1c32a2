"""Boundaries: driving states of limited areas, and checks that AFNO's suit the points of a grid.

See ``data_pipeline.grids.relaxation`` and ``models.fourier.transforms``.

Mirrored axes have their outermost points on the boundary of the domain, reflected ones half a cell
from it. On one grid either is an operator; at other resolutions it is the same operator only where
fields are continued beyond the same locations.
"""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import require_latlon
from data_pipeline.grids.relaxation import relaxation_weights
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows


class BoundaryRelaxation(nn.Module):
    """Draws states of a limited area to driving ones, see ``data_pipeline.grids.relaxation``.

    Args:
        grid: Of the area.
        width: Cells in the zone along each open edge.

    Raises:
        InputError: If the grid has no open edge, or the zone leaves no cell inside.
    """

    weights: Tensor

    def __init__(self, grid: Grid, width: int) -> None:
        super().__init__()
        weights = torch.from_numpy(relaxation_weights(grid, width)).float()
        self.register_buffer("weights", weights, persistent=False)

    def split(
        self, forcing: Float[Tensor, "batch forcing lat lon"], num_forcings: int
    ) -> tuple[Tensor, Tensor]:
        """The forcings of a step, and the driving state of the time that it leads to.

        Raises:
            ValueError: If that is missing.
        """
        if forcing.shape[1] == num_forcings:
            raise ValueError(
                f"a forecaster of a limited area takes {num_forcings} forcings and a driving state "
                "after them, got only forcings; append it by with_boundary"
            )
        return forcing[:, :num_forcings], forcing[:, num_forcings:]

    def within(
        self, fields: Float[Tensor, "batch channel lat lon"], rows: Rows = ALL_ROWS
    ) -> Float[Tensor, "batch channel lat lon"]:
        """Fields in the zone, and 0 elsewhere, where nothing is known of what drives it."""
        return torch.where(self.weights[rows.field_slice] > 0, fields, 0)

    def forward(
        self,
        state: Float[Tensor, "batch channel lat lon"],
        driving: Float[Tensor, "batch channel lat lon"],
        rows: Rows = ALL_ROWS,
    ) -> Float[Tensor, "batch channel lat lon"]:
        """The state, drawn to the driving one; exactly that one where the weight is 1."""
        return torch.lerp(state, self.within(driving, rows), self.weights[rows.field_slice])


def with_boundary(
    forcing: Float[Tensor, "*batch forcing lat lon"],
    driving: Float[Tensor, "*batch channel lat lon"],
) -> Float[Tensor, "*batch forcing_and_channel lat lon"]:
    """The forcing of a step of a limited area, followed by the driving state it leads to."""
    return torch.cat([forcing, driving], dim=-3)


def adapt_config_to_grid(network: AFNONetConfig, grid: Grid, name: str) -> AFNONetConfig:
    """A network whose weights are those of wavenumbers on ``grid``.

    Raises:
        InputError: If the padding joins edges of the grid that are no neighbors, or the network
            knows poles or mirrors fields and the grid does not end there; the message starts
            with ``name``.
    """
    for key, axis in zip(("latitude", "longitude"), grid.dims, strict=True):
        if getattr(network.padding, key) == "wrap" and axis not in grid.periodic_axes:
            raise InputError(
                f"{name}.padding.{key}=wrap joins both ends of {axis}, which does not close on "
                f"itself on the grid {grid}; use reflect or zero",
                code="boundary-mismatch",
            )
    check_pole(network, grid, name)
    check_ends(network, grid, name)
    if network.reference_grid is not None or network.mode_selection == "fourcastnet":
        return network
    return replace(network, reference_grid=network.token_grid(grid.shape))


def check_pole(network: AFNONetConfig, grid: Grid, name: str) -> None:
    """Reject grids on which a network cannot continue fields over the poles.

    Raises:
        InputError: If it does, and the grid does not reach them; the message starts with ``name``.
    """
    if network.pole == "none":
        return
    grid, rows = require_latlon(grid, f"{name}.pole={network.pole}", "use pole=none"), grid.shape[0]
    global_rows = LatLonGrid.equiangular(rows, grid.shape[1]).latitude
    is_global = np.allclose(grid.latitude, global_rows, atol=0.2 * 180 / rows)
    if not grid.is_periodic or not is_global:
        raise InputError(
            f"{name}.pole={network.pole} needs a global grid with rows half a cell away from the "
            f"poles, the grid is {grid}; use pole=none",
            code="boundary-mismatch",
        )
    if rows % network.patch_size[0]:
        raise InputError(
            f"{name}.pole={network.pole} needs whole patches from pole to pole, got {rows} rows "
            f"and patches of {network.patch_size[0]}; change {name}.patch_size",
            code="boundary-mismatch",
        )


def check_ends(network: AFNONetConfig, grid: Grid, name: str) -> None:
    """Reject grids that do not end where a network mirrors their fields.

    A grid on the sphere states no domain: it ends at its outermost points.

    Raises:
        InputError: If a mirrored axis closes on itself, or its outermost points are inside; the
            message starts with ``name``.
    """
    for axis, boundary, points in zip(grid.dims, network.boundary, grid.shape, strict=True):
        if boundary != "mirrored" or points == 1:
            continue
        if axis in grid.periodic_axes:
            raise InputError(
                f"{name}.boundary=mirrored is for axes with two ends, {axis} of the grid {grid} "
                "closes on itself; use periodic",
                code="boundary-mismatch",
            )
        start, end = grid.domain(axis)
        if not _same_ends(grid.coords[axis], np.array([start, end]), grid, axis):
            raise InputError(
                f"{name}.boundary=mirrored needs the first and the last {axis} on the ends of the "
                f"domain, {start:g} and {end:g}, the grid is {grid}; use reflected for cell "
                f"centers, or correct the attributes extent_{axis} and origin_{axis}",
                code="boundary-mismatch",
            )


def check_same_ends(network: AFNONetConfig, trained: Grid, grid: Grid) -> None:
    """Reject another resolution at which fields would be mirrored at other locations.

    Raises:
        InputError: If mirrored axes end elsewhere, or reflected axes of a plane.
    """
    check_ends(network, grid, "model.network")
    for axis, boundary, points in zip(trained.dims, network.boundary, trained.shape, strict=True):
        if boundary == "mirrored":
            ours, theirs = trained.coords[axis], grid.coords[axis]
        elif boundary == "reflected" and not trained.on_sphere:
            ours, theirs = trained.bounds(axis), grid.bounds(axis)
        else:
            continue
        if points > 1 and not _same_ends(ours, theirs, grid, axis):
            other = "; points on the boundary need a network with boundary=mirrored"
            raise InputError(
                f"forecast.resolution=native: this network has boundary={boundary} and mirrors "
                f"fields at {axis} {ours[0]:g} and {ours[-1]:g} on its own grid {trained}, but at "
                f"{theirs[0]:g} and {theirs[-1]:g} on the data's {grid}; use resolution="
                f"interpolate{other if boundary == 'reflected' else ''}",
                code="boundary-mismatch",
            )


def _same_ends(ours: np.ndarray, theirs: np.ndarray, grid: Grid, axis: str) -> bool:
    """Whether ends agree to a twentieth of a cell, far below the half cell that matters."""
    values = grid.coords[axis]
    cell = abs(float(values[-1] - values[0])) / max(1, len(values) - 1)
    return np.allclose(ours[[0, -1]], theirs[[0, -1]], rtol=0, atol=0.05 * cell)
