"""A forecast of a shipped checkpoint without any data: its simulator makes some weeks of it.

RUN/states.nc        simulated states, to start from and to compare with
RUN/climatology.nc   the mean state of the training, for the scores of anomalies

The weather is none of the training's: the simulator's random numbers have another seed.
"""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr

from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Output, check_outputs
from data_pipeline.simulation.config import SimulationConfig
from data_pipeline.simulation.planet import simulate_planet
from data_pipeline.sources.config import SourceConfig
from data_pipeline.terminal import print_line
from fourcastnet_afno.forecaster.checkpoint import fingerprint_of, load_forecaster
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.initial_states import parse_init_times, select_init_times
from fourcastnet_afno.shipped import is_shipped
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.outputs import store_location
from fourcastnet_afno.workflows.scored_forecast import ScoreOptions

_NUM_INIT_TIMES = 4
_MOST_DAYS = 365  # a trajectory fills a calendar year at most
_BASELINES = ("persistence", "climatology")  # of those that scores take without years of data
_SEEDS = 2**63
_DAY = np.timedelta64(1, "D")
_MARK = "simulated_start"  # attribute of both files, which says what they were made of


def starts_from_simulator(config: ExperimentConfig, output: Path, checkpoint: Path) -> bool:
    """Whether a checkpoint was shipped and the run folder has no data, which would take minutes."""
    store = store_location(config, output)
    has_data = "://" in store or Path(store).exists()
    return is_shipped(checkpoint) and config.data.simulation is not None and not has_data


def start_from_simulator(
    config: ExperimentConfig, output: Path, checkpoint: Path, scored: ScoreOptions
) -> tuple[ExperimentConfig, SourceConfig, ScoreOptions]:
    """Simulate states to start from, and choose what the options of ``forecast`` leave open.

    Files of an earlier run of the same command are used again.

    Returns:
        The experiment with initial times and without baselines that need years of data, the
        source, and the options of the scores, which are made.

    Raises:
        InputError: If the folder holds other files of these names, or a setting does not suit.
    """
    simulation = _planet(config)
    states, climatology = output / "states.nc", output / "climatology.nc"
    scored = replace(
        scored,
        scores=scored.scores or output / "scores.nc",
        report=scored.report or output / "report.html",
        truth=scored.truth or SourceConfig(path=str(states)),
        climatology=scored.climatology or SourceConfig(path=str(climatology)),
    )
    made = [
        Output(states, "simulated states", _is_ours),
        Output(climatology, "a climatology", _is_ours),
    ]
    check_outputs([*made, *scored.outputs], {"--checkpoint": [checkpoint]})
    forecaster = load_forecaster(checkpoint)
    digest, record = fingerprint_of(forecaster), json.dumps(asdict(simulation))
    if _mark_of(states) != record:
        print_line(console, f"Simulating {simulation.days} days to start from: {states.resolve()}")
        _write(states, simulate_planet(simulation), record)
    if _mark_of(climatology) != digest:
        _write(climatology, mean_state_table(forecaster), digest)
    settings = config.forecast
    if settings.init_times is None:
        starts = select_init_times(
            simulation.times().ravel(),
            forecaster.spec,
            forecaster.num_history,
            interval=settings.interval,
            num_following=settings.num_steps,
        )[:_NUM_INIT_TIMES]
        text = ",".join(starts.astype("datetime64[s]").astype(str))
        settings = replace(settings, init_times=text)
    baselines = [name for name in config.evaluation.baselines if name in _BASELINES]
    evaluation = replace(config.evaluation, baselines=baselines)
    config = replace(config, forecast=settings, evaluation=evaluation)
    return config, SourceConfig(path=str(states)), scored


def _planet(config: ExperimentConfig) -> SimulationConfig:
    """One trajectory from the start of the test period, long enough for all that is forecast."""
    trained, settings = config.data.simulation, config.forecast
    assert trained is not None
    start = np.datetime64(config.data.test.start, "D")
    lead = settings.num_steps * np.timedelta64(trained.timestep_hours, "h")
    if settings.init_times is None:
        nanoseconds = _NUM_INIT_TIMES * settings.interval.mean_nanoseconds
        last = start + np.timedelta64(math.ceil(nanoseconds), "ns")
    else:
        last = parse_init_times(settings.init_times, settings.interval)[-1]
    days = int((last + lead - start) / _DAY) + 1
    return replace(
        trained,
        num_trajectories=1,
        days=min(max(days, 1), _MOST_DAYS),
        seed=(trained.seed + 1) % _SEEDS,
        start=str(start),
    )


def mean_state_table(forecaster: Forecaster) -> xr.Dataset:
    """The mean of the training as a table of a climatology, the same at each hour of day."""
    spec = forecaster.spec
    assert forecaster.mean_state is not None
    hours = np.arange(0, 24, spec.step.hours)
    fields = np.repeat(forecaster.mean_state.numpy()[None], len(hours), axis=0)
    return spec.channels.unstack(fields, {"hour": hours, **spec.grid.coords})


def _write(path: Path, dataset: xr.Dataset, mark: str) -> None:
    with replacing(path) as temporary:
        dataset.assign_attrs({_MARK: mark}).to_netcdf(temporary, engine="netcdf4")


def _mark_of(path: Path) -> str | None:
    """Mark of what a file was made of; None where there is no file of this module."""
    try:
        with netCDF4.Dataset(path) as file:
            return file.getncattr(_MARK) if _MARK in file.ncattrs() else None
    except OSError:
        return None


def _is_ours(path: Path) -> bool:
    return _mark_of(path) is not None
