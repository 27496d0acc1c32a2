"""Exponential time differencing of fourth order, for any equation with a stiff linear part.

The linear part L of d x / dt = L x + N(x) is integrated exactly, the rest by a Runge-Kutta method
of fourth order. The step h is therefore bound by N alone, and depends on the current state alone.
The method needs six functions of h L, such as

    h (-4 - z + exp(z) (4 - 3 z + z^2)) / z^3,   z an eigenvalue of h L,

which cancel near z = 0. They are entire functions, so that their value is their mean on a circle
around z, without cancellation.

References:
    Cox and Matthews, 2002, Exponential time differencing for stiff systems,
    https://doi.org/10.1006/jcph.2002.6995, equations 26-29.
    Kassam and Trefethen, 2005, Fourth-order time-stepping for stiff PDEs,
    https://doi.org/10.1137/S1064827502410633, section 2.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from torch import Tensor

Operator = TypeVar("Operator")
Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Exponentials(Generic[Operator]):
    """Functions of timestep * linear operator that ETDRK4 needs."""

    whole: Operator
    half: Operator
    stage: Operator
    first: Operator
    middle: Operator
    last: Operator

    @classmethod
    def from_operator(
        cls, operator: Callable[[Function], Operator], timestep: float
    ) -> "Exponentials[Operator]":
        """Compute all functions.

        ``operator`` gives F(timestep * L) for an entire function F of complex numbers, in a form
        that ``apply`` of ``step`` understands; see ``circle_mean``.
        """
        return cls(
            whole=operator(np.exp),
            half=operator(lambda z: np.exp(z / 2)),
            stage=operator(lambda z: timestep * np.expm1(z / 2) / z),
            first=operator(lambda z: timestep * (-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3),
            middle=operator(lambda z: timestep * 2 * (2 + z + np.exp(z) * (z - 2)) / z**3),
            last=operator(lambda z: timestep * (-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3),
        )


def step(
    exponentials: Exponentials[Operator],
    apply: Callable[[Operator, Tensor], Tensor],
    tendency: Callable[[Tensor], Tensor],
    state: Tensor,
) -> Tensor:
    """The state one timestep later: Cox and Matthews (2002), equations 26-29.

    ``apply`` applies one of the functions to a state, ``tendency`` is the nonlinear part N.
    """
    e = exponentials
    start = tendency(state)
    half = apply(e.half, state)
    first = half + apply(e.stage, start)
    first_tendency = tendency(first)
    second = half + apply(e.stage, first_tendency)
    second_tendency = tendency(second)
    third = apply(e.half, first) + apply(e.stage, 2 * second_tendency - start)
    third_tendency = tendency(third)
    middle = apply(e.middle, first_tendency + second_tendency)
    ends = apply(e.first, start) + apply(e.last, third_tendency)
    return apply(e.whole, state) + ends + middle


def circle_mean(function: Function, center: np.ndarray) -> np.ndarray:
    """Value of an entire function as its mean on a circle, without cancellation at zero.

    Kassam and Trefethen (2005), section 2.
    """
    circle = np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    return function(center[..., None] + circle).mean(axis=-1)
