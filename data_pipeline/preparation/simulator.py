"""The simulator behind prepared data, to continue from its states, see ``continuation``."""

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.preparation.config import DataConfig
from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.simulation.continuation import Continuation, continuation_of, fields_of
from data_pipeline.sources.names import parse_label
from data_pipeline.store.reader import PreparedStore

_TOLERANCE = (
    0.01  # of the change over a timestep: far more than rounding, far less than other noise
)
_ROUNDING = 1e-5  # of the largest value


def check_simulated(config: DataConfig) -> None:
    """Check that prepared data holds the states of a simulator, by the configuration alone.

    Raises:
        InputError: If it does not ("no-simulator").
    """
    origin, pde = _origin(config), config.pde
    for name in ("grid", "crop", "accumulate"):
        if getattr(config, name):
            raise _not_simulated(f"data.{name} changes its states; leave that out")
    if config.step.hours is None:
        raise _not_simulated(f"data.timestep={config.step} is no number of hours; give hours")
    if pde and pde.equation == "darcy" and pde.saved_shape != pde.shape:
        raise _not_simulated(
            f"it solves darcy with a permeability on {pde.shape} points, of which "
            f"data.pde.saved_resolution keeps {pde.saved_shape}; set it to data.pde.resolution"
        )
    inputs, variables = fields_of(origin)
    predicted = [parse_label(label)[0] for label in config.predicted]
    if lacking := [name for name in inputs if name not in predicted]:
        raise _not_simulated(
            f"its states are {', '.join(inputs)}; add {', '.join(lacking)} to data.prognostic"
        )
    if further := [name for name in predicted if name not in variables]:
        raise _not_simulated(
            f"it gives {', '.join(variables)}; leave {', '.join(further)} out of data.prognostic "
            "and data.diagnostic"
        )


def simulator_of(config: DataConfig, times: np.ndarray) -> Continuation:
    """Make the simulator of prepared data, to continue from the states at some times.

    Raises:
        InputError: See ``check_simulated``; also if a time is none of the data ("no-times").
    """
    check_simulated(config)
    hours = config.step.hours
    assert hours is not None
    return continuation_of(_origin(config), times, hours)


def check_continues(simulator: Continuation, store: PreparedStore, times: np.ndarray) -> None:
    """Check that a simulator continues the store's states as the store does, with its own noise.

    The first, the middle and the last of ``times`` whose next state the store has are compared.

    Raises:
        InputError: If it does not ("other-simulator").
    """
    following = store.step.advance(times, 1, store.times)
    (known,) = np.nonzero(np.isin(following, store.times))
    if not simulator.is_exact or not len(known):
        return
    chosen = times[known[np.unique([0, len(known) // 2, len(known) - 1])]]
    (continued,) = simulator.run(chosen, states_at(simulator, store, chosen), 1)
    labels = store.channels.labels
    shared = [name for name in simulator.variables if name in labels]
    truth = store.states.read(np.searchsorted(store.times, store.step.advance(chosen, 1)))
    for name in shared:
        index = labels.index(name)
        ours, theirs = continued[:, simulator.variables.index(name)], truth[:, index]
        error = np.sqrt(np.mean((ours - theirs).astype(np.float64) ** 2))
        change = store.statistics.diff_std[index]
        if error > _TOLERANCE * change + _ROUNDING * np.abs(theirs).max():
            raise InputError(
                f"the simulator does not continue the states of {store.path}: after "
                f"{store.step.label} its {name} is {error:.3g} away from truth's, where states "
                f"change by {change:.3g}; another version has simulated them, or "
                f"data.storage.dtype={store.packing.dtype} rounds them too much: prepare the data "
                "again into another folder, or leave perfect_model out of evaluation.baselines",
                code="other-simulator",
            )


def states_at(simulator: Continuation, store: PreparedStore, times: np.ndarray) -> np.ndarray:
    """The fields that a simulator starts from, float32 (time, variable, y, x).

    Raises:
        InputError: If the store lacks a time ("no-times").
    """
    if not (known := np.isin(times, store.times)).all():
        raise InputError(
            f"{store.path} has no state at {times[~known][0].astype('datetime64[s]')}; take "
            "initial times of the prepared data",
            code="no-times",
        )
    channels = [store.channels.labels.index(name) for name in simulator.inputs]
    return store.states.read(np.searchsorted(store.times, times))[:, channels]


def _origin(config: DataConfig) -> SimulationConfig | PDEConfig:
    origin = config.simulation or config.pde
    if origin is None:
        raise _not_simulated("data.source has none; give data.simulation or data.pde")
    return origin


def _not_simulated(reason: str) -> InputError:
    return InputError(
        f"evaluation.baselines has perfect_model, the simulator of the data: {reason}, or leave "
        "perfect_model out",
        code="no-simulator",
    )
