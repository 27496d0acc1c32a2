"""States of the shallow-water solver as fields on the equiangular grids that data are on."""

from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor, cat, from_numpy, stack

from data_pipeline.errors import InputError
from data_pipeline.grids.spherical_harmonics import SphericalHarmonicTransform
from data_pipeline.simulation.shallow_water import Planet, ShallowWater, ShallowWaterState


def sample(
    planet: Planet, output: SphericalHarmonicTransform, state: ShallowWaterState
) -> Float[Tensor, "batch 4 lat lon"]:
    """(u, v, free-surface geopotential, relative vorticity) of states on an output grid, SI units.

    The states have the truncation of the output.
    """
    scale = planet.radius * output.inverse_laplacian[:, None, None]
    grid = output.synthesize_wind(state[:, :, :, :2] * scale, state[:, :, :, 0::2])
    v, u, vorticity, eta = grid.unbind(2)
    cosine = _cosine(output, state)[:, :, 0]
    fields = stack([u / cosine, v / cosine, eta + planet.mean_geopotential, vorticity])
    return fields.permute(3, 0, 2, 1)


class EquiangularStates:
    """Both ways between states of a solver and fields on a grid of equal angles.

    The grid is half a cell away from the poles. What the truncation does not resolve is lost;
    fields of a state come back to rounding.

    Args:
        model: The solver.
        shape: Rows and columns of the grid.

    Raises:
        InputError: If the grid does not resolve the solver's truncation.
    """

    def __init__(self, model: ShallowWater, shape: tuple[int, int]) -> None:
        truncation, (rows, columns) = model.transform.truncation, shape
        if rows <= truncation + 1 or columns <= 2 * (truncation + 1):
            raise InputError(
                f"a grid of {rows} x {columns} does not resolve the solver's truncation "
                f"{truncation}; use a finer grid or a coarser solver",
                code="grid-mismatch",
            )
        self._model = model
        precision = {"dtype": model.coriolis.dtype, "device": model.coriolis.device}
        gaussian = len(model.transform.latitude), len(model.transform.longitude)
        make, more = partial(SphericalHarmonicTransform, **precision), truncation + 1  # for wind
        self._output = make(rows, columns, rows="equiangular", truncation=truncation)
        self._input = make(rows, columns, rows="equiangular", truncation=more)
        self._gaussian = make(*gaussian, truncation=more)

    def analyze(self, fields: Float[Tensor, "batch 3 lat lon"]) -> ShallowWaterState:
        """The states of (u, v, free-surface geopotential)."""
        columns_first = fields.to(self._model.coriolis.dtype).permute(3, 2, 1, 0)
        # Wind is not smooth at the poles, wind times the cosine of latitude is.
        wind = columns_first[:, :, :2] * _cosine(self._input, self._model.coriolis)
        smooth = cat([wind, columns_first[:, :, 2:3]], dim=2).contiguous()
        gaussian = self._gaussian.synthesize(self._input.analyze(smooth))
        u, v = (gaussian[:, :, :2] / _cosine(self._gaussian, self._model.coriolis)).unbind(2)
        return self._model.state(u, v, gaussian[:, :, 2])

    def synthesize(self, state: ShallowWaterState) -> Float[Tensor, "batch 4 lat lon"]:
        """The fields of states, see ``sample``."""
        return sample(self._model.planet, self._output, state)


def _cosine(transform: SphericalHarmonicTransform, like: Tensor) -> Tensor:
    """Cosines of latitude (latitude, 1, 1)."""
    return from_numpy(np.cos(np.deg2rad(transform.latitude))).to(like)[:, None, None]
