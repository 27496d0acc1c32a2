"""Opening a source for examination: leniently where it is refused."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.doctor.findings import Finding, finding_from_error
from data_pipeline.doctor.times import times_of
from data_pipeline.errors import InputError
from data_pipeline.preparation.config import DataConfig
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.pde_dataset import simulate_equation
from data_pipeline.simulation.planet import SimulationConfig, simulate_planet
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.sources.canonical import canonicalize, open_raw, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import file_fingerprints
from data_pipeline.sources.join import join
from data_pipeline.sources.names import INVARIANT, UNITS, parse_label

_SOLVED_STEPS = 4
_SIMULATED_DAYS, _SIMULATED_SPINUP, _SIMULATED_ROWS = 2, 5, 32


@dataclass(frozen=True)
class OpenedSource:
    """A source, opened as far as it can be.

    Args:
        dataset: Canonical and lazy, or ``None`` where nothing can be read.
        times: Of its states, increasing, without repeats.
        raw: Files or stores as they are, to be closed.
        complete: Whether ``dataset`` and ``times`` are all of the source.
        findings: What is refused.
    """

    dataset: xr.Dataset | None
    times: np.ndarray
    raw: tuple[xr.Dataset, ...] = ()
    complete: bool = True
    findings: tuple[Finding, ...] = ()


def open_examined(config: DataConfig) -> OpenedSource:
    """Open the source, or simulate a few days."""
    if config.pde is not None:
        return _solved(config.pde)
    if config.source is None:
        assert config.simulation is not None
        return _simulated(config.simulation)
    source, raw = config.source, []
    try:
        if source.benchmark is not None:
            dataset = open_source(source)
            return OpenedSource(dataset, times_of(dataset))
        raw = [dataset for path in source.paths for dataset in open_raw(path, source)]
        parts = [canonicalize(dataset, source) for dataset in raw]
        dataset = join(parts, (*INVARIANT, *_static_names(config)))
        return OpenedSource(dataset, times_of(dataset), tuple(raw))
    except InputError as error:
        for opened in raw:
            opened.close()
        if source.benchmark is not None:
            finding = finding_from_error("source", error, "data.source")
            return OpenedSource(None, times_of(xr.Dataset()), findings=(finding,))
        return _opened_leniently(config, source, error)


def _simulated(config: SimulationConfig) -> OpenedSource:
    """A short simulation, not finer than a few thousand points, and the times of all of it."""
    rows = min(config.num_latitudes, _SIMULATED_ROWS)
    short = replace(
        config,
        num_trajectories=1,
        days=min(config.days, _SIMULATED_DAYS),
        spinup_days=min(config.spinup_days, _SIMULATED_SPINUP),
        num_latitudes=rows,
        num_longitudes=2 * rows,
    )
    return OpenedSource(simulate_planet(short), config.times().ravel())


def _solved(config: PDEConfig) -> OpenedSource:
    """The first states of the first trajectory, and the times of all of them."""
    short = replace(
        config,
        trajectories=Splits(train=1),
        num_steps=min(config.num_steps, _SOLVED_STEPS),
        spinup_steps=0,
    )
    try:
        return OpenedSource(simulate_equation(short).compute(), config.times().ravel())
    except InputError as error:
        return OpenedSource(
            None,
            times_of(xr.Dataset()),
            findings=(finding_from_error("source", error, "data.pde"),),
        )


def _opened_leniently(config: DataConfig, source: SourceConfig, error: InputError) -> OpenedSource:
    """What can be read of a source that ``open_source`` refuses.

    Wrong labels of units are passed over, so that the values can tell; repeated times are dropped.
    """
    findings = [finding_from_error("source", error, "data.source")]
    raw, parts = [], []
    lenient = replace(source, units={**UNITS, **source.units})
    files = [file for path in source.paths for file in _files(path)]
    for file in files:
        try:
            opened = open_raw(file, source)
            raw += opened
            parts += [_sorted(canonicalize(dataset, lenient)) for dataset in opened]
        except (InputError, ValueError, KeyError, OSError) as problem:
            if isinstance(problem, InputError) and str(problem) != str(error):
                findings.append(finding_from_error("source", problem, file))
    joined = _joined(parts, _static_names(config))
    complete = joined is not None and len(parts) == len(raw) >= len(files)
    dataset = joined if joined is not None else parts[0] if parts else None
    times = times_of(dataset) if dataset is not None else times_of(xr.Dataset())
    unique = {finding.what: finding for finding in findings}  # several files may share a problem
    return OpenedSource(dataset, times, tuple(raw), complete, tuple(unique.values()))


def _static_names(config: DataConfig) -> list[str]:
    return [parse_label(label)[0] for label in config.static]


def _files(path: str) -> list[str]:
    """The single files of a path; a store or a URL is one."""
    if "://" in path:
        return [path]
    try:
        names = [name for name, _, _ in file_fingerprints(path)]
    except (InputError, OSError):
        return []
    is_store = any(Path(name).name in ("zarr.json", ".zmetadata", ".zgroup") for name in names)
    return [path] if is_store else names


def _sorted(dataset: xr.Dataset) -> xr.Dataset:
    return dataset.drop_duplicates("time").sortby("time") if "time" in dataset.dims else dataset


def _joined(parts: Sequence[xr.Dataset], static: Sequence[str]) -> xr.Dataset | None:
    try:
        return join(parts, (*INVARIANT, *static)) if parts else None
    except InputError:
        return None
