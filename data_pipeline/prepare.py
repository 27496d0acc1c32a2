"""Preparation: from a source or a simulation to a checked training store with its statistics."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.climatology import fit_climatology
from data_pipeline.coarsening import Coarsening, GridConfig
from data_pipeline.errors import InputError
from data_pipeline.filling import Filling, FillRule, check_rules
from data_pipeline.forcings import check_forcings
from data_pipeline.grid import LatLonGrid
from data_pipeline.ledger import Ledger, resumable
from data_pipeline.names import parse_label
from data_pipeline.opening import load, stamps
from data_pipeline.progress import track
from data_pipeline.resampling import AccumulateRule, on_timestep, resample
from data_pipeline.simulation import SimulationConfig, simulate
from data_pipeline.sources import SourceConfig, open_source, require_units
from data_pipeline.static_fields import StaticFields
from data_pipeline.statistics import Statistics, compute_statistics
from data_pipeline.store import PreparedStore, StoreWriter

_HOUR = np.timedelta64(1, "h")


@dataclass(frozen=True, kw_only=True)
class Period:
    """A span of time with both ends.

    Args:
        start: ISO date or time, as 2001-01-01.
        end: Likewise; a date includes that whole day.
    """

    start: str
    end: str

    def __post_init__(self) -> None:
        try:
            ordered = self.bounds[0] <= self.bounds[1]
        except ValueError as error:
            raise ValueError(
                f"a period needs ISO dates as 2001-01-31, got {self.start!r} to {self.end!r}"
            ) from error
        if not ordered:
            raise ValueError(f"a period must not end before it starts, got {self}")

    def __str__(self) -> str:
        return f"{self.start} to {self.end}"

    @property
    def bounds(self) -> tuple[np.datetime64, np.datetime64]:
        """First and last time."""
        end = np.datetime64(self.end)
        last = end + np.timedelta64(1, "D") - np.timedelta64(1, "s") if _is_date(end) else end
        return np.datetime64(self.start).astype("datetime64[s]"), last.astype("datetime64[s]")

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Whether each of ``times`` (datetime64) lies in the period."""
        first, last = self.bounds
        return (times >= first) & (times <= last)


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, which channels, and how it is split in time.

    Args:
        prognostic: Variables that are predicted and fed back: names, or labels as
            geopotential_500 or z500; see ``derived`` for what is computed where it is missing.
        train: Training period; statistics and climatology see this period alone.
        validation: Validation period, after it.
        test: Test period, after that.
        source: Data to read; or else ``simulation``.
        simulation: The simulated planet; or else ``source``.
        static: Variables without time that the network sees, as orography, land_sea_mask or
            soil_type; classes become a mask each, see ``static_fields``.
        forcings: Computed inputs, see data_pipeline.forcings: toa_insolation, and _sin or _cos of
            day_of_year, local_time, latitude, longitude.
        levels: Levels in hPa of every variable with levels; all where empty.
        grid: Coarser grid to take conservative means on; by default the data's own.
        timestep_hours: Time from a state to the next; finer data is thinned, or accumulated.
        accumulate: How accumulations, as hourly precipitation, become those of a timestep, by
            variable: ``sum``, ``mean``, or ``last``, the value at the state; see ``resampling``.
        allow_gaps: Whether times may be missing; no window ever crosses a gap.
        fill: What stands for missing values, by variable: a number, or ``climatology``, which also
            adds a static channel that says where; see ``filling``. Others are refused.
        climatology_harmonics: Harmonics of the day of year in the climatology.
        store: Folder of the training store, to share it between runs; by default in the run folder.
    """

    prognostic: list[str]
    train: Period
    validation: Period
    test: Period
    source: SourceConfig | None = None
    simulation: SimulationConfig | None = None
    static: list[str] = field(default_factory=list)
    forcings: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    grid: GridConfig | None = None
    timestep_hours: int = 6
    accumulate: dict[str, AccumulateRule] = field(default_factory=dict)
    allow_gaps: bool = False
    fill: dict[str, FillRule] = field(default_factory=dict)
    climatology_harmonics: int = 2
    store: str | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (self.simulation is None):
            raise ValueError("data needs either data.source or data.simulation, and not both")
        if not self.prognostic:
            raise ValueError("data.prognostic must name at least one variable")
        if self.timestep_hours < 1 or self.climatology_harmonics < 0:
            raise ValueError(
                "data.timestep_hours must be at least 1 and data.climatology_harmonics at least 0, "
                f"got {self.timestep_hours} and {self.climatology_harmonics}"
            )
        check_forcings(self.forcings)
        names = ("train", "validation", "test")
        for before, after in pairwise(names):
            if not getattr(self, before).bounds[1] < getattr(self, after).bounds[0]:
                raise ValueError(
                    f"data.{before} must end before data.{after} starts, got "
                    f"{getattr(self, before)} and {getattr(self, after)}"
                )

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Whether each of ``times`` lies in any of the three periods."""
        inside = [period.contains(times) for period in (self.train, self.validation, self.test)]
        return np.any(inside, axis=0)

    def store_settings(self) -> dict[str, Any]:
        """The part of the configuration that a store depends on."""
        free = ("store", "forcings")
        return {key: value for key, value in asdict(self).items() if key not in free}


def prepare(config: DataConfig, path: Path) -> PreparedStore:
    """Write the training store, or open it where it is there already.

    An interrupted call is gone on with by the next one; the result is the same, bit for bit.

    Args:
        config: What to prepare.
        path: Folder of the store.

    Raises:
        InputError: If the data is not as configured (variables, units, times, NaN, splits), if
            ``path`` holds a store of another configuration, or if the disk is too small.
    """
    if path.exists():
        return _open_same(config, path)
    with resumable(path, _identity(config)) as (folder, ledger):
        _write(config, folder, ledger)
    return PreparedStore(path)


def _identity(config: DataConfig) -> str:
    """What a store depends on: settings, and the files behind them."""
    files = [stamps(path) for path in config.source.paths] if config.source else []
    return json.dumps({"settings": config.store_settings(), "files": files}, sort_keys=True)


def _open_same(config: DataConfig, path: Path) -> PreparedStore:
    store = PreparedStore(path)
    before, now = store.attrs["settings"], config.store_settings()
    keys = [f"data.{key}" for key in sorted(now) if before.get(key) != now[key]]
    if keys:
        raise InputError(
            f"{path.resolve()} was prepared with other values of {', '.join(keys)}; give another "
            "--output or data.store, or delete that folder to prepare it again"
        )
    return store


def _write(config: DataConfig, path: Path, ledger: Ledger) -> None:
    with _read(config) as opened:
        dataset = resample(
            opened,
            [*config.prognostic, *config.static],
            config.accumulate,
            config.timestep_hours,
            config.contains,
            config.allow_gaps,
        )
        _write_dataset(dataset, config, path, ledger)


def _write_dataset(dataset: xr.Dataset, config: DataConfig, path: Path, ledger: Ledger) -> None:
    channels = Channels.from_dataset(dataset, config.prognostic, config.levels)
    _check_dims(dataset, channels)
    require_units(dataset, list(dict.fromkeys(c.name for c in channels)))
    check_rules(config.fill, [parse_label(n)[0] for n in (*config.prognostic, *config.static)])
    fixed = StaticFields.read(dataset, config.static, config.levels, config.fill)
    dataset = dataset.isel(time=select_times(dataset["time"].values, config))
    source_grid, times = LatLonGrid.from_dataset(dataset), dataset["time"].values
    grid = config.grid.build() if config.grid else source_grid
    coarsening = Coarsening(source_grid, grid) if grid != source_grid else None
    _check_disk(path, 4 * len(times) * len(channels) * grid.shape[0] * grid.shape[1])
    writer = StoreWriter(path, channels, grid, times, ledger)
    filling = Filling.fit(dataset, channels, config.fill, config.train.contains(times))
    static = np.concatenate([fixed.fields, filling.masks])
    _write_blocks(writer, dataset, channels, filling, coarsening)
    statistics, hours, coefficients = _moments(writer, config, grid)
    attrs = {
        "channels": channels.to_json(),
        "static_channels": [*fixed.channels.to_json(), *filling.mask_channels.to_json()],
        "timestep_hours": config.timestep_hours,
        "settings": config.store_settings(),
        "versions": {name: version(name) for name in ("fourcastnet-afno", "xarray", "zarr")},
    }
    writer.finish(
        coarsening.apply(static) if coarsening else static, statistics, hours, coefficients, attrs
    )


def _write_blocks(
    writer: StoreWriter,
    dataset: xr.Dataset,
    channels: Channels,
    filling: Filling,
    coarsening: Coarsening | None,
) -> None:
    starts = writer.missing
    for start in track(starts, "Preparing") if len(starts) > 1 else starts:
        part = dataset.isel(time=slice(start, start + writer.block_length))
        block = channels.stack(part).transpose("time", "channel", "latitude", "longitude")
        times = part["time"].values
        values = _load(block, f"the data from {times[0]} on").astype(np.float32)
        filling.apply(values, times)
        _check_finite(values, channels, times)
        writer.write_block(start, coarsening.apply(values) if coarsening else values)


def _check_disk(path: Path, needed: int) -> None:
    """Refuse a disk that is too small, counting what an interrupted call has written."""
    written = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    free = shutil.disk_usage(path.parent).free
    if needed - written > free:
        raise InputError(
            f"the store takes {needed / 2**30:.2f} GiB and {path.parent.resolve()} has "
            f"{free / 2**30:.2f} GiB free; give data.store on another disk, or take fewer "
            "variables, levels or years"
        )


def _load(block: xr.DataArray, what: str) -> np.ndarray:
    return load(block, what).values


def _read(config: DataConfig) -> xr.Dataset:
    if config.source is not None:
        return open_source(config.source, [parse_label(name)[0] for name in config.static])
    assert config.simulation is not None
    return simulate(config.simulation)


def _check_dims(dataset: xr.Dataset, channels: Channels) -> None:
    allowed = {"time", "level", "latitude", "longitude"}
    for name in dict.fromkeys(channel.name for channel in channels):
        dims = set(map(str, dataset[name].dims))
        if dims - allowed or not {"time", "latitude", "longitude"} <= dims:
            raise InputError(
                f"the prognostic variable {name} has dimensions {sorted(dims)}, expected time, "
                "latitude and longitude (and level); select one entry of the others, or give it "
                "another role"
            )


def select_times(times: np.ndarray, config: DataConfig) -> np.ndarray:
    """Indices of the times to keep: every timestep within the three periods.

    Raises:
        InputError: If the times are coarser than the timestep, irregular, have gaps that are not
            allowed, or a period is empty.
    """
    indices = np.flatnonzero(on_timestep(times, config.timestep_hours) & config.contains(times))
    kept = times[indices]
    for name in ("train", "validation", "test"):
        period: Period = getattr(config, name)
        if np.diff(kept[period.contains(kept)]).size == 0:
            covered = f"{times[0]} to {times[-1]}" if len(times) else "no time at all"
            raise InputError(
                f"data.{name} ({period}) holds {int(period.contains(kept).sum())} states every "
                f"{config.timestep_hours} h, expected at least 2; the data covers {covered}"
            )
        _check_gaps(kept[period.contains(kept)], config, name)
    return indices


def _check_gaps(times: np.ndarray, config: DataConfig, name: str) -> None:
    steps = np.diff(times) / _HOUR
    gaps = np.flatnonzero(steps > config.timestep_hours)
    if len(gaps) == len(steps):
        raise InputError(
            f"data.{name} has no two states {config.timestep_hours} h apart; the smallest step is "
            f"{steps.min():g} h; set data.timestep_hours to the data's step"
        )
    if len(gaps) and not config.allow_gaps:
        first = gaps[0]
        raise InputError(
            f"data.{name} has {len(gaps)} gaps, the first between {times[first]} and "
            f"{times[first + 1]}, expected a state every {config.timestep_hours} h; give complete "
            "data, or set data.allow_gaps=true to leave out the windows that cross a gap"
        )


def _check_finite(values: np.ndarray, channels: Channels, times: np.ndarray) -> None:
    wrong = channels.describe_not_finite(values, times)
    if not wrong:
        return
    complete = np.all(np.isfinite(values), axis=(0, 2, 3)).tolist()
    bad = [channel for channel, good in zip(channels, complete, strict=True) if not good]
    rules = ", ".join(f"{name}: climatology" for name in dict.fromkeys(c.name for c in bad))
    raise InputError(
        f"{', '.join(c.label for c in bad)} has {wrong}; complete the data if it is still being "
        f"written or lacks chunks, set data.fill={{{rules}}} (or a number for each), or leave them "
        "out"
    )


def _moments(
    writer: StoreWriter, config: DataConfig, grid: LatLonGrid
) -> tuple[Statistics, np.ndarray, np.ndarray]:
    training = config.train.contains(writer.times)
    states = writer.states()

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        done, times = 0, writer.times[training]
        for block in states.blocks(training):
            yield times[done : done + len(block)], block
            done += len(block)

    timestep = np.timedelta64(config.timestep_hours, "h")
    statistics = compute_statistics(blocks(), grid.area_weights(), timestep)
    return statistics, *fit_climatology(blocks(), config.climatology_harmonics)


def _is_date(value: np.datetime64) -> bool:
    return np.datetime_data(value.dtype)[0] in ("Y", "M", "D")
