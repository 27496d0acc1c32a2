"""Steppers whose forecasts are known by hand, and data to start them from."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.timestep import Timestep
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Scales
from fourcastnet_afno.inference.config import (
    EnsembleConfig,
    ForecastConfig,
    StabilityConfig,
    StoreConfig,
)
from fourcastnet_afno.inference.rollout import Stepper
from fourcastnet_afno.inference.write import write_forecast

SIX_HOURS = Timestep.parse("6h")
GRID = LatLonGrid.equiangular(6, 12)
CHANNELS = Channels(
    (
        Channel(name="geopotential", level=850, units="m2 s-2"),
        Channel(name="geopotential", level=500, units="m2 s-2"),
        Channel(name="2m_temperature", units="K"),
    )
)


class Growing:
    """x -> factor * x + 1, or with a history of two: the sum of both states."""

    def __init__(
        self,
        grid: LatLonGrid = GRID,
        *,
        channels: Channels = CHANNELS,
        factor: float = 1.0,
        num_history: int = 1,
        std: float = torch.inf,
        step: Timestep = SIX_HOURS,
    ) -> None:
        self.spec = FieldSpec(
            channels=channels,
            static_channels=Channels(()),
            forcings=(),
            grid=grid,
            step=step,
        )
        self.num_history, self.factor = num_history, factor
        one = torch.ones(len(channels), 1, 1)
        self.scales = Scales(0 * one, std * one, one)

    def __call__(self, state: Tensor, forcing: Tensor) -> Tensor:
        if self.num_history > 1:
            return state.sum(dim=1)
        return self.factor * state[:, -1] + 1

    def forcing_at(self, times: np.ndarray) -> Tensor:
        return torch.zeros(len(times), 0, *self.spec.grid.shape)


def make_states(
    num_times: int = 12, grid: LatLonGrid = GRID, channels: Channels = CHANNELS
) -> xr.Dataset:
    """Random states every 6 hours from 2020-01-01."""
    rng = np.random.default_rng(0)
    fields = rng.standard_normal((num_times, len(channels), *grid.shape), np.float32)
    times = np.datetime64("2020-01-01", "ns") + np.arange(num_times) * np.timedelta64(6, "h")
    return channels.unstack(fields, {"time": times, **grid.coords})


def make_config(**changes: object) -> ForecastConfig:
    """Short forecasts; keys of the parts of the configuration go to them."""
    parts = {"ensemble": EnsembleConfig, "stability": StabilityConfig, "store": StoreConfig}
    built: dict = {
        name: cls(**{k: changes.pop(k) for k in list(changes) if k in cls.__dataclass_fields__})  # type: ignore[arg-type]
        for name, cls in parts.items()
    }
    settings: dict = {"num_steps": 5, "batch_size": 4, **changes, **built}
    return ForecastConfig(**settings)


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def write(
    path: Path,
    stepper: Stepper | None = None,
    data: xr.Dataset | None = None,
    times: np.ndarray | None = None,
    **changes: object,
) -> xr.Dataset | None:
    """Write forecasts; changes go to ``write_forecast`` or to the configuration."""
    names = ("further", "diagnostic", "existing", "environment", "report", "restart_every")
    options: dict = {name: changes.pop(name) for name in names if name in changes}
    data = make_states() if data is None else data
    times = data["time"].values[1:8] if times is None else times
    options = {"environment": {}, **options}
    return write_forecast(
        stepper or Growing(), data, times, make_config(**changes), path, {}, **options
    )


def make_forecast(path: Path, *arguments: Any, **changes: Any) -> xr.Dataset:  # noqa: ANN401
    """Like ``write``, by one process."""
    written = write(path, *arguments, **changes)
    assert written is not None
    return written
