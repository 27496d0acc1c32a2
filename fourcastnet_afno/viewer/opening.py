"""Any store or run folder as fields that the explorer shows, which stay where they are."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.grids.plane import grid_of
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import library_errors_as_input_errors
from data_pipeline.store.reader import PreparedStore, is_prepared
from data_pipeline.timestep import Timestep
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.evaluation.inputs.baselines import BaselineFields
from fourcastnet_afno.evaluation.inputs.climatologies import from_store
from fourcastnet_afno.evaluation.inputs.fields import ValidTimeFields
from fourcastnet_afno.evaluation.inputs.open import canonical_forecast, open_with_layouts
from fourcastnet_afno.evaluation.inputs.valid_times import ValidTimes, valid_times_of
from fourcastnet_afno.evaluation.scores.lead_times import LeadTimes
from fourcastnet_afno.report.explorer.fields import (
    Explored,
    View,
    explore_forecasts,
    series_reader,
)

_MOST_TOGETHER = 120
"""States of a prepared store that follow each other on the slider of lead times."""


@dataclass(frozen=True, kw_only=True)
class Viewed:
    """Fields, and the scores of a run where it has some.

    Args:
        name: For the title of the page.
        explored: The fields.
        scores: As ``evaluate`` returns them.
    """

    name: str
    explored: Explored
    scores: xr.Dataset | None = None


def open_viewed(path: Path, truth: SourceConfig | None = None) -> Viewed:
    """Open a prepared store, forecasts or a run folder lazily.

    Args:
        path: A store or a NetCDF file, of this project or of others; or a folder that holds
            ``forecast.zarr`` or ``data.zarr``.
        truth: What forecasts are compared with; by default the data of the run folder.

    Raises:
        InputError: If nothing of this is there, or truth does not fit the forecasts.
    """
    name = path.resolve().name
    if is_prepared(path):
        return Viewed(name=name, explored=explore_series(PreparedStore(path)))
    forecasts, scores = {name.removesuffix(path.suffix): path}, None
    data, states = path / "data.zarr", path / "states.nc"
    is_run = path.is_dir() and not (path / "zarr.json").exists()
    if is_run and (path / "forecast.zarr").is_dir():
        kept = {"model": "forecast.zarr", "perfect model": "perfect_model.zarr"}
        forecasts = {n: path / file for n, file in kept.items() if (path / file).is_dir()}
        if (path / "scores.nc").is_file():
            with library_errors_as_input_errors(str(path / "scores.nc")):
                scores = xr.load_dataset(path / "scores.nc", decode_timedelta=True)
    elif is_run and is_prepared(data):
        return Viewed(name=name, explored=explore_series(PreparedStore(data)))
    if truth is None and is_run:
        found = next((file for file in (data, states) if file.exists()), None)
        truth = SourceConfig(path=str(found)) if found else None
    opened = {key: open_with_layouts(str(file))[0] for key, file in forecasts.items()}
    series, baselines = _truth(truth, next(iter(opened.values())))
    explored = explore_forecasts(series, opened, baselines)
    if explored is None:
        raise InputError(
            f"the forecasts of {path} are on another grid than truth, or have none of its "
            "variables; give another --truth, or none",
            code="grid-mismatch",
        )
    return Viewed(name=name, explored=explored, scores=scores)


def _truth(
    source: SourceConfig | None, forecast: xr.Dataset
) -> tuple[xr.Dataset | None, BaselineFields | None]:
    """Truth, and the climatology that a prepared store has of it, at a forecast's valid times."""
    if source is None:
        return None, None
    if len(source.paths) == 1 and is_prepared(Path(source.paths[0])):
        store = PreparedStore(Path(source.paths[0]))
        times = valid_times_of(canonical_forecast(forecast), store.times)
        climatology = ValidTimeFields(from_store(store).at, times)
        return store.observed(), BaselineFields(
            sources={"climatology": climatology}, channels=store.channels, grid=store.grid,
            valid_times=times,
        )  # fmt: skip
    return open_source(source), None


def explore_series(store: PreparedStore) -> Explored:
    """The states of a prepared store, in windows of consecutive times."""
    dataset, step = store.observed(), store.step
    trajectories = TrajectoryTimes.of(dataset.attrs)
    length = _MOST_TOGETHER if trajectories is None else trajectories.num_states
    length = min(length, _MOST_TOGETHER)
    starts, counts = starts_of_windows(store.times, step, length), np.arange(length)
    times = ValidTimes(
        starts, counts * step.delta, step.advance(starts[:, None], counts, store.times)
    )
    return Explored(
        channels=Channels.from_dataset(dataset, list(map(str, dataset.data_vars))),
        init_times=times.init_times,
        lead_times=LeadTimes(times.lead_times, trajectories),
        grid=grid_of(dataset),
        views=[View(name="data", read=series_reader(dataset, times))],
        notes=[f"Each start is followed by at most {length - 1} states."],
    )


def starts_of_windows(times: np.ndarray, step: Timestep, length: int) -> np.ndarray:
    """First times of windows of ``length`` steps that together hold all times."""
    starts = [times[0]]
    while True:
        following = np.searchsorted(times, step.advance(starts[-1], length, times))
        if following == len(times):
            return np.array(starts)
        starts.append(times[following])
