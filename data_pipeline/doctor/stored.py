"""Checks of the training store against the source, and of the disk."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.doctor.findings import Finding, finding, finding_from_error
from data_pipeline.doctor.sampling import SampledValues
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import Coarsening
from data_pipeline.grids.grid import Grid
from data_pipeline.preparation.checks import check_same
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.plan import PreparationPlan
from data_pipeline.store.reader import PreparedStore

_GIB = 2**30
_STALE, _FLOOR = 0.1, 0.01  # in units of the standard deviation
_FEWEST = 8
_PREPARE_AGAIN = "Delete the store and prepare it again, or give the source it was prepared from."


def open_prepared(config: DataConfig, location: str) -> tuple[PreparedStore | None, list[Finding]]:
    """The store in a folder or at a URL, where it can be read and is of this configuration."""
    remote = "://" in location
    if not remote and not Path(location).exists():
        return None, []
    try:
        store = PreparedStore(location if remote else Path(location))
        store.states.at(np.array([0, len(store.times) - 1]))
    except InputError as error:
        return None, [finding_from_error("store-damaged", error, location)]
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        return None, [_damaged(location, error)]
    try:
        check_same(config, store)
    except InputError as error:
        return None, [finding_from_error("store-settings", error, location)]
    try:
        return PreparedStore(store.path, config.crop), []
    except InputError as error:
        return None, [finding_from_error("prepare", error, "data.crop")]


def _damaged(path: str, error: Exception) -> Finding:
    what = f"the store cannot be read: {type(error).__name__}: {error}"
    remedy = "Delete the store and prepare it again."
    return finding("store-damaged", "error", what, path, remedy)


def describe_store(store: PreparedStore) -> dict[str, Any]:
    """What a store holds."""
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
    """Compare states at the same times, and the statistics with those of a fresh sample.

    Args:
        store: The training store, not cropped.
        sample: Of the source.
        grid: Grid of the source.
        config: Its training period and grid.
    """
    coarse = config.grid.build() if config.grid else grid
    if coarse != store.grid:
        what = f"the store has the grid {store.grid}, the source now gives {coarse}"
        return [finding("store-stale", "error", what, str(store.path), _PREPARE_AGAIN)]
    coarsening = Coarsening(grid, coarse) if coarse != grid else None
    stored = store.states.at(np.flatnonzero(np.isin(store.times, sample.times)))
    same = np.isin(sample.times, store.times)
    training, weights = config.train.contains(sample.times), coarse.area_weights()
    stale, wrong = {}, {}
    for index, channel in enumerate(store.channels):
        values = sample.values.get(channel.label)
        if values is None or not np.isfinite(values).all():  # filled values are the store's own
            continue
        values = coarsening.apply(values) if coarsening else values
        ratio = _difference(stored[:, index], values[same], float(store.statistics.std[index]))
        if not ratio <= _STALE:
            stale[channel.label] = ratio
        elif text := _compare(store, index, values[training], weights):
            wrong[channel.label] = text
    return _store_findings(store, stale, wrong)


def _difference(stored: np.ndarray, values: np.ndarray, std: float) -> float:
    """Root mean square difference in standard deviations."""
    if not len(stored):
        return 0.0
    difference = float(np.sqrt(np.mean((stored.astype(float) - values) ** 2)))
    if difference == 0:
        return 0.0
    return difference / std if std > 0 else np.inf


def _store_findings(
    store: PreparedStore, stale: dict[str, float], wrong: dict[str, str]
) -> list[Finding]:
    findings = []
    if stale:
        most = max(stale, key=lambda label: stale[label])
        findings.append(
            finding(
                "store-stale",
                "error",
                f"store and source differ at the same times by {stale[most]:.3g} standard "
                "deviations",
                f"{', '.join(stale)} (most: {most}), {store.path}",
                _PREPARE_AGAIN,
            )
        )
    if wrong:
        what, where = next(iter(wrong.values())), f"{', '.join(wrong)}, {store.path}"
        remedy = "Delete the store and prepare it again."
        findings.append(finding("store-statistics", "error", what, where, remedy))
    return findings


def _compare(
    store: PreparedStore, index: int, values: np.ndarray, weights: np.ndarray
) -> str | None:
    """What differs by more than the error of a sample of independent times, or ``None``."""
    mean, std = float(store.statistics.mean[index]), float(store.statistics.std[index])
    count = len(values)
    if count < _FEWEST:
        return None
    # Few times estimate their own scatter badly: twice the band for ten of them.
    band = 5 * (1 + 10 / count) / np.sqrt(count)
    deviations = values.astype(np.float64) - mean
    offsets = (weights * deviations).mean(axis=(1, 2))
    squares = (weights * deviations**2).mean(axis=(1, 2))
    if abs(offsets.mean()) > band * offsets.std(ddof=1) + _FLOOR * std:
        return (
            f"the store has the mean {mean:.6g}, {count} fresh states have "
            f"{mean + offsets.mean():.6g} +- {offsets.std(ddof=1) / np.sqrt(count):.2g}"
        )
    if not abs(squares.mean() - std**2) <= band * squares.std(ddof=1) + 2 * _FLOOR * std**2:
        return (
            f"the store has the standard deviation {std:.6g}, {count} fresh states have "
            f"{np.sqrt(squares.mean()):.6g}"
        )
    return None


def check_disk(path: Path, needed: int) -> tuple[dict[str, Any], list[Finding]]:
    """Free space for a store that is still to be written.

    Args:
        path: Folder of the store.
        needed: Bytes of its fields.
    """
    folder = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free_bytes": free, "store_bytes": needed}
    if needed < 0.9 * free:
        return facts, []
    return facts, [
        finding(
            "disk",
            "error" if needed > free else "warning",
            f"the store takes {needed / _GIB:.2f} GiB and {free / _GIB:.2f} GiB are free",
            str(folder),
            "Give data.store on another disk, or take fewer variables, levels or years.",
        )
    ]


def check_chunks(plan: PreparationPlan) -> list[Finding]:
    """Chunks of the source that a preparation would read much more of than it takes."""
    findings = []
    for note in plan.chunks:
        what, _, remedy = note.rpartition("; ")
        where = note.partition(" ")[0]
        findings.append(finding("chunks", "warning", what, where, f"Give {remedy}."))
    return findings
