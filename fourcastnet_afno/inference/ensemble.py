"""Ensembles: which forecasts differ in what, and their statistics without keeping them.

Member 0 is the control: it starts from the given state and drops nothing. Every other member draws
its random numbers from the seed, its own number and its initial time, so that it is the same
whichever others run beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.errors import InputError
from fourcastnet_afno.inference.config import EnsembleConfig
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.perturbations import (
    SphericalRandomField,
    generator_for,
    step_seed,
    white_noise,
)
from fourcastnet_afno.inference.rollout import Stepper, forcings_from, rollout, shifted
from fourcastnet_afno.models.layers import DropPath, Mlp


class Perturber:
    """Initial histories of the members.

    Args:
        config: How they differ.
        states: Unperturbed states.
        stepper: Breeds and lags.
    """

    def __init__(self, config: EnsembleConfig, states: InitialStates, stepper: Stepper) -> None:
        self._config, self._states, self._stepper = config, states, stepper
        self._spec, self._scales = stepper.spec, stepper.scales
        hours = self._spec.timestep_hours
        if config.perturbation == "lagged" and config.lag_hours % hours:
            raise InputError(
                f"forecast.ensemble.lag_hours must be a multiple of the timestep of {hours} h, "
                f"got {config.lag_hours}"
            )
        self._random_field = None
        if config.perturbation == "spherical" or (
            config.perturbation == "bred" and self._spec.grid.on_sphere
        ):
            self._random_field = SphericalRandomField(self._spec.grid, config.length_scale_km)

    def histories(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast history channel lat lon"]:
        """Where the forecasts start.

        Args:
            init_times: Initial time of each forecast (datetime64).
            members: Member of each forecast, likewise.

        Raises:
            InputError: If the data lacks a state, for bred and lagged members an earlier one too.
        """
        kind = self._config.perturbation
        if kind == "lagged":
            return self._lagged(init_times, members)
        histories = self._states.read(init_times)
        if kind == "none" or not members.any():
            return histories
        if kind == "bred":
            return histories + self._bred(init_times, members)
        # The same for every state of the history, so that the tendency that it shows stays.
        return histories + self._drawn(init_times, members)[:, None]

    def _drawn(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast channel lat lon"]:
        count, shape = len(self._spec.channels), self._spec.grid.shape
        fields = np.zeros((len(members), count, *shape), np.float32)
        for field_, init_time, member in zip(fields, init_times, members.tolist(), strict=True):
            if member == 0:
                continue
            generator = generator_for(self._config.seed, init_time, member)
            if self._random_field is not None:
                field_[:] = self._random_field.draw(generator, count)
            else:
                field_[:] = white_noise(generator, count, shape)
        size = self._config.amplitude * self._scales.diff_std
        return size * torch.from_numpy(fields).to(size.device)

    def _bred(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast history channel lat lon"]:
        steps, cycles = self._config.breeding_steps, self._config.breeding_cycles
        difference = self._drawn(init_times, members)[:, None]
        for cycle in range(cycles, 0, -1):
            start = init_times - cycle * steps * self._spec.timestep
            control = self._states.read(start)
            grown = self._advanced(control + difference, start, steps)
            difference = self._rescaled(grown - self._advanced(control, start, steps), members)
        return difference

    def _rescaled(self, difference: Tensor, members: np.ndarray) -> Tensor:
        weights = torch.from_numpy(self._spec.grid.area_weights()).to(difference)
        scale = self._scales.diff_std
        relative = difference[:, -1] / torch.where(scale > 0, scale, torch.inf)
        size = (weights * relative.square()).mean(dim=(1, 2, 3), keepdim=True).sqrt()
        factor = self._config.amplitude / size.clamp_min(torch.finfo(size.dtype).tiny)
        factor[torch.from_numpy(members == 0).to(factor.device)] = 0
        return torch.where(factor[:, None] > 0, factor[:, None] * difference, 0)

    def _lagged(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast history channel lat lon"]:
        steps = self._config.lag_hours // self._spec.timestep_hours
        parts: list[Tensor | None] = [None] * len(members)
        for member in np.unique(members).tolist():
            (chosen,) = np.nonzero(members == member)
            start = init_times[chosen] - member * steps * self._spec.timestep
            advanced = self._advanced(self._states.read(start), start, member * steps)
            for index, history in zip(chosen.tolist(), advanced, strict=True):
                parts[index] = history
        return torch.stack([part for part in parts if part is not None])

    def _advanced(self, history: Tensor, start: np.ndarray, num_steps: int) -> Tensor:
        for following in rollout(
            self._stepper, history, forcings_from(self._stepper, start), num_steps
        ):
            history = shifted(history, following)
        return history


def check_stochastic(stepper: Stepper) -> None:
    """Refuse stochastic members of a forecaster that has nothing to drop.

    Raises:
        InputError: If all rates are zero, or it is no network.
    """
    modules = stepper.modules() if isinstance(stepper, nn.Module) else []
    rates = [m.p for m in modules if isinstance(m, nn.Dropout)]
    modules = stepper.modules() if isinstance(stepper, nn.Module) else []
    rates += [m.rate for m in modules if isinstance(m, DropPath)]
    if not any(rate > 0 for rate in rates):
        raise InputError(
            "forecast.ensemble.stochastic needs a network with model.network.drop_rate or "
            "drop_path_rate above 0, this one has neither; use ensemble.perturbation instead"
        )


def step_stochastically(
    stepper: Stepper,
    state: Float[Tensor, "forecast history channel lat lon"],
    forcing: Float[Tensor, "forecast forcing network_lat network_lon"],
    seeds: Sequence[int | None],
) -> Float[Tensor, "forecast channel lat lon"]:
    """One step with dropout and stochastic depth, each forecast by itself with its own seed.

    Args:
        stepper: A network.
        state: Histories.
        forcing: Forcings.
        seeds: A seed for each forecast; None leaves dropping out.
    """
    assert isinstance(stepper, nn.Module)
    results = []
    for index, seed in enumerate(seeds):
        one = state[index : index + 1], forcing[index : index + 1]
        if seed is None:
            results.append(stepper(*one))
            continue
        devices = [state.device] if state.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _dropping(stepper):
            torch.manual_seed(seed)
            results.append(stepper(*one))
    return torch.cat(results)


@contextmanager
def _dropping(network: nn.Module) -> Iterator[None]:
    """Dropout and stochastic depth as in training, within the block."""
    modules = [m for m in network.modules() if isinstance(m, (Mlp, nn.Dropout, DropPath))]
    before = [module.training for module in modules]
    for module in modules:
        module.training = True
    try:
        yield
    finally:
        for module, training in zip(modules, before, strict=True):
            module.training = training


def seeds_of(
    config: EnsembleConfig, init_times: np.ndarray, members: np.ndarray, step: int
) -> list[int | None]:
    """Seeds of a step of stochastic forecasts; the control drops nothing."""
    return [
        step_seed(config.seed, init_time, member, step) if member else None
        for init_time, member in zip(init_times, members.tolist(), strict=True)
    ]


def summarize_members(
    fields: Float[Tensor, "member lat lon"], quantiles: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, spread and quantiles over members.

    Args:
        fields: Members, at least one.
        quantiles: In 0..1.

    Returns:
        The mean; the standard deviation with Bessel's correction, NaN for a single member; and the
        quantiles, linear between order statistics, on a leading axis. All in float32.
    """
    wide = fields.double()
    mean = wide.mean(dim=0)
    if len(fields) > 1:
        spread = ((wide - mean).square().sum(dim=0) / (len(fields) - 1)).sqrt()
    else:
        spread = torch.full_like(mean, torch.nan)
    ordered = wide.sort(dim=0).values if len(quantiles) else wide
    picked = [_between(ordered, quantile * (len(fields) - 1)) for quantile in quantiles]
    stacked = torch.stack(picked) if picked else mean.new_empty(0, *mean.shape)
    return mean.float(), spread.float(), stacked.float()


def _between(ordered: Tensor, position: float) -> Tensor:
    lower = min(int(position), len(ordered) - 1)
    upper = min(lower + 1, len(ordered) - 1)
    return torch.lerp(ordered[lower], ordered[upper], position - lower)
