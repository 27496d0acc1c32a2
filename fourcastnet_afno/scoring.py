"""Scores of anyone's forecasts: files in, scores and report out, without a run folder."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.opening import stamps
from data_pipeline.sources import SourceConfig, open_source
from data_pipeline.store import PreparedStore
from fourcastnet_afno.evaluation.alignment import align
from fourcastnet_afno.evaluation.climatologies import (
    Climatology,
    from_series,
    from_store,
    is_prepared,
    open_climatology,
)
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from fourcastnet_afno.evaluation.forecasts import open_forecast
from fourcastnet_afno.evaluation.tables import scores_table, write_scores
from fourcastnet_afno.report import write_report

_LAND = "land_sea_mask"
console = Console()


def score_forecasts(
    forecast: str | list[str] | dict[str, str],
    truth: str | SourceConfig,
    output: Path,
    climatology: str | SourceConfig | None = None,
    report: Path | None = None,
    evaluation: EvaluationConfig | None = None,
) -> xr.Dataset:
    """Score any forecasts in WeatherBench 2's layout, or this project's, against any source.

    Args:
        forecast: A zarr store or NetCDF file, several of them, or several with names; see
            ``evaluation.forecasts`` for the layouts.
        truth: A path that ``data_pipeline.sources`` reads, or a training store of this project.
        output: File for the scores, ending in .nc; JSON and CSV are written beside it.
        climatology: A training store, a table by day of year and hour (WeatherBench 2), or data of
            other years to fit one to. Without it, truth's own years before the first forecast.
        report: HTML file for the report; its figures go to a folder beside it.
        evaluation: What is scored, and how.

    Returns:
        The scores, see ``evaluation.evaluate``.

    Raises:
        InputError: If something is missing or does not fit.
    """
    if output.suffix != ".nc":
        raise InputError(f"--output must end in .nc, got {output}; scores are written as NetCDF")
    config = evaluation or EvaluationConfig()
    forecasts = {name: open_forecast(path) for name, path in _named(forecast).items()}
    source = _source(truth)
    actual = open_truth(source)
    alignment = align(forecasts, actual, config)
    first = alignment.init_times[0]
    normal, training = _climatology(climatology, source, actual, alignment.channels, first)
    state = output.with_name(f".{output.name}.npz")
    scores = evaluate(forecasts, actual, normal, config, training=training, state=state)
    read = {**_named(forecast), "truth": source.paths[0]}
    scores.attrs |= {f"fingerprint_of_{name}": _fingerprint(path) for name, path in read.items()}
    write_scores(scores, output.with_suffix(".json"), output)
    console.print(scores_table(scores))
    if report is not None:
        write_report(report, scores=scores, truth=actual, forecasts=forecasts)
        console.print(f"Report: {report.resolve()}")
    return scores


def open_truth(source: SourceConfig) -> xr.Dataset:
    """A source, or the fields of a training store with its land fraction, as canonical dataset."""
    path = Path(source.paths[0])
    if not is_prepared(path):
        return open_source(source)
    return truth_of(PreparedStore(path))


def truth_of(store: PreparedStore) -> xr.Dataset:
    """The fields of a training store, with the land fraction where it holds it."""
    dataset = store.dataset()
    labels = store.static_channels.labels
    if _LAND in labels:
        static = xr.open_zarr(store.path, consolidated=False)["static"]
        land = static.isel(static=labels.index(_LAND)).values
        if land.shape == store.grid.shape:
            dataset[_LAND] = (("latitude", "longitude"), land)
    dataset.encoding["source"] = str(store.path)
    return dataset


def _named(forecast: str | Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Paths by name: the file's, where none is given."""
    if isinstance(forecast, Mapping):
        return dict(forecast)
    paths = [forecast] if isinstance(forecast, str) else list(forecast)
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        raise InputError(
            f"several forecasts are called {sorted(n for n in set(names) if names.count(n) > 1)}; "
            "give names, as --forecast.ours A.zarr --forecast.theirs B.zarr"
        )
    return dict(zip(names, paths, strict=True))


def _source(given: str | SourceConfig) -> SourceConfig:
    return SourceConfig(path=given) if isinstance(given, str) else given


def _climatology(
    given: str | SourceConfig | None,
    source: SourceConfig,
    truth: xr.Dataset,
    channels: Channels,
    first_init: np.datetime64,
) -> tuple[Climatology, xr.Dataset | None]:
    """The climatology, and the training years where they are at hand."""
    asked = source if given is None else _source(given)
    path = Path(asked.paths[0])
    if is_prepared(path):
        store = PreparedStore(path)
        climatology, dataset = from_store(store), store.dataset()
        times = dataset["time"].values
        period = climatology.period
        inside = np.ones(len(times), bool)
        if period is not None:
            inside = (times >= period[0]) & (times <= period[1])
        return climatology, dataset.sel(time=inside)
    if given is not None:
        climatology = open_climatology(asked, channels)
        series = open_source(asked) if climatology.period is not None else None
        return climatology, series
    before = truth.sel(time=truth["time"].values < first_init)
    if before.sizes["time"] < 2:
        raise InputError(
            f"truth starts at the first initial time {first_init}, so that there are no other "
            "years for a climatology; give one with --climatology"
        )
    return from_series(before, channels), before


def _fingerprint(path: str) -> str:
    """Of a training store its own; else sizes and times of the files, as 16 hexadecimal digits."""
    if is_prepared(Path(path)):
        return PreparedStore(Path(path)).fingerprint
    found = stamps(path)
    return hashlib.blake2b(repr(found).encode(), digest_size=8).hexdigest() if found else "unknown"
