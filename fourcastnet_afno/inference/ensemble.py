"""Ensembles: perturbed initial states, stochastic steps, and statistics over members.

Member 0 is the control: it starts from the unperturbed state and drops nothing; with a model that
takes noise it is a member like others. Every other member
draws its random numbers from the seed, its own number and its initial time, so that it is the same
whichever others run with it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.config import EnsembleConfig
from fourcastnet_afno.inference.driving.states import DrivingStates
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.perturbations import (
    SphericalRandomField,
    generator_for,
    noise_of,
    white_noise,
)
from fourcastnet_afno.inference.rollout import Stepper, forcings_from, rollout, shifted
from fourcastnet_afno.models.layers import DropPath, Mlp


class Perturber:
    """Initial histories of the members; the stepper runs the forecasts of bred and lagged ones.

    Those of a limited area are driven by ``driving``.

    Raises:
        InputError: If the lag is no multiple of the timestep.
    """

    def __init__(
        self,
        config: EnsembleConfig,
        states: InitialStates,
        stepper: Stepper,
        driving: DrivingStates | None = None,
    ) -> None:
        self._config, self._states, self._stepper = config, states, stepper
        self._driving = driving
        self._spec, self._scales = stepper.spec, stepper.scales
        lag = config.lag_step.multiple_of(self._spec.step)
        if config.perturbation == "lagged" and lag is None:
            raise InputError(
                f"forecast.ensemble.lag={config.lag_step} is no multiple of the timestep; set it "
                f"to {self._spec.step} or a multiple of that",
                code="bad-setting",
            )
        self._lag = lag or 0
        self._random_field = None
        bred = config.perturbation == "bred" and self._spec.grid.on_sphere
        if config.perturbation == "spherical" or bred:
            self._random_field = SphericalRandomField(self._spec.grid, config.length_scale_km)

    def histories(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast history channel lat lon"]:
        """Initial histories of forecasts, given the initial time and the member of each.

        Raises:
            InputError: If the data lacks a state, for bred and lagged members an earlier one too.
        """
        kind = self._config.perturbation
        if kind == "lagged":
            lagged: dict[int, Tensor] = {}
            for member in np.unique(members).tolist():
                (indices,) = np.nonzero(members == member)
                num_steps = member * self._lag
                start = self._states.before(init_times[indices], num_steps)
                advanced = self._advance(
                    self._states.read(start), start, members[indices], num_steps
                )
                lagged |= zip(indices.tolist(), advanced, strict=True)
            return torch.stack([lagged[index] for index in range(len(members))])
        histories = self._states.read(init_times)
        if kind == "none" or not members.any():
            return histories
        if kind == "bred":
            return histories + self._breed(init_times, members)
        # The same for every state of the history, so that their differences stay.
        return histories + self._draw(init_times, members)[:, None]

    def _draw(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast channel lat lon"]:
        count, shape = len(self._spec.channels), self._spec.grid.shape
        fields = np.zeros((len(members), count, *shape), np.float32)
        for field, init_time, member in zip(fields, init_times, members.tolist(), strict=True):
            if member == 0:
                continue
            generator = generator_for(self._config.seed, init_time, member)
            if self._random_field is not None:
                field[:] = self._random_field.draw(generator, count)
            else:
                field[:] = white_noise(generator, count, shape)
        size = self._config.amplitude * self._scales.diff_std
        return size * torch.from_numpy(fields).to(size.device)

    def _breed(
        self, init_times: np.ndarray, members: np.ndarray
    ) -> Float[Tensor, "forecast history channel lat lon"]:
        """Let differences grow and rescale them, cycle by cycle."""
        steps, scale = self._config.breeding_steps, self._scales.diff_std
        weights = torch.from_numpy(self._spec.grid.area_weights()).to(scale)
        difference = self._draw(init_times, members)[:, None]
        for cycle in range(self._config.breeding_cycles, 0, -1):
            start = self._states.before(init_times, cycle * steps)
            control = self._states.read(start)
            grown = self._advance(control + difference, start, members, steps)
            difference = grown - self._advance(control, start, members, steps)
            relative = difference[:, -1] / torch.where(scale > 0, scale, torch.inf)
            size = (weights * relative.square()).mean(dim=(1, 2, 3), keepdim=True).sqrt()
            factor = self._config.amplitude / size.clamp_min(torch.finfo(size.dtype).tiny)
            factor[torch.from_numpy(members == 0).to(factor.device)] = 0
            difference = torch.where(factor[:, None] > 0, factor[:, None] * difference, 0)
        return difference

    def _advance(
        self, history: Tensor, start: np.ndarray, members: np.ndarray, num_steps: int
    ) -> Tensor:
        config = self._config
        noise = noise_of(self._stepper, config.seed, start, members, config.noise_amplitude)
        driving = self._driving
        boundary = None if driving is None else driving.of(start, members, num_steps)
        forcings = forcings_from(self._stepper, start, noise, boundary)
        for following in rollout(self._stepper, history, forcings, num_steps):
            history = shifted(history, following)
        return history


def check_differences(config: EnsembleConfig, steppers: Sequence[Stepper]) -> None:
    """Raise an ``InputError`` for members of an ensemble that would be the same."""
    has_noise = any(isinstance(s, Forecaster) and s.noise is not None for s in steppers)
    differs = config.perturbation != "none" or config.checkpoints or config.stochastic
    if config.num_members > 1 and not (differs or (has_noise and config.noise_amplitude)):
        why = "noise_amplitude is 0" if has_noise else "the model has no noise (model.noise)"
        raise InputError(
            f"the {config.num_members} members would be the same, as {why}; set "
            "forecast.ensemble.perturbation, checkpoints or stochastic",
            code="bad-setting",
        )


def check_stochastic(stepper: Stepper) -> None:
    """Raise an ``InputError`` for stochastic members of a forecaster that has nothing to drop."""
    modules = list(stepper.modules()) if isinstance(stepper, nn.Module) else []
    rates = [m.p for m in modules if isinstance(m, nn.Dropout)]
    rates += [m.rate for m in modules if isinstance(m, DropPath)]
    if not any(rate > 0 for rate in rates):
        raise InputError(
            "forecast.ensemble.stochastic needs model.network.drop_rate or drop_path_rate above "
            "0, both are 0; use ensemble.perturbation instead",
            code="bad-setting",
        )


def step_stochastically(
    stepper: Stepper,
    state: Float[Tensor, "forecast history channel lat lon"],
    forcing: Float[Tensor, "forecast forcing network_lat network_lon"],
    seeds: Sequence[int | None],
) -> Float[Tensor, "forecast channel lat lon"]:
    """One step of a network, each forecast alone with its seed; with None nothing is dropped."""
    assert isinstance(stepper, nn.Module)
    results = []
    for index, seed in enumerate(seeds):
        arguments = state[index : index + 1], forcing[index : index + 1]
        if seed is None:
            results.append(stepper(*arguments))
            continue
        devices = [state.device] if state.device.type == "cuda" else []
        with torch.random.fork_rng(devices), _dropping(stepper):
            torch.manual_seed(seed)
            results.append(stepper(*arguments))
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


def summarize_members(
    fields: Float[Tensor, "member lat lon"], quantiles: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, spread and quantiles over members, in float32.

    The spread is the standard deviation with Bessel's correction, NaN for a single member; the
    quantiles are linear between order statistics, on a leading axis.
    """
    wide, last = fields.double(), len(fields) - 1
    mean = wide.mean(dim=0)
    spread = torch.full_like(mean, torch.nan)
    if last:
        spread = ((wide - mean).square().sum(dim=0) / last).sqrt()
    ordered = wide.sort(dim=0).values if len(quantiles) else wide
    values = mean.new_empty(len(quantiles), *mean.shape)
    for index, quantile in enumerate(quantiles):
        lower = min(int(quantile * last), last)
        upper = min(lower + 1, last)
        values[index] = torch.lerp(ordered[lower], ordered[upper], quantile * last - lower)
    return mean.float(), spread.float(), values.float()
