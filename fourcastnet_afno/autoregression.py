"""Autoregressive rollout: a forecaster applied to its own output."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import dask.array
import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from data_pipeline.atomic import replacing
from data_pipeline.errors import InputError
from data_pipeline.progress import progress
from fourcastnet_afno.forecaster import FieldSpec, Forecaster

_CHUNK_BYTES = 16 * 2**20


@dataclass(frozen=True, kw_only=True)
class ForecastConfig:
    """Which forecasts are made.

    Args:
        num_steps: Timesteps of each forecast.
        init_interval_hours: Time between initial times, in hours.
        batch_size: Forecasts that run together.
        regrid: Whether to start from states on another grid than the network's, see
            ``Forecaster.on_grid``; otherwise they are refused.
    """

    num_steps: int = 40
    init_interval_hours: int = 24
    batch_size: int = 16
    regrid: bool = False

    def __post_init__(self) -> None:
        for name in ("num_steps", "init_interval_hours", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"forecast.{name} must be at least 1, got {getattr(self, name)}")


def rollout(
    forecaster: Forecaster,
    initial_state: Float[Tensor, "batch history channel lat lon"],
    forcings: Iterable[Tensor],
    num_steps: int,
) -> Iterator[Float[Tensor, "batch channel lat lon"]]:
    """Step a forecaster forward, lazily; gradients are the caller's choice.

    Args:
        forecaster: Maps history and forcing to the next state.
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
        state = torch.cat([state[:, 1:], following[:, None]], dim=1)


def forcings_from(forecaster: Forecaster, init_times: np.ndarray) -> Iterator[Tensor]:
    """The computed forcings of each step of forecasts from ``init_times`` (datetime64), endless."""
    times = init_times
    while True:
        yield forecaster.forcing_at(times)
        times = times + forecaster.spec.timestep


def select_init_times(
    times: np.ndarray, forecaster: Forecaster, config: ForecastConfig, *, with_truth: bool = True
) -> np.ndarray:
    """Initial times with a complete history and, if asked, the truth of every lead time.

    Args:
        times: Times of the data (datetime64), increasing.
        forecaster: Sets timestep and history.
        config: Sets steps and interval.
        with_truth: Whether the data must reach to the end of each forecast.

    Raises:
        InputError: If no time qualifies.
    """
    first = -(forecaster.config.num_history - 1)
    last = config.num_steps if with_truth else 0
    offsets = np.arange(first, last + 1) * forecaster.spec.timestep
    complete = np.isin(times[:, None] + offsets[None, :], times).all(axis=1)
    interval = np.timedelta64(config.init_interval_hours, "h")
    regular = (times - times[0]) % interval == np.timedelta64(0) if len(times) else complete
    chosen = times[complete & regular]
    if not len(chosen):
        raise InputError(
            f"no initial time has {1 - first} states of history and {last} of truth every "
            f"{forecaster.spec.timestep_hours} h; the data has {len(times)} times"
            + (f" from {times[0]} to {times[-1]}" if len(times) else "")
            + "; lower forecast.num_steps or give more data"
        )
    return chosen


def check_source(dataset: xr.Dataset, spec: FieldSpec, expected_by: str) -> None:
    """Refuse data that a forecaster was not made for.

    Raises:
        InputError: If the grid, a variable, a level or a unit differs.
    """
    spec.grid.require_same(type(spec.grid).from_dataset(dataset), expected_by)
    names = list(dict.fromkeys(channel.name for channel in spec.channels))
    levels = sorted({channel.level for channel in spec.channels if channel.level is not None})
    found = {c.label: c.units for c in type(spec.channels).from_dataset(dataset, names, levels)}
    wrong = [
        f"{channel.label} in {channel.units!r}, found {found[channel.label]!r}"
        for channel in spec.channels
        if found[channel.label] != channel.units
    ]
    if wrong:
        raise InputError(
            f"{expected_by} expects {'; '.join(wrong)}; convert the data to these units"
        )


def write_forecast(
    forecaster: Forecaster,
    dataset: xr.Dataset,
    init_times: np.ndarray,
    config: ForecastConfig,
    path: Path,
    attrs: dict[str, str],
) -> xr.Dataset:
    """Roll out from every initial time and write the forecasts as zarr.

    Args:
        forecaster: In evaluation mode, on its device.
        dataset: Canonical dataset that holds the history of every initial time.
        init_times: Initial times (datetime64).
        config: Steps and batch size.
        path: The zarr store to write; replaced whole once the new one is complete.
        attrs: Provenance for the store's attributes.

    Returns:
        The store, opened lazily: dimensions init_time, lead_time, [level], latitude, longitude.
    """
    coords = _coordinates(forecaster.spec, init_times, config.num_steps)
    with replacing(path) as temporary:
        _create_store(temporary, forecaster.spec, coords, config.batch_size, attrs)
        with progress("Forecasting", len(init_times) * config.num_steps) as advance:
            for start in range(0, len(init_times), config.batch_size):
                batch = init_times[start : start + config.batch_size]
                fields = _forecast_batch(forecaster, dataset, batch, config.num_steps, advance)
                labelled = forecaster.spec.channels.unstack(fields, {**coords, "init_time": batch})
                labelled.drop_vars(list(labelled.coords)).to_zarr(
                    temporary,
                    region={"init_time": slice(start, start + len(batch))},
                    consolidated=False,
                    zarr_format=3,
                )
    return open_forecast(path)


def open_forecast(path: Path) -> xr.Dataset:
    """Open a forecast store lazily.

    Raises:
        InputError: If there is no forecast at ``path``.
    """
    if not (path / "zarr.json").exists():
        raise InputError(f"no forecast at {path.resolve()}; run `fourcastnet-afno forecast` first")
    return xr.open_zarr(path, consolidated=False)


def _forecast_batch(
    forecaster: Forecaster,
    dataset: xr.Dataset,
    init_times: np.ndarray,
    num_steps: int,
    advance: Callable[..., None],
) -> np.ndarray:
    offsets = np.arange(1 - forecaster.config.num_history, 1) * forecaster.spec.timestep
    times = init_times[:, None] + offsets[None, :]
    history = forecaster.spec.channels.stack(dataset.sel(time=times.ravel())).values
    wrong = forecaster.spec.channels.describe_not_finite(history, times.ravel())
    if wrong:
        raise InputError(
            f"the initial states have {wrong}; fill them as in training, or start from the run's "
            "own prepared data"
        )
    state = torch.from_numpy(history.reshape(*times.shape, *history.shape[1:]))
    state = state.to(forecaster.diff_std.device)
    output = np.empty((len(init_times), num_steps, *history.shape[1:]), np.float32)
    with torch.inference_mode():
        forcings = forcings_from(forecaster, init_times)
        for step, following in enumerate(rollout(forecaster, state, forcings, num_steps)):
            output[:, step] = following.cpu().numpy()
            advance(len(init_times))
    return output


def _coordinates(spec: FieldSpec, init_times: np.ndarray, num_steps: int) -> dict[str, np.ndarray]:
    leads = np.arange(1, num_steps + 1) * spec.timestep
    return {"init_time": init_times, "lead_time": leads, **spec.grid.coords}


def _create_store(
    path: Path,
    spec: FieldSpec,
    coords: dict[str, np.ndarray],
    batch_size: int,
    attrs: dict[str, str],
) -> None:
    shape = (len(coords["init_time"]), len(coords["lead_time"]), len(spec.channels))
    empty = dask.array.zeros((*shape, *spec.grid.shape), dtype="float32", chunks=-1)
    template = spec.channels.unstack(empty, coords)
    template = template.assign_coords(valid_time=template.init_time + template.lead_time)
    template.attrs = {"Conventions": "CF-1.8", **attrs}
    time_units = {"units": "hours since 1970-01-01", "dtype": "int64"}
    encoding: dict = {"init_time": time_units, "valid_time": time_units}
    encoding["lead_time"] = {"units": "hours", "dtype": "int64"}
    leads = max(1, _CHUNK_BYTES // (4 * batch_size * spec.grid.shape[0] * spec.grid.shape[1]))
    for name, variable in template.data_vars.items():
        sizes = {**variable.sizes, "level": 1}
        sizes |= {"init_time": min(batch_size, shape[0]), "lead_time": min(leads, shape[1])}
        encoding[name] = {"chunks": tuple(sizes[str(dim)] for dim in variable.dims)}
    template.chunk().to_zarr(
        path, compute=False, encoding=encoding, consolidated=False, zarr_format=3
    )
