"""Checkpoints as models of earth2studio: prognostic ones, and diagnostic heads.

    model = Earth2StudioForecaster.from_pretrained("hf://ORG/NAME")
    earth2studio.run.deterministic(["2020-01-01"], 40, model, data, io)

Axes are those of earth2studio: (..., time, lead_time, variable, lat, lon) with variables under the
names of its lexicon. Forcings are those of the valid times. With ``model.noise`` a member's noise
depends on the seed, its number on the axis ``ensemble`` and its initial time alone, so that it is
the same in batches of any size.

References:
    NVIDIA, Earth2Studio, https://nvidia.github.io/earth2studio (interfaces ``PrognosticModel`` and
    ``DiagnosticModel``; written for and tested with version 0.19).
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.grid import Grid
from data_pipeline.grids.plane import require_latlon
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead, load_diagnostic
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.perturbations import noise_of
from fourcastnet_afno.inference.rollout import StepNoise, shifted, with_member_noise
from fourcastnet_afno.interop.durations import require_plain_steps
from fourcastnet_afno.interop.lexicon import lexicon_name

Coordinates = OrderedDict[str, np.ndarray]
Hook = Callable[[Tensor, Coordinates], tuple[Tensor, Coordinates]]

_FIELD = ("variable", "lat", "lon")
_STATE = ("time", "lead_time", *_FIELD)
_DEGREES = 1e-4  # by which latitudes and longitudes may differ


@dataclass
class RolloutState:
    """State of a rollout in checkpoints of earth2studio, which it stores without pickle."""

    x: Tensor | None = None
    coord_keys: tuple[str, ...] = ()
    coord_values: tuple[np.ndarray, ...] = ()


class Earth2StudioForecaster(nn.Module):
    """A forecaster as ``PrognosticModel``.

    Args:
        forecaster: Of a global or regional latitude-longitude grid, with a timestep of fixed
            duration in the standard calendar.
        seed: Of the noise of members, where the model has any.

    Attributes:
        front_hook: Called with the states that a step starts from, on all axes.
        rear_hook: Called with the state that it led to.

    Raises:
        InputError: If earth2studio is not installed, or has no words for the grid or the timestep.
    """

    def __init__(self, forecaster: Forecaster, *, seed: int = 0) -> None:
        super().__init__()
        spec = forecaster.spec
        require_plain_steps(spec, "earth2studio")
        self.forecaster, self._seed = forecaster, seed
        self._field = _field_coordinates(spec.channels, spec.grid)
        self._step = spec.timestep.astype("timedelta64[ns]")
        self.checkpoint = _bind_checkpoint_state(RolloutState())
        self.front_hook: Hook = _unchanged
        self.rear_hook: Hook = _unchanged

    @classmethod
    def load_model(cls, package: Any, file: str = "model.safetensors") -> "Earth2StudioForecaster":  # noqa: ANN401
        """The forecaster of a ``Package``, such as a folder of ``save_pretrained``.

        Args:
            package: Of earth2studio: files with a cache.
            file: The checkpoint in it.
        """
        return cls(load_forecaster(_resolved(package, file)))

    @classmethod
    def from_pretrained(cls, location: str) -> "Earth2StudioForecaster":
        """The forecaster of a folder or URL that earth2studio's ``Package`` reads."""
        return cls.load_model(_package(location))

    def input_coords(self) -> Coordinates:
        """Axes of the input: history as lead times up to 0; an empty axis can be of any length."""
        history = np.arange(1 - self.forecaster.num_history, 1) * self._step
        free = {"batch": np.empty(0), "time": np.empty(0)}
        return OrderedDict({**free, "lead_time": history, **self._field})

    def output_coords(self, input_coords: Coordinates) -> Coordinates:
        """Axes of the state one timestep after those of an input.

        Raises:
            InputError: If the input has other axes, variables or points than ``input_coords``.
        """
        _check_axes(input_coords, _STATE, self._field)
        leads = np.asarray(input_coords["lead_time"])
        expected = self.input_coords()["lead_time"]
        if len(leads) != len(expected) or (leads - leads[-1] != expected).any():
            raise InputError(
                f"lead_time is {leads}, the forecaster expects the lead times {expected} and one "
                "offset of all of them",
                code="timestep-mismatch",
            )
        result = OrderedDict(input_coords)
        result["lead_time"] = leads[-1:] + self._step
        return result

    def __call__(self, x: Tensor, coords: Coordinates) -> tuple[Tensor, Coordinates]:
        """The state one timestep after a history, on the axes of ``output_coords``."""
        return self._advance(x, coords, self._noise(x, coords))

    def create_iterator(
        self, x: Tensor, coords: Coordinates
    ) -> Iterator[tuple[Tensor, Coordinates]]:
        """The newest state of a history, and then the one of each timestep, without end."""
        kept = self._kept()
        x, coords = (x, OrderedDict(coords)) if kept is None else (kept[0].to(x.device), kept[1])
        self.output_coords(coords)
        if kept is None:
            self._keep(x, coords)
            yield x[..., -1:, :, :, :].clone(), _with_leads(coords, coords["lead_time"][-1:])
        noise = self._noise(x, coords)
        while True:
            x, coords = self.front_hook(x, coords)
            following, reached = self.rear_hook(*self._advance(x, coords, noise))
            leads = np.concatenate([coords["lead_time"][1:], reached["lead_time"]])
            x = shifted(_flat(x), _flat(following)[:, 0]).reshape(x.shape).clone()
            coords = _with_leads(coords, leads)
            self._keep(x, coords)
            yield following, OrderedDict(reached)

    def _advance(
        self, x: Tensor, coords: Coordinates, noise: StepNoise | None
    ) -> tuple[Tensor, Coordinates]:
        reached, lead = self.output_coords(coords), coords["lead_time"][-1]
        with torch.inference_mode():
            forcing = self.forecaster.forcing_at(_init_times(x, coords) + lead)
            if noise is not None:
                forcing = with_member_noise(forcing, noise, int(lead // self._step))
            following = self.forecaster(_flat(x), forcing)
        return following.reshape(*x.shape[:-4], 1, *x.shape[-3:]), reached

    def _noise(self, x: Tensor, coords: Coordinates) -> StepNoise | None:
        return noise_of(self.forecaster, self._seed, _init_times(x, coords), _members(x, coords))

    def _kept(self) -> tuple[Tensor, Coordinates] | None:
        """The state that a run of earth2studio resumes from."""
        state = self.checkpoint
        if state.checkpoint_level < 2 or not state.checkpoint_state_loaded or state.x is None:
            return None
        values = map(np.array, state.coord_values)
        return state.x, OrderedDict(zip(state.coord_keys, values, strict=True))

    def _keep(self, x: Tensor, coords: Coordinates) -> None:
        """Keep the state from which a run of earth2studio would resume, if it keeps any."""
        state, kept = self.checkpoint, RolloutState()
        if state.checkpoint_enabled and state.checkpoint_level == 2:
            kept = RolloutState(x.to(state.device), tuple(coords), tuple(coords.values()))
        state.x, state.coord_keys = kept.x, kept.coord_keys
        state.coord_values = kept.coord_values


class Earth2StudioDiagnostic(nn.Module):
    """A diagnostic head as ``DiagnosticModel``: further variables of states at the same time.

    Args:
        head: In evaluation mode.
        forecaster: The one that it was trained behind.
    """

    def __init__(self, head: DiagnosticHead, forecaster: Forecaster) -> None:
        super().__init__()
        self.head, grid = head, forecaster.spec.grid
        self._field = _field_coordinates(forecaster.spec.channels, grid)
        self._diagnosed = _field_coordinates(head.channels, grid)["variable"]

    @classmethod
    def load_model(cls, package: Any, file: str = "model.safetensors") -> "Earth2StudioDiagnostic":  # noqa: ANN401
        """The head of a ``Package``, see ``Earth2StudioForecaster.load_model``."""
        return cls(*load_diagnostic(_resolved(package, file)))

    @classmethod
    def from_pretrained(cls, location: str) -> "Earth2StudioDiagnostic":
        """The head of a folder or URL that earth2studio's ``Package`` reads."""
        return cls.load_model(_package(location))

    def input_coords(self) -> Coordinates:
        """Axes of the input; an empty axis can be of any length."""
        return OrderedDict({"batch": np.empty(0), **self._field})

    def output_coords(self, input_coords: Coordinates) -> Coordinates:
        """Axes of the input with the variables of the head.

        Raises:
            InputError: If the input has other axes, variables or points than ``input_coords``.
        """
        _check_axes(input_coords, _FIELD, self._field)
        return OrderedDict({**input_coords, "variable": self._diagnosed})

    def __call__(self, x: Tensor, coords: Coordinates) -> tuple[Tensor, Coordinates]:
        """The variables of the head at the times of the states."""
        result = self.output_coords(coords)
        with torch.inference_mode():
            fields = self.head(x.reshape(-1, *x.shape[-3:]))
        return fields.reshape(*x.shape[:-3], *fields.shape[1:]), result


def _unchanged(x: Tensor, coords: Coordinates) -> tuple[Tensor, Coordinates]:
    return x, coords


def _field_coordinates(channels: Channels, grid: Grid) -> Coordinates:
    """Axes of a field with channels under the names of the lexicon."""
    coords = require_latlon(grid, "earth2studio", "use `fourcastnet-afno forecast`").coords
    names = np.array([lexicon_name(channel) for channel in channels])
    return OrderedDict(variable=names, lat=coords["latitude"], lon=coords["longitude"])


def _check_axes(coords: Coordinates, axes: tuple[str, ...], field: Coordinates) -> None:
    """Reject axes that do not end with ``axes``, or differ from those of a field."""
    if tuple(coords)[-len(axes) :] != axes:
        message = f"the axes are {[*coords]}, the model expects (..., {', '.join(axes)}) at the end"
        raise InputError(message, code="wrong-dimensions")
    if list(coords["variable"]) != list(field["variable"]):
        raise InputError(
            f"the variables are {[*map(str, coords['variable'])]}, the model expects "
            f"{[*map(str, field['variable'])]} in this order",
            code="channels-mismatch",
        )
    for axis in ("lat", "lon"):
        values, expected = np.asarray(coords[axis]), field[axis]
        if values.shape != expected.shape or np.abs(values - expected).max() > _DEGREES:
            raise InputError(
                f"{axis} has {values.size} values in {_range(values)}, the model expects "
                f"{expected.size} in {_range(expected)}; interpolate the data",
                code="grid-mismatch",
            )


def _range(values: np.ndarray) -> str:
    return f"{values.min():g}..{values.max():g}" if values.size else "no range"


def _with_leads(coords: Coordinates, leads: np.ndarray) -> Coordinates:
    return OrderedDict({**coords, "lead_time": leads})


def _flat(x: Tensor) -> Tensor:
    """States of one batch axis (batch, history, channel, lat, lon), in float32."""
    return x.reshape(-1, *x.shape[-4:]).float()


def _init_times(x: Tensor, coords: Coordinates) -> np.ndarray:
    """The initial time of each state of ``_flat``."""
    times = np.asarray(coords["time"]).astype("datetime64[ns]")
    return np.broadcast_to(times, x.shape[:-4]).ravel()


def _members(x: Tensor, coords: Coordinates) -> np.ndarray:
    """The member of each state of ``_flat``: its entry of ``ensemble``, else its place."""
    outer = x.shape[:-5]
    members = np.arange(math.prod(outer)).reshape(outer)
    if list(coords)[:-5] == ["ensemble"]:
        members = np.asarray(coords["ensemble"]).astype(np.int64)
    return np.broadcast_to(members[..., None], x.shape[:-4]).ravel()


def _bind_checkpoint_state(state: RolloutState) -> Any:  # noqa: ANN401
    with _require_earth2studio():
        from earth2studio.utils.checkpoint import bind_checkpoint_state  # pyright: ignore
    return bind_checkpoint_state(state)


def _package(location: str) -> Any:  # noqa: ANN401
    with _require_earth2studio():
        from earth2studio.models.auto import Package  # pyright: ignore
    return Package(location)


def _resolved(package: Any, file: str) -> Path:  # noqa: ANN401
    """The local copy of a file of a package."""
    try:
        return Path(package.resolve(file))
    except FileNotFoundError as error:
        raise InputError(
            f"the package {package.root} holds no {file}; write one with save_pretrained, or name "
            "the checkpoint in it with load_model(package, file=...)",
            code="missing-file",
        ) from error


@contextmanager
def _require_earth2studio() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"this model needs earth2studio 0.19 or later ({error}); "
            "pip install 'fourcastnet-afno[interop]'",
            code="missing-package",
        ) from error
