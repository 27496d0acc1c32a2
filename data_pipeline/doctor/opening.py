"""Opening a source for examination: leniently where ``open_source`` rejects it."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from data_pipeline.doctor.findings import Finding, collect, finding_from_error
from data_pipeline.doctor.times import times_of
from data_pipeline.errors import InputError
from data_pipeline.preparation.config import DataConfig
from data_pipeline.simulation.pde_dataset import simulate_equation
from data_pipeline.simulation.planet import simulate_planet
from data_pipeline.simulation.trajectories import Splits
from data_pipeline.sources.canonical import canonical_parts, canonicalize, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.select import MEMBER_AXES
from data_pipeline.sources.files import STORE_FILES, file_fingerprints, open_all
from data_pipeline.sources.formats.chunks import PIECE_BYTES
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
        raw: Files or stores before they are made canonical; the caller closes them.
        complete: Whether ``dataset`` and ``times`` are all of the source.
        findings: Errors of ``open_source``.
    """

    dataset: xr.Dataset | None
    times: np.ndarray
    raw: tuple[xr.Dataset, ...] = ()
    complete: bool = True
    findings: tuple[Finding, ...] = ()


def open_examined(config: DataConfig, piece_bytes: int = PIECE_BYTES) -> OpenedSource:
    """Open the source, or simulate a few days."""
    findings: list[Finding] = []
    if config.pde is not None:
        with collect(findings, "source", "data.pde"):
            # The first states of the first trajectory, and the times of all trajectories.
            first, steps = Splits(train=1), min(config.pde.num_steps, _SOLVED_STEPS)
            brief = replace(config.pde, trajectories=first, num_steps=steps, spinup_steps=0)
            states = simulate_equation(brief).compute()
            states = states.assign_attrs(config.pde.trajectory_times.attrs)
            return OpenedSource(states, config.pde.times().ravel())
    elif config.source is None:
        full = config.simulation
        assert full is not None
        # A short simulation of a few thousand points at most, and the times of the full one.
        rows = min(full.num_latitudes, _SIMULATED_ROWS)
        days, spinup = min(full.days, _SIMULATED_DAYS), min(full.spinup_days, _SIMULATED_SPINUP)
        short = replace(full, num_trajectories=1, days=days, spinup_days=spinup)
        short = replace(short, num_latitudes=rows, num_longitudes=2 * rows)
        return OpenedSource(simulate_planet(short), full.times().ravel())
    elif config.source.benchmark is not None:
        with collect(findings, "source", "data.source"):
            dataset = open_source(config.source)
            return OpenedSource(dataset, times_of(dataset))
    else:
        source, raw = config.source, []
        static = [parse_label(label)[0] for label in config.static]
        try:
            for path in source.paths:
                raw += open_all(path, source, piece_bytes=piece_bytes)
            dataset = join(canonical_parts(raw, source), (*INVARIANT, *static))
            return OpenedSource(dataset, times_of(dataset), tuple(raw))
        except InputError as error:
            for opened in raw:
                opened.close()
            return _open_leniently(source, static, error)
    return OpenedSource(None, times_of(xr.Dataset()), findings=tuple(findings))


def _open_leniently(source: SourceConfig, static: list[str], error: InputError) -> OpenedSource:
    """Read as much as possible of a source that ``open_source`` rejects.

    Wrong labels of units are passed over, so that the values can tell; repeated times are dropped.
    """
    findings = [finding_from_error("source", error, "data.source")]
    raw, parts = [], []
    lenient = replace(source, units={**UNITS, **source.units})
    files = []
    for path in source.paths:  # a store or a URL is one file
        if "://" in path:
            files.append(path)
            continue
        with suppress(InputError, OSError):
            names = [name for name, _, _ in file_fingerprints(path)]
            is_store = any(Path(name).name in STORE_FILES for name in names)
            files += [path] if is_store else names
    for file in files:
        try:
            opened = open_all(file, source)
            raw += opened
            for part in (canonicalize(dataset, lenient) for dataset in opened):
                part = part.isel({m: 0 for m in MEMBER_AXES if part.sizes.get(m, 1) > 1}, drop=True)
                timed = "time" in part.dims
                parts.append(part.drop_duplicates("time").sortby("time") if timed else part)
        except (InputError, ValueError, KeyError, OSError) as problem:
            if isinstance(problem, InputError) and str(problem) != str(error):
                findings.append(finding_from_error("source", problem, file))
    dataset, complete = parts[0] if parts else None, False
    with suppress(InputError):
        if parts:
            dataset = join(parts, (*INVARIANT, *static))
            complete = len(parts) == len(raw) >= len(files)
    times = times_of(dataset if dataset is not None else xr.Dataset())
    unique = {finding.what: finding for finding in findings}  # several files may share a problem
    return OpenedSource(dataset, times, tuple(raw), complete, tuple(unique.values()))
