"""The verb ``score``: stored forecasts compared with any truth, without a run folder."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import xarray as xr
import yaml

from data_pipeline.errors import InputError, naming_option
from data_pipeline.files.outputs import check_outputs
from data_pipeline.grids.plane import grid_of
from data_pipeline.preparation.execution import ExecutionConfig
from data_pipeline.redaction import redact, remember_secrets
from data_pipeline.sources.canonical import open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import file_fingerprints, local_inputs
from data_pipeline.store.reader import PreparedStore, is_prepared
from data_pipeline.terminal import print_line, print_tables
from fourcastnet_afno.evaluation.aggregation import state_output
from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate_with_baselines
from fourcastnet_afno.evaluation.inputs.climatology_sources import (
    open_climatology_data,
    prepared_store,
)
from fourcastnet_afno.evaluation.inputs.companions import open_training
from fourcastnet_afno.evaluation.inputs.open import open_with_layouts
from fourcastnet_afno.evaluation.scores.tables import scores_outputs, scores_table, write_scores
from fourcastnet_afno.report.ensembles import cell_of
from fourcastnet_afno.report.outputs import report_outputs
from fourcastnet_afno.report.report import write_report
from fourcastnet_afno.workflows import console

_LAND = "land_sea_mask"
_MOST_BYTES_OF_NAME = 200  # files and attributes take 255, with what is around it


def evaluate_files(
    forecasts: Sequence[str],
    truth: SourceConfig,
    climatology: SourceConfig,
    output: Path,
    config: EvaluationConfig | None = None,
    *,
    training: SourceConfig | None = None,
    report: Path | None = None,
    state: Path | None = None,
    execution: ExecutionConfig | None = None,
) -> xr.Dataset:
    """Score stored forecasts side by side, and write scores and a report.

    The arguments are those that ``fourcastnet-afno score --help`` describes. JSON and CSV files
    are written next to ``output``; ``training`` is also for the thresholds of events.

    Raises:
        InputError: If something is missing or does not fit together; nothing is written then.
    """
    if output.suffix != ".nc":
        raise InputError(
            f"scores are written to a file that ends in .nc, got {output}", code="bad-setting"
        )
    config = config or EvaluationConfig()
    named = named_paths(forecasts)
    remember_secrets(list(named.values()))
    state = state or output.with_name(f".{output.stem}.evaluation.npz")
    outputs = [*scores_outputs(output.with_suffix(".json"), output), state_output(state)]
    outputs += [] if report is None else report_outputs(report)
    sources = {"--truth": truth, "--climatology": climatology}
    sources |= {} if training is None else {"--training": training}
    read = {option: local_inputs(*source.paths) for option, source in sources.items()}
    check_outputs(outputs, {"--forecast": local_inputs(*named.values()), **read})
    opened = {name: open_with_layouts(path)[0] for name, path in named.items()}
    with naming_option("--truth"):
        actual = open_truth(truth)
    with naming_option("--climatology"):
        base = open_climatology_data(climatology)
    with naming_option("--training"):
        years = None if training is None else open_training(training)
    if report is not None and config.point:
        cell_of(grid_of(actual), config.point)  # it lies inside
    evaluation = evaluate_with_baselines(
        {name: _absolute_source(path) for name, path in named.items()},
        truth_as_scored(truth, actual),
        base,
        config,
        training=years,
        state=state,
        execution=execution,
    )
    scores = evaluation.scores
    scores.attrs["files"] = redact(
        "\n".join(
            [f"{name}: {path}" for name, path in named.items()]
            + [f"truth: {truth.path}", f"climatology: {climatology.path}"]
            + ([] if training is None else [f"training: {training.path}"])
        )
    )
    read = {name: [path] for name, path in named.items()}
    read |= {"truth": truth.paths, "climatology": climatology.paths}
    read |= {} if training is None else {"training": training.paths}
    scores.attrs |= {
        f"fingerprint_of_{name}": fingerprint_of_data(paths) for name, paths in read.items()
    }
    write_scores(scores, output.with_suffix(".json"), output)
    if report is not None:
        write_report(
            report,
            scores=scores,
            truth=actual,
            forecasts=opened,
            baselines=evaluation.baselines,
            point=config.point,
            config_text=yaml.safe_dump(config.settings(), sort_keys=False),
            facts={
                f"{key} of {name}": str(dataset.attrs[key])
                for name, dataset in opened.items()
                for key in ("checkpoint", "fingerprint")
                if key in dataset.attrs
            },
        )
    print_tables(console, scores_table(scores), soft_wrap=True)
    for path in filter(None, (output, report)):
        print_line(console, f"Written: {path.resolve()}")
    return scores


def named_paths(forecasts: Sequence[str]) -> dict[str, str]:
    """Paths by the name of the forecast: the text before ``=``, or the stem of the file.

    Raises:
        InputError: If two have the same name.
    """
    named: dict[str, str] = {}
    for word in forecasts:
        name, equals, path = word.partition("=")
        if not equals or "/" in name:
            name, path = _name_of(word), word
        is_long = len(name.encode(errors="replace")) > _MOST_BYTES_OF_NAME
        if not name.isprintable() or name != name.strip() or is_long:
            raise InputError(
                f"a forecast is called {name[:80]!r}, expected at most {_MOST_BYTES_OF_NAME} "
                "letters that can be printed, without spaces around them; name it with "
                "--forecast NAME=PATH",
                code="bad-setting",
            )
        if name in named:
            raise InputError(
                f"two forecasts are called {name}: {named[name]} and {path}; name them with "
                "--forecast NAME=PATH, or give all files of one forecast as a folder or a glob",
                code="duplicate-name",
            )
        named[name] = path
    return named


def _name_of(path: str) -> str:
    """Name of a file, or what a glob's name says without its wildcards, or that of its folder."""
    if "://" in path:  # parameters may be secret
        path = urlsplit(path).path
    stem = Path(path).stem
    if Path(path).exists() or not any(letter in stem for letter in "*?["):
        return stem
    return re.sub(r"\[.*?\]|[*?]", "", stem).strip("_-. ") or Path(path).parent.name or "forecast"


def truth_as_scored(truth: SourceConfig, opened: xr.Dataset) -> xr.Dataset | str:
    """Truth as it was opened, or its path where that is read faster."""
    path = truth.paths[0]
    if truth == SourceConfig(path=path) and not is_prepared(Path(path)):
        return _absolute_source(path)
    return opened


def open_truth(source: SourceConfig) -> xr.Dataset:
    """The fields of a source, or of a prepared store as ``truth_of`` has them."""
    store = prepared_store(source)
    return open_source(source) if store is None else truth_of(store)


def truth_of(store: PreparedStore) -> xr.Dataset:
    """The fields of a prepared store, with the land fraction if the store holds it.

    They are NaN where the source had no value, see ``PreparedStore.observed``.
    """
    dataset, labels = store.observed(), store.static_channels.labels
    if _LAND in labels:
        land = store.static_fields()[labels.index(_LAND)]
        dataset[_LAND] = (store.grid.dims, land)
    return dataset


def _absolute_source(path: str) -> str:
    """A path that means the same to workers in other folders."""
    return path if "://" in path else str(Path(path).absolute())


def fingerprint_of_data(paths: Sequence[str]) -> str:
    """The fingerprint of a prepared store, or of the names, sizes and times of all files."""
    if len(paths) == 1 and is_prepared(Path(paths[0])):
        return PreparedStore(Path(paths[0])).fingerprint
    files = [file for path in paths for file in file_fingerprints(path)]
    return hashlib.blake2b(repr(files).encode(), digest_size=8).hexdigest() if files else "unknown"
