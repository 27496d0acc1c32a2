"""Checks of the training store against the source, and of the disk."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.coarsening import Coarsening
from data_pipeline.doctor.findings import Finding, found, refused
from data_pipeline.doctor.reading import Sample
from data_pipeline.errors import InputError
from data_pipeline.grid import LatLonGrid
from data_pipeline.prepare import DataConfig, prepare
from data_pipeline.store import PreparedStore

_GIB = 2**30
_STALE, _FLOOR = 0.1, 0.01  # in units of the standard deviation
_FEWEST = 8


def open_prepared(config: DataConfig, path: Path) -> tuple[PreparedStore | None, list[Finding]]:
    """The store at ``path`` where there is one that can be read, of this configuration."""
    if not path.exists():
        return None, []
    try:
        store = prepare(config, path)
    except InputError as error:
        return None, [refused("store-settings", error, str(path))]
    except (OSError, KeyError, ValueError) as error:
        return None, [_damaged(path, error)]
    try:
        store.states[(0, slice(None), slice(None), slice(None))]
        store.states[(-1, slice(None), slice(None), slice(None))]
    except (OSError, KeyError, ValueError) as error:  # an InputError, too
        return None, [_damaged(path, error)]
    return store, []


def _damaged(path: Path, error: Exception) -> Finding:
    what = f"the store cannot be read: {type(error).__name__}: {error}"
    remedy = "Delete the store and prepare it again."
    return found("store-damaged", "error", what, str(path), remedy)


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
    store: PreparedStore, sample: Sample, grid: LatLonGrid, config: DataConfig
) -> list[Finding]:
    """Compare states at the same times, and the statistics with those of a fresh sample.

    Args:
        store: The training store.
        sample: Of the source.
        grid: Grid of the source.
        config: Its training period.
    """
    stale, wrong = [], []
    rows = np.flatnonzero(np.isin(store.times, sample.times))
    stored = store.states[(rows, slice(None), slice(None), slice(None))]
    same = np.isin(sample.times, store.times)
    coarse = config.grid.build() if config.grid else grid
    for index, channel in enumerate(store.channels):
        values = sample.values.get(channel.label)
        if values is None or not np.isfinite(values).all():  # filled values are the store's own
            continue
        std = float(store.statistics.std[index])
        ours = _on_grid(values[same], grid, store.grid)
        if ours is not None and len(rows):
            difference = float(np.sqrt(np.mean((stored[:, index].astype(float) - ours) ** 2)))
            if not difference <= _STALE * std:
                stale.append((channel.label, difference / std if std > 0 else np.inf))
                continue
        fresh = values[config.train.contains(sample.times)]
        fresh = fresh if coarse == grid else Coarsening(grid, coarse).apply(fresh)
        text = _compare(store, index, fresh, coarse.area_weights())
        if text:
            wrong.append((channel.label, text))
    findings = []
    if stale:
        label, ratio = max(stale, key=lambda pair: pair[1])
        findings.append(found(
            "store-stale", "error",
            f"store and source differ at the same times by {ratio:.3g} standard deviations",
            f"{', '.join(name for name, _ in stale)} (most: {label}), {store.path}",
            "Delete the store and prepare it again, or give the source it was prepared from.",
        ))  # fmt: skip
    if wrong:
        findings.append(found(
            "store-statistics", "error", wrong[0][1],
            f"{', '.join(name for name, _ in wrong)}, {store.path}",
            "Delete the store and prepare it again.",
        ))  # fmt: skip
    return findings


def _on_grid(values: np.ndarray, grid: LatLonGrid, target: LatLonGrid) -> np.ndarray | None:
    """The values on a part of their grid, or as conservative means on a coarser one."""
    axes = []
    for axis, period in (("latitude", 1e9), ("longitude", 360.0)):
        distance = np.abs(target.coords[axis][:, None] - grid.coords[axis]) % period
        distance = np.minimum(distance, period - distance)
        axes.append(np.argmin(distance, axis=1))
        if distance.min(axis=1).max() > 1e-3:
            try:
                return Coarsening(grid, target).apply(values)
            except InputError:
                return None
    return values[:, axes[0][:, None], axes[1]]


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


def check_disk(path: Path, needed: int, *, prepared: bool) -> tuple[dict[str, Any], list[Finding]]:
    """Free space for the store, where it is still to be written.

    Args:
        path: Folder of the store.
        needed: Bytes of its fields.
        prepared: Whether it is there already.
    """
    folder = next(parent for parent in (path.resolve(), *path.resolve().parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    facts = {"folder": str(folder), "free_bytes": free, "store_bytes": needed}
    if prepared or needed < 0.9 * free:
        return facts, []
    return facts, [found(
        "disk", "error" if needed > free else "warning",
        f"the store takes {needed / _GIB:.2f} GiB and {free / _GIB:.2f} GiB are free", str(folder),
        "Give data.store on another disk, or take fewer variables, levels or years.",
    )]  # fmt: skip
