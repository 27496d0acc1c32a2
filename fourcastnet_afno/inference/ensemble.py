"""Ensembles: which forecasts differ in what, and their statistics without keeping them.

Member 0 is the control: it starts from the given state and drops nothing. Every other member draws
its random numbers from the seed, its own number and its initial time, so that it is the same
whichever others run beside it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from data_pipeline.errors import InputError
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.inference.initial_states import InitialStates
from fourcastnet_afno.inference.perturbations import (
    SphericalRandomField,
    generator_for,
    step_seed,
    white_noise,
)
from fourcastnet_afno.inference.rollout import Stepper, forcings_from, rollout, shifted
from fourcastnet_afno.models.layers import DropPath, Mlp


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """How the members of an ensemble differ.

    Args:
        num_members: Members, the control included.
        members: Numbers of the members to run; all where empty.
        perturbation: Of the initial states: ``gaussian`` noise at each grid point, ``spherical``
            Gaussian random fields with a length scale, ``bred`` vectors (the difference that grew
            between two forecasts, rescaled; it starts from such a field, on a plane from noise at
            each point), or ``lagged``: member i starts i lags earlier.
        amplitude: Size of a perturbation, in standard deviations of the change over a timestep, by
            channel; for bred vectors the mean over channels.
        length_scale_km: L of the correlation exp(-d^2 / (2 L^2)) of spherical random fields.
        lag_hours: Time between the starts of lagged members.
        breeding_cycles: Times that the difference of bred vectors is rescaled.
        breeding_steps: Timesteps of each cycle.
        checkpoints: Further forecasters; member i runs the i-th in turn, --checkpoint first.
        stochastic: Whether dropout and stochastic depth stay on, as in training.
        seed: Of all random numbers.
        output: Whether the members are written, or only their mean, spread and quantiles.
        quantiles: Which quantiles, in 0..1, if not the members are written.
    """

    num_members: int = 1
    members: list[int] = field(default_factory=list)
    perturbation: Literal["none", "gaussian", "spherical", "bred", "lagged"] = "none"
    amplitude: float = 0.1
    length_scale_km: float = 500.0
    lag_hours: int = 6
    breeding_cycles: int = 4
    breeding_steps: int = 4
    checkpoints: list[str] = field(default_factory=list)
    stochastic: bool = False
    seed: int = 0
    output: Literal["members", "statistics"] = "members"
    quantiles: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("num_members", "lag_hours", "breeding_cycles", "breeding_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"ensemble.{name} must be at least 1, got {getattr(self, name)}")
        if any(not 0 <= member < self.num_members for member in self.members):
            raise ValueError(
                f"ensemble.members must lie in 0..{self.num_members - 1} (num_members "
                f"{self.num_members}), got {self.members}"
            )
        if len(set(self.members)) < len(self.members):
            raise ValueError(f"ensemble.members must differ, got {self.members}")
        if any(not 0 <= quantile <= 1 for quantile in self.quantiles):
            raise ValueError(f"ensemble.quantiles must lie in 0..1, got {self.quantiles}")
        if self.quantiles and self.output == "members":
            raise ValueError("ensemble.quantiles needs ensemble.output=statistics")
        differs = self.perturbation != "none" or self.checkpoints or self.stochastic
        if self.num_members > 1 and not differs:
            raise ValueError(
                f"the {self.num_members} members would be the same; set ensemble.perturbation, "
                "ensemble.checkpoints or ensemble.stochastic"
            )

    @property
    def numbers(self) -> list[int]:
        """Numbers of the members that run, increasing."""
        return sorted(self.members) or list(range(self.num_members))

    @property
    def is_ensemble(self) -> bool:
        """Whether forecasts have a number at all."""
        return self.num_members > 1


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
            config.perturbation == "bred" and isinstance(self._spec.grid, LatLonGrid)
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
        histories = self._states.at(init_times)
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
            control = self._states.at(start)
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
            advanced = self._advanced(self._states.at(start), start, member * steps)
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
