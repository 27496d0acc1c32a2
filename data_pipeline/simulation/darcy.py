"""Steady flow through a porous medium: Darcy's equation on the unit square.

    -div(a grad u) = 1,   u = 0 on the boundary,

with a permeability a of 12 where a Gaussian random field N(0, (-laplacian + 9)^(-2)) with zero
Neumann conditions is positive, and 3 elsewhere. Differences of second order on the points
(i, j) / (n - 1), boundary included, take the permeability between two points as the mean of both:

    -(a_E (u_E - u) - a_W (u - u_W) + a_N (u_N - u) - a_S (u - u_S)) / h^2 = 1.

References:
    Li et al., 2021, Fourier neural operator for parametric partial differential equations,
    https://arxiv.org/abs/2010.08895, section 5.2 and A.3.2.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_array
from scipy.sparse.linalg import spsolve

from data_pipeline.simulation.random_fields import neumann_field

Plane = Float[np.ndarray, "y x"]


@dataclass(frozen=True, kw_only=True)
class Darcy:
    """Coefficient and solution of Darcy's equation.

    A linear system is solved directly: there is no step and no instability. Good values: 129 points
    along each axis, saved at every fourth. Where the permeability jumps, the error falls more
    slowly with the distance of points than the second order of the differences.

    Args:
        high: Permeability where the random field is positive; positive.
        low: Permeability elsewhere; positive. The paper has a ratio of 4 of the two.
        modes: Cosines of the random field along each axis; it is the same field on every grid.
    """

    variables = ("permeability", "pressure")
    high: float = 12.0
    low: float = 3.0
    modes: int = 128

    @staticmethod
    def points(count: int) -> np.ndarray:
        """Coordinates of the points along an axis, both ends included."""
        return np.linspace(0, 1, count)

    def permeability(self, shape: tuple[int, int], rng: np.random.Generator) -> Plane:
        """A random coefficient, the same function at every resolution."""
        y, x = self.points(shape[0]), self.points(shape[1])
        field = neumann_field(y, x, rng, power=2.0, shift=9.0, num_modes=self.modes)
        return np.where(field > 0, self.high, self.low)


def solve_darcy(permeability: Plane, source: Plane | float = 1.0) -> Plane:
    """The pressure u of -div(a grad u) = f, zero on the boundary of the unit square, on all points.

    ``permeability`` is a > 0, ``source`` f.
    """
    rows, columns = permeability.shape
    a = np.asarray(permeability, float)
    inverse_h2 = np.array([(rows - 1.0) ** 2, (columns - 1.0) ** 2])
    # Weights of the links between neighbors along y (rows - 1, columns - 2), and along x.
    along_y = inverse_h2[0] * (a[1:, 1:-1] + a[:-1, 1:-1]) / 2
    along_x = inverse_h2[1] * (a[1:-1, 1:] + a[1:-1, :-1]) / 2
    diagonal = along_y[1:] + along_y[:-1] + along_x[:, 1:] + along_x[:, :-1]
    index = np.arange(diagonal.size).reshape(diagonal.shape)
    links = [
        (index, index, diagonal),
        (index[1:], index[:-1], -along_y[1:-1]),
        (index[:-1], index[1:], -along_y[1:-1]),
        (index[:, 1:], index[:, :-1], -along_x[:, 1:-1]),
        (index[:, :-1], index[:, 1:], -along_x[:, 1:-1]),
    ]
    row, column, value = (
        np.concatenate([array.ravel() for array in arrays]) for arrays in zip(*links, strict=True)
    )
    matrix = coo_array((value, (row, column)), shape=(index.size, index.size)).tocsc()
    right = np.broadcast_to(source, a.shape)[1:-1, 1:-1].ravel()
    solution = np.zeros((rows, columns))
    inner = np.asarray(spsolve(matrix, right, permc_spec="MMD_AT_PLUS_A"))
    solution[1:-1, 1:-1] = inner.reshape(index.shape)
    return solution
