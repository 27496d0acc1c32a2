"""The verb ``forecast``: a checkpoint and data, all checked by name before anything runs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, get_type_hints

import numpy as np
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError, naming_option
from data_pipeline.files.outputs import check_outputs
from data_pipeline.grids.plane import grid_of
from data_pipeline.grids.regions import cut_out
from data_pipeline.preparation.boundary import BoundaryConfig
from data_pipeline.preprocessing.accumulation import accumulate
from data_pipeline.preprocessing.config import AccumulateRule, FillRule
from data_pipeline.preprocessing.derived import needed_for
from data_pipeline.preprocessing.filling import rule_of
from data_pipeline.records import from_plain
from data_pipeline.redaction import redact
from data_pipeline.sources.canonical import SET_ASIDE, open_source
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.fields.defaults import recorded_settings
from data_pipeline.sources.files import is_store, local_inputs
from data_pipeline.sources.names import parse_label
from data_pipeline.store.reader import PreparedStore, is_prepared
from data_pipeline.terminal import print_line
from data_pipeline.timestep import Timestep
from data_pipeline.yaml_text import read_settings
from fourcastnet_afno.forecaster.checkpoint import fingerprint_of, load_forecaster, read_checkpoint
from fourcastnet_afno.forecaster.checkpoint_file import damaged
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.forecaster.diagnostic_head import (
    DiagnosticStepper,
    fingerprint_of_head,
    load_chained,
)
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference.commits.target import commit_target
from fourcastnet_afno.inference.config import ForecastConfig, IfExists
from fourcastnet_afno.inference.driving.states import DrivingFields
from fourcastnet_afno.inference.initial_states import (
    MissingValuesError,
    check_init_times,
    check_source,
    parse_init_times,
    select_init_times,
)
from fourcastnet_afno.inference.open import forecast_output, is_forecast, open_forecast
from fourcastnet_afno.inference.resume import recorded_provenance
from fourcastnet_afno.inference.write import write_forecast
from fourcastnet_afno.live_scores.scorer import LiveScoring
from fourcastnet_afno.parallel.environment import select_device
from fourcastnet_afno.provenance import versions
from fourcastnet_afno.workflows import console
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.open_data import with_fetched_states
from fourcastnet_afno.workflows.outputs import (
    prepared_inputs,
    prepared_outputs,
    store_location,
)
from fourcastnet_afno.workflows.prepare import open_or_prepare
from fourcastnet_afno.workflows.scored_forecast import ScoreOptions
from fourcastnet_afno.workflows.simulated_start import start_from_simulator, starts_from_simulator


def forecast_from(
    config: ForecastConfig,
    checkpoint: Path | None,
    source: SourceConfig | xr.Dataset | None,
    path: Path | None,
    device: str,
    existing: IfExists,
    *,
    init_times: np.ndarray | None = None,
    scoring: LiveScoring | None = None,
    boundary: BoundaryConfig | None = None,
) -> xr.Dataset | None:
    """Write the forecasts of a checkpoint, or their scores, see ``inference.write_forecast``.

    By default the checkpoint is that of ``config.diagnostic``, the source is the prepared data next
    to it, and the initial times are those of ``config``. A limited area is driven by the source of
    ``boundary``, or by the data that forecasts start from.

    Raises:
        InputError: If the checkpoint, the data or a setting does not suit the others.
    """
    if checkpoint is None:
        if config.diagnostic is None:
            raise InputError(
                f"a forecast to {path or 'nothing'} needs --checkpoint FILE; or give a run folder "
                "as --output",
                code="no-checkpoint",
            )
        checkpoint = Path(config.diagnostic)
    files = [checkpoint, *map(Path, config.ensemble.checkpoints)]
    forecasters = [load_forecaster(file, device) for file in files]
    if init_times is None and config.init_times:
        init_times = parse_init_times(config.init_times, config.interval)
    if isinstance(source, xr.Dataset):
        dataset = source
    else:
        first = forecasters[0]
        if source is not None:
            source = with_fetched_states(source, first.spec, first.num_history, init_times)
        dataset = open_initial_data(source, first.spec, checkpoint, init_times)
    if forecasters[0].spec.boundary_width:
        dataset = cut_out(dataset, grid_of(dataset), forecasters[0].spec.grid)
    driving = _open_boundary(boundary, dataset, forecasters[0].spec, checkpoint, init_times)
    makers, head = {"checkpoint": files}, None
    digests = {"checkpoint": " ".join(map(fingerprint_of, forecasters))}
    if config.diagnostic is not None:
        by_file = dict(zip(files, forecasters, strict=True))
        head = load_chained(Path(config.diagnostic), by_file, device)
        makers["diagnostic"] = [Path(config.diagnostic)]
        digests["diagnostic"] = fingerprint_of_head(head, forecasters[0])
    written = path if path is not None or scoring is None else scoring.path
    recorded = {} if written is None else recorded_provenance(written, existing)
    digests = _digests_as_recorded(makers, digests, recorded)
    attrs = _provenance(makers, digests)
    power = config.stability.damping_power
    if power is not None:
        forecasters = [forecaster.with_damping_power(power) for forecaster in forecasters]
    forecasters, regridded = _on_grid_of(dataset, forecasters, config)
    first = forecasters[0]
    for file, forecaster in zip(files, forecasters, strict=True):
        check_source(dataset, forecaster.spec, f"checkpoint {file}")
    times = dataset["time"].values
    if init_times is None:
        init_times = select_init_times(
            times, first.spec, first.num_history, interval=config.interval
        )
    init_times = first.spec.step.advance(init_times, 0, times)  # months as the data labels them
    check_init_times(init_times, times, first.spec, first.num_history)
    if regridded:
        attrs["regridded"] = regridded
        print_line(console, regridded)
    described = ", ".join(source.paths) if isinstance(source, SourceConfig) else "prepared data"
    attrs["initial_data"] = redact(str(dataset.encoding.get("source", "")) or described)
    if boundary is not None and boundary.source is not None:
        attrs["boundary"] = redact(", ".join(boundary.source.paths))
    try:
        return write_forecast(
            first,
            dataset,
            init_times,
            config,
            path,
            attrs,
            further=forecasters[1:],
            diagnostic=None if head is None else DiagnosticStepper(head, first),
            boundary=driving,
            scoring=scoring,
            existing=existing,
            report=partial(print_line, console, style="yellow"),
        )
    except MissingValuesError as error:
        rules = _recorded_data(checkpoint).get("fill") or {}
        by_climatology = (c.name for c in error.channels if rule_of(rules, c) == "climatology")
        names = dict.fromkeys(by_climatology)
        if not names:
            raise
        raise InputError(
            f"{error}: for training {list(names)} was filled by its climatology (data.fill), of "
            "which a checkpoint holds only the points that never had a value",
            code=error.code,
        ) from error


def open_initial_data(
    source: SourceConfig | None,
    spec: FieldSpec,
    checkpoint: Path,
    init_times: np.ndarray | None = None,
) -> xr.Dataset:
    """Open the data to start from as a canonical dataset: any source, or a prepared store.

    A source is treated as it was for training: what can be derived is, accumulations are those of a
    timestep, and missing values become the numbers of ``data.fill``. Names, units, entries and
    conversions of the training's source hold where ``source`` does not say otherwise.

    ``init_times`` (datetime64) are an integer number of timesteps from the states; without them,
    states are every timestep from the first time of the data. Without a source, the prepared data
    of the checkpoint's run folder is opened.

    Raises:
        InputError: If there is no data, or it cannot be accumulated as in training.
    """
    if source is None:
        store = _data_next_to(checkpoint)
        if not (store / "zarr.json").exists():
            raise InputError(
                f"there is no data to start from: give --source (files or a store), or a "
                f"checkpoint in a run folder with data.zarr; {store} does not exist",
                code="missing-file",
            )
        source = SourceConfig(path=str(store))
    (path, *others) = source.paths
    if not others and "://" not in path and is_prepared(Path(path)):
        return PreparedStore(Path(path)).prognostic.dataset()
    recorded = _recorded_data(checkpoint)
    static = [parse_label(n)[0] for n in recorded.get("static", [])]
    defaults = recorded_settings(recorded.get("source") or {})
    wanted = needed_for(spec.channels.labels) | {channel.name for channel in spec.channels}
    dataset = open_source(source, static, defaults=defaults, wanted=wanted)
    if "time" not in dataset.dims or "time" not in dataset.coords:
        raise InputError(
            f"{path} has no times; give the time coordinate CF units, such as 'hours since "
            "1900-01-01'",
            code="no-times",
        )
    return _as_in_training(dataset, spec, recorded, init_times)


def _open_boundary(
    config: BoundaryConfig | None,
    start: xr.Dataset,
    spec: FieldSpec,
    checkpoint: Path,
    init_times: np.ndarray | None,
) -> DrivingFields | None:
    """The driving fields of a limited area: forecasts, a prepared store, or any source.

    Without them it is the data to ``start`` from that drives it. None for other models.

    Raises:
        InputError: If the forecaster has no boundary, or the fields cannot be opened.
    """
    source, interval = (None, None) if config is None else (config.source, config.interval)
    step = None if interval is None else Timestep.parse(interval, "data.boundary.interval")
    if source is None:
        return DrivingFields(start, step) if spec.boundary_width else None
    if not spec.boundary_width:
        raise InputError(
            f"{checkpoint} is no model of a limited area and takes no --boundary; leave it out, or "
            "train with data.boundary",
            code="bad-setting",
        )
    path, *others = map(Path, source.paths)
    can_be = path.suffix == ".nc" if path.is_file() else is_store(str(path))
    with naming_option("--boundary"):
        if not others and can_be and is_forecast(path):
            dataset = open_forecast(path)
        else:
            dataset = open_initial_data(source, spec, checkpoint, init_times)
    return DrivingFields(dataset, step, "--boundary")


def _data_next_to(checkpoint: Path) -> Path:
    """The training store of the run folder that a checkpoint is in."""
    return checkpoint.absolute().parent.parent / "data.zarr"


class _RecordedData(TypedDict, total=False):
    """Settings of the training's data by which its sources are read here too."""

    static: list[str]
    source: Mapping[str, Any] | None
    accumulate: Mapping[str, AccumulateRule] | None
    fill: Mapping[str, FillRule] | None


def _recorded_data(checkpoint: Path) -> _RecordedData:
    """Read the part ``data`` of the experiment that a checkpoint was trained in, if it is known."""
    _, metadata = read_checkpoint(checkpoint, "none")
    with damaged(checkpoint):
        settings = read_settings(metadata.get("config") or "", "config")
        data = from_plain(_RecordedData, settings.get("data") or {}, "config.data")
        if source := data.get("source"):
            known = {k: v for k, v in source.items() if k in get_type_hints(SourceConfig)}
            parse_config(SourceConfig, {**known, "path": []})
    return data


def _as_in_training(
    dataset: xr.Dataset,
    spec: FieldSpec,
    recorded: _RecordedData,
    init_times: np.ndarray | None,
) -> xr.Dataset:
    names = {channel.name for channel in spec.channels}
    of_training = recorded.get("accumulate") or {}
    rules: dict[str, AccumulateRule] = {
        name: rule for name, rule in of_training.items() if parse_label(name)[0] in names
    }

    def in_phase(times: np.ndarray) -> np.ndarray:
        """Mark the times that are an integer number of timesteps from any initial time."""
        assert init_times is not None
        return np.isin(spec.step.phase(times), spec.step.phase(init_times))

    try:
        states = accumulate(
            dataset,
            spec.channels.labels,
            rules,
            spec.step,
            lambda times: np.ones(len(times), bool),
            allow_gaps=True,  # a missing initial time is an error that names it
            states=None if init_times is None else in_phase,
        )
    except InputError as error:
        raise InputError(
            f"{dataset.encoding.get('source', 'the data')} cannot be accumulated as for training "
            f"(data.accumulate={rules}): {error}",
            code=error.code,
        ) from error
    states = _filled_by_numbers(states, spec.channels, recorded.get("fill") or {})
    states.encoding = {key: dataset.encoding.get(key, "") for key in ("source", SET_ASIDE)}
    return states


def _filled_by_numbers(
    states: xr.Dataset, channels: Channels, rules: Mapping[str, FillRule]
) -> xr.Dataset:
    """Missing values replaced where the rule of training is a number."""
    filled = {}
    for name in {channel.name for channel in channels} & set(map(str, states.data_vars)):
        of_level = {c.level: rule_of(rules, c) for c in channels if c.name == name}
        numbers = {k: np.float32(v) for k, v in of_level.items() if isinstance(v, int | float)}
        if not numbers:
            continue
        value = numbers.get(None)
        if value is None:
            levels = states[name]["level"].values.tolist()
            by_level = np.array([numbers.get(level, np.nan) for level in levels], np.float32)
            value = xr.DataArray(by_level, dims="level", coords={"level": levels})
        filled[name] = states[name].fillna(value)
    return states.assign(filled)


def _on_grid_of(
    dataset: xr.Dataset, forecasters: list[Forecaster], config: ForecastConfig
) -> tuple[list[Forecaster], str]:
    """The forecasters on the grid of the data, and a description of the change if it is another."""
    grid, trained = grid_of(dataset), forecasters[0].spec.grid
    if trained.is_same(grid) or not config.regrid:
        return forecasters, ""
    how = (
        "states are interpolated to the network's grid and its changes back; scales that the "
        "network does not resolve stay as they are"
    )
    if config.resolution == "native":
        how = "the network works on the data's grid, with the wavenumbers of its own"
    text = (
        f"the data is on the grid {grid}, the network on {trained}: {how} (forecast.regrid=false "
        "refuses this)"
    )
    return [forecaster.on_grid(grid, config.resolution) for forecaster in forecasters], text


def _provenance(files: Mapping[str, Sequence[Path]], digests: Mapping[str, str]) -> dict[str, str]:
    """Attributes with the makers of a forecast, checkpoints and a head, by file and by content."""
    first = files["checkpoint"][0]
    attrs = {
        "title": f"Forecasts of {first.name}",
        "source": "fourcastnet_afno",
        "versions": json.dumps(versions()),
    }
    for name, paths in files.items():
        attrs |= {name: str(paths[0]), f"{name}_digest": digests[name]}
    return attrs


def was_made_by(checkpoint: Path, attrs: Mapping[str, Any]) -> bool:
    """Whether the forecasts with these attributes are of a checkpoint as it is now.

    Raises:
        InputError: If the checkpoint is missing or damaged.
    """
    digests = {"checkpoint": fingerprint_of(load_forecaster(checkpoint))}
    known = _digests_as_recorded({"checkpoint": [checkpoint]}, digests, attrs)["checkpoint"]
    return attrs.get("checkpoint_digest", known) == known


def _digests_as_recorded(
    files: Mapping[str, Sequence[Path]], digests: Mapping[str, str], recorded: Mapping[str, Any]
) -> dict[str, str]:
    """The digests of what makes a forecast, or those that version 0.1 recorded of the same files.

    That took the digests of files, which hold how long a training took.
    """
    found = dict(digests)
    for name, paths in files.items():
        digest = recorded.get(f"{name}_digest", found[name])
        if digest != found[name] and digest == " ".join(map(_digest_of_file, paths)):
            found[name] = digest
    return found


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:16]


def _inputs(
    config: ForecastConfig,
    checkpoint: Path | None,
    source: SourceConfig | None,
    boundary: BoundaryConfig | None,
) -> dict[str, list[Path]]:
    """Files and stores that a forecast reads, by option."""
    first = checkpoint or (config.diagnostic and Path(config.diagnostic))
    driving = None if boundary is None else boundary.source
    paths = source.paths if source else [str(_data_next_to(first))] if first else []
    return {
        "--checkpoint": [] if checkpoint is None else [checkpoint],
        "--source": local_inputs(*paths),
        "--boundary": local_inputs(*(driving.paths if driving else [])),
        "forecast.diagnostic": [] if config.diagnostic is None else [Path(config.diagnostic)],
        "forecast.ensemble.checkpoints": [Path(file) for file in config.ensemble.checkpoints],
    }


def forecast_run(
    config: ExperimentConfig,
    output: Path,
    checkpoint: Path | None = None,
    source: SourceConfig | None = None,
    existing: IfExists | None = None,
    scored: ScoreOptions | None = None,
    boundary: SourceConfig | None = None,
) -> xr.Dataset | None:
    """Roll out from the initial times of the test period, or of another source.

    The arguments are those that ``fourcastnet-afno forecast --help`` describes.
    """
    scored = scored or ScoreOptions()
    path, device, init_times = output, str(select_device(config.training.device)), None
    is_run = output.suffix not in (".zarr", ".nc") and commit_target(output) is None
    if (
        is_run
        and source is None
        and checkpoint
        and starts_from_simulator(config, output, checkpoint)
    ):
        config, source, scored = start_from_simulator(config, output, checkpoint, scored)
    data: SourceConfig | xr.Dataset | None = source
    settings = scored.checked(config.forecast)
    if is_run:
        path = output / "forecast.zarr"
        existing = existing or ("refuse" if scored.keep == "none" else "overwrite")
        checkpoint = checkpoint or output / "checkpoints" / "best.safetensors"
    area = config.data.boundary
    if boundary is not None:
        area = replace(area or BoundaryConfig(), source=boundary)
    read = _inputs(settings, checkpoint, source, area)
    outputs = [*([] if scored.keep == "none" else [forecast_output(path)]), *scored.outputs]
    if is_run and source is None:
        read |= prepared_inputs(config, output)
        outputs += prepared_outputs(config, output)
    check_outputs(outputs, read)
    if is_run and source is None:
        data = open_or_prepare(config, output).prognostic.dataset()
        if config.forecast.init_times is None:
            assert checkpoint is not None
            times, forecaster = data["time"].values, load_forecaster(checkpoint, device)
            init_times = select_init_times(
                times[config.data.test.contains(times)],
                forecaster.spec,
                forecaster.num_history,
                interval=config.forecast.interval,
                num_following=config.forecast.num_steps,
            )
    maker = checkpoint or (settings.diagnostic and Path(settings.diagnostic))
    store = _data_next_to(maker) if maker else None
    if is_run and source is None:
        store = Path(store_location(config, output))  # a URL is no store that can be truth
    scoring = scored.scoring(config.evaluation, store, [] if scored.keep == "none" else [path])
    with nullcontext() if source is None else naming_option("--source"):
        written = forecast_from(
            settings, checkpoint, data, None if scored.keep == "none" else path, device,
            existing or "refuse", init_times=init_times, scoring=scoring, boundary=area,
        )  # fmt: skip
    if scoring is not None and written is not None:
        scored.show(scoring, None if scored.keep == "none" else written, config.to_yaml())
    return written
