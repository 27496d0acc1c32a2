"""Rollout: a stepper applied to its own output.

With the state x_k at the time t_k and the forcing f(t),

    x_{k+1} = step(x_k, f(t_k)),    t_{k+1} = t_k + timestep:

the forcing of a step is that of the time the step starts from, as in training.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fourcastnet_afno.forecaster.boundaries import with_boundary
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Scales

StepNoise = Callable[[int, torch.device], Tensor]
StepBoundary = Callable[[int], Tensor]


@runtime_checkable
class Stepper(Protocol):
    """Steps a state forward: a ``Forecaster``, persistence, a climatology, a solver.

    Calling it maps the last ``num_history`` states, oldest first, and the forcing at the newest
    one to the next state, in physical units.
    """

    @property
    def spec(self) -> FieldSpec:
        """Channels, grid and timestep."""
        ...

    @property
    def num_history(self) -> int:
        """Number of states that go in."""
        ...

    @property
    def scales(self) -> Scales:
        """Usual size of values and changes by channel, on the device of the stepper."""
        ...

    def __call__(
        self,
        state: Float[Tensor, "batch history channel lat lon"],
        forcing: Float[Tensor, "batch forcing network_lat network_lon"],
        /,
    ) -> Float[Tensor, "batch channel lat lon"]:
        """The state one timestep later."""
        ...

    def forcing_at(
        self, times: np.ndarray
    ) -> Float[Tensor, "batch forcing network_lat network_lon"]:
        """Forcing of steps from states at ``times`` (datetime64)."""
        ...


def rollout(
    forecaster: Callable[[Tensor, Tensor], Tensor],
    initial_state: Float[Tensor, "batch history channel lat lon"],
    forcings: Iterable[Tensor],
    num_steps: int,
) -> Iterator[Float[Tensor, "batch channel lat lon"]]:
    """Step a forecaster forward, lazily; autograd is up to the caller.

    Args:
        forecaster: Maps history and forcing to the next state, see ``Stepper``.
        initial_state: The last ``num_history`` states, oldest first, in physical units.
        forcings: Forcing of each step (batch, forcing, lat, lon), at the time of the step's newest
            input; see ``forcings_from``.
        num_steps: Number of steps.

    Yields:
        The state after each step, in physical units.
    """
    state = initial_state
    for forcing in islice(forcings, num_steps):
        following = forecaster(state, forcing)
        yield following
        state = shifted(state, following)


def shifted(
    state: Float[Tensor, "batch history channel lat lon"],
    following: Float[Tensor, "batch channel lat lon"],
) -> Float[Tensor, "batch history channel lat lon"]:
    """The history one step later: without its oldest state, with the following one."""
    if state.shape[1] == 1:
        return following[:, None]
    return torch.cat([state[:, 1:], following[:, None]], dim=1)


def forcings_from(
    forecaster: Stepper,
    init_times: np.ndarray,
    noise: StepNoise | None = None,
    boundary: StepBoundary | None = None,
) -> Iterator[Tensor]:
    """The forcings of each step of forecasts from ``init_times`` (datetime64), endless.

    A forecaster with ``model.noise`` needs its ``noise`` as well, see ``noise_of``, and one of a
    limited area its ``boundary``, see ``driving``.
    """
    advance = forecaster.spec.step.advance
    for number in count():
        forcing = forecaster.forcing_at(advance(init_times, number))
        yield with_step_fields(forcing, number, noise, boundary)


def with_step_fields(
    forcing: Tensor, step: int, noise: StepNoise | None, boundary: StepBoundary | None
) -> Tensor:
    """The forcing of a step, followed by the driving state and the noise of the forecasts."""
    if boundary is not None:
        forcing = with_boundary(forcing, boundary(step))
    return forcing if noise is None else with_member_noise(forcing, noise, step)


def with_member_noise(forcing: Tensor, noise: StepNoise, step: int) -> Tensor:
    """The forcing of a step, followed by the noise of the forecasts."""
    return torch.cat([forcing, noise(step, forcing.device)], dim=1)
