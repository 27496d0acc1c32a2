"""Simulators that continue from states of their own datasets: the limit of what can be known.

The fields of a state are those that the dataset holds. What a simulator knows beyond them, its
hidden state, follows from its settings: the stirring of the planet depends on the seed alone, and
is replayed up to the time of a state. An equation has no such memory; scales that a coarser
``saved_resolution`` leaves out are zero.
"""

from collections.abc import Iterator, Sequence
from copy import copy, deepcopy
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from data_pipeline.errors import InputError
from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.simulation.darcy import Darcy, solve_darcy
from data_pipeline.simulation.equiangular_states import EquiangularStates
from data_pipeline.simulation.fourier import (
    Deriving,
    Equation,
    FourierGrid,
    SpectralStepper,
    change_resolution,
)
from data_pipeline.simulation.pde_dataset import saved_variables
from data_pipeline.simulation.planet import VARIABLES, Stirring, planet_of
from data_pipeline.simulation.registry import build_equation

Generators = Sequence[np.random.Generator]
StateFields = Float[np.ndarray, "forecast variable y x"]


@runtime_checkable
class Continuation(Protocol):
    """A simulator that goes on from states of its dataset, from one state to the next."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the fields that a state is made of."""
        ...

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the fields that it gives."""
        ...

    @property
    def is_random(self) -> bool:
        """Whether it depends on random numbers to come."""
        ...

    @property
    def is_exact(self) -> bool:
        """Whether the fields hold all of a state, so that it continues as the dataset does."""
        ...

    def run(
        self,
        times: np.ndarray,
        states: StateFields,
        num_steps: int,
        noise: Generators | None = None,
    ) -> Iterator[StateFields]:
        """Fields after each step, float32; calls may run at the same time.

        Args:
            times: Time (datetime64) of each state.
            states: Its ``inputs``.
            num_steps: Steps of the dataset.
            noise: Random numbers of each forecast, which are used up; by default those of the
                dataset itself.

        Raises:
            InputError: If a time is none of the simulation ("no-times").
        """
        ...


class _Hidden(NamedTuple):
    """Stirring at a time: its tendencies (order, part, degree), and its noise from there on."""

    tendencies: np.ndarray
    noise: np.random.Generator


class PlanetContinuation:
    """The simulated planet, continued with its stirring.

    Args:
        config: The settings of the dataset.
        times: Times (datetime64) of all states that are continued.
        hours: Time from a state to the next.

    Raises:
        InputError: If a time is none of the simulation ("no-times").
    """

    inputs = ("u_component_of_wind", "v_component_of_wind", "geopotential")
    variables = tuple(VARIABLES)
    is_random = is_exact = True

    def __init__(self, config: SimulationConfig, times: np.ndarray, hours: int) -> None:
        shape = config.num_latitudes, config.num_longitudes
        self._model = planet_of(config)
        self._states = EquiangularStates(self._model, shape)
        self._num_steps = round(hours * 3600 / self._model.timestep)
        self._hidden = self._replay(config, np.unique(times).astype("datetime64[ns]"))

    def _replay(self, config: SimulationConfig, times: np.ndarray) -> dict[np.datetime64, _Hidden]:
        """The stirring at some times, by its noise from the start of their trajectories on."""
        simulated = config.times()
        if not (known := np.isin(times, simulated)).all():
            raise _no_state(times[~known][0])
        per_state = round(config.timestep_hours * 3600 / self._model.timestep)
        spinup = config.spinup_days * 24 // config.timestep_hours
        hidden = {}
        for number, of_trajectory in enumerate(simulated):
            wanted = np.flatnonzero(np.isin(of_trajectory, times))
            if not len(wanted):
                continue
            generator, done = np.random.default_rng([config.seed, number]), 0
            stirring = Stirring(self._model, [generator])
            for index in wanted:
                target = (spinup + index) * per_state
                for _ in range(target - done):
                    stirring.next()
                done = target
                tendencies = stirring.tendencies[..., 0]
                hidden[of_trajectory[index]] = _Hidden(tendencies, deepcopy(generator))
        return hidden

    def run(
        self,
        times: np.ndarray,
        states: StateFields,
        num_steps: int,
        noise: Generators | None = None,
    ) -> Iterator[StateFields]:
        """See ``Continuation``."""
        times = times.astype("datetime64[ns]")
        if unknown := [time for time in times if time not in self._hidden]:
            raise _no_state(unknown[0])
        hidden = [self._hidden[time] for time in times]
        generators = [deepcopy(h.noise) for h in hidden] if noise is None else noise
        tendencies = np.stack([h.tendencies for h in hidden], axis=-1)
        stirring = Stirring(self._model, generators, tendencies)
        model = copy(self._model)  # which remembers the last state
        state = self._states.analyze(torch.from_numpy(np.ascontiguousarray(states)))
        for _ in range(num_steps):
            for _ in range(self._num_steps):
                state = model.step(state, stirring.next())
            yield self._states.synthesize(state).numpy()


class EquationContinuation:
    """A periodic equation, continued from the fields that are saved.

    Args:
        config: The settings of the dataset.
        hours: Saved states from a state of the dataset to the next.
        device: By default the GPU, if there is one.
    """

    is_random = False

    def __init__(self, config: PDEConfig, hours: int, device: str | None = None) -> None:
        equation = build_equation(config)
        assert isinstance(equation, Equation)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        settings = {"dtype": getattr(torch, config.dtype), "device": device}
        self._grid = FourierGrid(config.shape, equation.extent, degree=equation.degree, **settings)
        self._saved = FourierGrid(config.saved_shape, equation.extent, degree=1, **settings)
        self._stepper = SpectralStepper(equation, self._grid, config.timestep / config.substeps)
        self._equation, self._num_steps = equation, config.substeps * hours
        self.inputs, self.variables = tuple(equation.variables), saved_variables(equation)
        rows, columns = np.nonzero(self._grid.kept.cpu().numpy())
        largest = np.array([np.abs(self._grid.rows[rows]).max(), columns.max()])
        self.is_exact = bool((2 * largest < np.array(config.saved_shape)).all())

    def run(
        self,
        times: np.ndarray,
        states: StateFields,
        num_steps: int,
        noise: Generators | None = None,
    ) -> Iterator[StateFields]:
        """See ``Continuation``."""
        grid, saved = self._grid, self._saved
        fields = torch.from_numpy(np.ascontiguousarray(states)).to(saved.device, saved.dtype)
        state = grid.spectrum(change_resolution(saved.spectrum(fields), saved, grid.shape))
        for _ in range(num_steps):
            state = self._stepper.advance(state, self._num_steps)
            given = state
            if isinstance(self._equation, Deriving):
                given = torch.cat([state, self._equation.derive(grid, state)], dim=1)
            yield change_resolution(given, grid, saved.shape).float().cpu().numpy()


class DarcyContinuation:
    """Darcy's equation: after a step the pressure of the permeability, and no other state."""

    inputs, variables = Darcy.variables[:1], Darcy.variables
    is_random, is_exact = False, True

    def run(
        self,
        times: np.ndarray,
        states: StateFields,
        num_steps: int,
        noise: Generators | None = None,
    ) -> Iterator[StateFields]:
        """See ``Continuation``."""
        solved = np.stack([[a, solve_darcy(a)] for (a,) in states]).astype(np.float32)
        for _ in range(num_steps):
            yield solved


def continuation_of(
    config: SimulationConfig | PDEConfig, times: np.ndarray, hours: int
) -> Continuation:
    """Make the simulator of a dataset, to go on from its states at some times.

    ``hours`` is the time from a state to the next, which may be several of the simulation.

    Raises:
        InputError: If a time is none of the simulation ("no-times"), or the equation cannot be
            found, see ``build_equation``.
    """
    if isinstance(config, SimulationConfig):
        return PlanetContinuation(config, times, hours)
    if config.equation == "darcy":
        return DarcyContinuation()
    return EquationContinuation(config, hours)


def fields_of(config: SimulationConfig | PDEConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``inputs`` and ``variables`` of the simulator of a dataset, which is not made."""
    if isinstance(config, SimulationConfig):
        return PlanetContinuation.inputs, PlanetContinuation.variables
    if config.equation == "darcy":
        return DarcyContinuation.inputs, DarcyContinuation.variables
    equation = build_equation(config)
    return tuple(equation.variables), saved_variables(equation)


def _no_state(time: np.datetime64) -> InputError:
    return InputError(
        f"the simulation has no state at {time.astype('datetime64[s]')}; take initial times of "
        "the prepared data",
        code="no-times",
    )
