"""Checks of the training store against the source, and of the disk."""

from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.doctor.findings import Finding, collect, finding
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.files.free_space import find_free_space
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid
from data_pipeline.preparation.checks import check_free_space, check_same
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.plan import PreparationPlan
from data_pipeline.store.reader import PreparedStore

_GIB = 2**30
_STALE, _FLOOR = 0.1, 0.01  # in units of the standard deviation
_FEWEST = 8
_DELETE = "Delete the store and prepare it again."
_PREPARE_AGAIN = "Delete the store and prepare it again, or give the source it was prepared from."


def open_prepared(config: DataConfig, location: str) -> tuple[PreparedStore | None, list[Finding]]:
    """Open the store in a folder or at a URL if it can be read and has this configuration."""
    remote = "://" in location
    if not remote and not Path(location).exists():
        return None, []
    findings: list[Finding] = []
    try:
        with collect(findings, "store-damaged", location):
            store = PreparedStore(location if remote else Path(location))
            store.states.read(np.array([0, len(store.times) - 1]))
            with collect(findings, "store-settings", location):
                check_same(config, store)
                with collect(findings, "prepare", "data.crop"):
                    return PreparedStore(store.path, config.crop), []
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        what = f"the store cannot be read: {type(error).__name__}: {error}"
        findings.append(finding("store-damaged", "error", what, location, _DELETE))
    return None, findings


def describe_store(store: PreparedStore) -> dict[str, Any]:
    """Facts about a store."""
    return {
        "path": str(store.path),
        "fingerprint": store.fingerprint,
        "num_times": len(store.times),
        "channels": store.channels.labels,
        "grid": str(store.grid),
    }


def check_store(
    store: PreparedStore, sample: SampledValues, grid: Grid, config: DataConfig
) -> list[Finding]:
    """Compare an uncropped store with states of the source, and its statistics with theirs."""
    coarse = config.grid.build() if config.grid else grid
    if not store.grid.is_same(coarse):
        what = f"the store has the grid {store.grid}, the source now has {coarse}"
        return [finding("store-stale", "error", what, str(store.path), _PREPARE_AGAIN)]
    coarsening = None if grid.is_same(coarse) else Coarsening(grid, coarse)
    stored = store.states.read(np.flatnonzero(np.isin(store.times, sample.times)))
    in_store = np.isin(sample.times, store.times)
    training, weights = config.train.contains(sample.times), coarse.area_weights()
    differences, changed_statistics = {}, {}
    for index, channel in enumerate(store.channels):
        values = sample.values.get(channel.label)
        if values is None or not np.isfinite(values).all():  # filled values are the store's own
            continue
        values = coarsening.apply(values) if coarsening else values
        errors = stored[:, index].astype(float) - values[in_store]
        std = float(store.statistics.std[index])
        difference = float(np.sqrt(np.mean(errors**2))) if len(errors) else 0.0
        difference = difference and (difference / std if std > 0 else np.inf)
        if not difference <= _STALE:
            differences[channel.label] = difference
        elif text := _compare_statistics(store, index, values[training], weights):
            changed_statistics[channel.label] = text
    findings = []
    if differences:
        worst = max(differences, key=lambda label: np.nan_to_num(differences[label], nan=np.inf))
        what = f"store and source differ by {differences[worst]:.3g} standard deviations"
        where = f"{', '.join(differences)} (most: {worst}), {store.path}"
        findings.append(finding("store-stale", "error", what, where, _PREPARE_AGAIN))
    if changed_statistics:
        what, where = next(iter(changed_statistics.values())), ", ".join(changed_statistics)
        where += f", {store.path}"
        findings.append(finding("store-statistics", "error", what, where, _DELETE))
    return findings


def _compare_statistics(
    store: PreparedStore, index: int, values: np.ndarray, weights: np.ndarray
) -> str | None:
    """Describe a difference beyond the error of a sample of independent times."""
    mean, std = float(store.statistics.mean[index]), float(store.statistics.std[index])
    if (count := len(values)) < _FEWEST:
        return None
    # Few times estimate their own scatter badly: twice the band for ten of them.
    band = 5 * (1 + 10 / count) / np.sqrt(count)
    deviations = values.astype(np.float64) - mean
    offsets = (weights * deviations).mean(axis=(1, 2))
    squares = (weights * deviations**2).mean(axis=(1, 2))
    fresh = f"{count} fresh states have"
    if abs(offsets.mean()) > band * offsets.std(ddof=1) + _FLOOR * std:
        error = offsets.std(ddof=1) / np.sqrt(count)
        current = f"{mean + offsets.mean():.6g} +- {error:.2g}"
        return f"the store has the mean {mean:.6g}, {fresh} {current}"
    if not abs(squares.mean() - std**2) <= band * squares.std(ddof=1) + 2 * _FLOOR * std**2:
        current = f"{np.sqrt(squares.mean()):.6g}"
        return f"the store has the standard deviation {std:.6g}, {fresh} {current}"
    return None


def check_disk(path: Path, needed: int) -> tuple[dict[str, Any], list[Finding]]:
    """Check the free space for a store of some bytes that is still to be written."""
    folder, free = find_free_space(path)
    findings: list[Finding] = []
    with collect(findings, "disk", str(folder)):
        check_free_space(path, needed)
        if needed >= 0.9 * free:
            what = f"the store takes {needed / _GIB:.2f} GiB of {free / _GIB:.2f} GiB that are free"
            remedy = "Give data.store on another disk, or take fewer variables, levels or years."
            findings.append(finding("disk", "warning", what, str(folder), remedy))
    return {"folder": str(folder), "free_bytes": free, "store_bytes": needed}, findings


def check_chunks(plan: PreparationPlan) -> list[Finding]:
    """Find chunks of the source that a preparation reads much more of than it takes."""
    findings = []
    for note in plan.chunks:
        what, _, remedy = note.rpartition("; ")
        where = note.partition(" ")[0]
        findings.append(finding("chunks", "warning", what, where, f"Give {remedy}."))
    return findings
