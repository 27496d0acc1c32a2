"""``fourcastnet-afno doctor``: data, store, machine and speed of an experiment, before it runs."""

import contextlib
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import HEAVY_HEAD
from rich.console import Console

from data_pipeline.calendars import STANDARD
from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor.examination import Examination, examine
from data_pipeline.doctor.findings import Finding, Report, collect, finding
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.errors import InputError
from data_pipeline.loading.windows import WindowDataset
from data_pipeline.memory import available_memory
from data_pipeline.terminal import TextTable, new_console, plain, print_line, print_tables
from data_pipeline.trajectory_times import TrajectoryTimes
from fourcastnet_afno.doctor import machine
from fourcastnet_afno.doctor.machine import Timing
from fourcastnet_afno.fine_tuning.warm_start import start_from
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.provenance import versions
from fourcastnet_afno.training.build_loss import build_loss, build_stage_losses
from fourcastnet_afno.training.monitoring.log import import_logger
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import check_resumable, store_location
from fourcastnet_afno.workflows.train import field_weights

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def run_doctor(
    config: ExperimentConfig,
    output: Path,
    *,
    as_json: bool = False,
    measure: bool = True,
    sample_mib: int = 1024,
) -> Report:
    """Examine an experiment and print the findings, for people or as one JSON document."""
    # Progress bars and messages of libraries must not get between the lines of the document.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        timing = Timing() if measure else None
        report = diagnose(config, output, timing=timing, sample_mib=sample_mib)
    if as_json:
        document = json.dumps(report.to_json(), indent=1, allow_nan=False)
        print(document.replace("\x7f", r"\u007f"))  # the one character that it leaves as it is
    else:
        show(report, new_console())
    return report


def diagnose(
    config: ExperimentConfig, output: Path, *, timing: Timing | None = None, sample_mib: int = 1024
) -> Report:
    """Examine an experiment, and its store in the run folder ``output`` if that exists.

    At most ``sample_mib`` of the source are read; without ``timing`` nothing is measured.
    """
    stages = [stage.num_steps for stage in config.training.stages]
    needs = PeriodNeeds(
        history=config.model.num_history,
        training_steps=max(stages),
        validation_steps=config.training.validation.num_steps,
        forecast_steps=config.forecast.num_steps,
        interval_hours=round(config.forecast.interval.mean_nanoseconds / 3.6e12),
    )
    location = store_location(config, output)
    examination = examine(config.data, location, needs, sample_bytes=sample_mib * 2**20)
    findings = machine.check_device(config.training)
    if any(found.severity == "error" for found in findings):
        timing = None
    facts: dict[str, Any] = {"num_steps": min(stages), "loader": None, "model": None, "ratio": None}
    forecaster = None
    if examination.channels is not None and examination.grid is not None:
        with collect(findings, "model", "model"):
            forecaster = untrained_forecaster(config, examination)
    if forecaster is not None:
        findings += check_training(config, forecaster, examination, output)
        measured, more = _measure(config, examination, forecaster, timing)
        facts |= measured
        findings += more
    findings += check_weights(config.model.network)
    sections = {"machine": machine.describe_machine() | {"versions": versions()}}
    return examination.report.extended({**sections, "throughput": facts}, findings)


def check_training(
    config: ExperimentConfig, forecaster: Forecaster, examination: Examination, output: Path
) -> list[Finding]:
    """Collect what ``train`` would reject at its start, by its own checks."""
    training, store, findings = config.training, examination.store, list[Finding]()
    last = output / "checkpoints" / "last.safetensors"
    with collect(findings, "model", "training.loss"):
        weights = None if store is None else field_weights(store)
        build = partial(build_loss, forecaster=forecaster, field_weights=weights)
        build_stage_losses(training, build)
    if training.start_from is not None:
        with collect(findings, "model", "training.start_from"):
            start_from(forecaster, Path(training.start_from))
    for name in training.loggers:
        with collect(findings, "model", "training.loggers"):
            import_logger(name)
    if last.exists():
        with collect(findings, "model", str(output)):
            head = read_checkpoint(last)[1].get("diagnostic")
            check_resumable(config, last, head and head["backbone"])
    return findings


def check_weights(network: AFNONetConfig) -> list[Finding]:
    """Tell of weights for each wavenumber, which files do not get unless they ask for them."""
    modes = network.mixer, network.mode_selection, network.wavenumber_weights
    if modes != ("afno", "wavenumber", "none"):
        return []
    what = "the weights are the same for all wavenumbers, as in the paper"
    remedy = "Set model.network.wavenumber_weights=kernel where it is not the paper's model that "
    remedy += "you want; see also model.band_limit and model.num_history."
    return [finding("wavenumbers", "info", what, "model.network.wavenumber_weights", remedy)]


def _measure(
    config: ExperimentConfig, examined: Examination, forecaster: Forecaster, timing: Timing | None
) -> tuple[dict[str, Any], list[Finding]]:
    """Speed of loader and model; the loader needs a store."""
    stages, spec = [stage.num_steps for stage in config.training.stages], forecaster.spec
    state_bytes = 4 * len(spec.channels) * math.prod(spec.grid.shape)
    window = state_bytes * (config.model.num_history + max(stages))
    findings = machine.check_batches(window, config.training.batch_size, available_memory())
    if timing is None or any(found.severity == "error" for found in findings):
        return {}, findings
    model, more = machine.model_rate(forecaster, config.training, min(stages), timing)
    windows, loader, loaded = training_windows(config, examined), None, None
    if windows is not None:
        loaded = machine.loader_rate(windows, config.training, timing.seconds)
        loader = {"samples_per_second": loaded}
    taken = model["samples_per_second"]
    ratio = loaded / taken if loaded and taken else None
    findings += [*more, *machine.judge_throughput(loaded, taken)]
    return {"loader": loader, "model": model, "ratio": ratio}, findings


def training_windows(config: ExperimentConfig, examination: Examination) -> WindowDataset | None:
    """Windows of the shortest stage; ``None`` without a store that holds any."""
    if examination.store is None:
        return None
    data, history = config.data, config.model.num_history
    steps = min(stage.num_steps for stage in config.training.stages)
    with contextlib.suppress(InputError):  # reported by the check of the periods
        store = examination.store
        driven = data.boundary is not None
        return WindowDataset(
            store, data.train, history, steps, data.forcings, data.subset, is_driven=driven
        )
    return None


def untrained_forecaster(config: ExperimentConfig, examination: Examination) -> Forecaster:
    """Build the configured forecaster for fields of mean 0 and standard deviation 1."""
    assert examination.channels is not None
    assert examination.grid is not None
    static = Channels(tuple(Channel(name=f"static{i}") for i in range(examination.num_static)))
    spec = FieldSpec(
        channels=examination.channels,
        static_channels=static,
        forcings=tuple(config.data.forcings),
        grid=examination.grid,
        step=config.data.step,
        boundary_width=0 if config.data.boundary is None else config.data.boundary.width,
    )
    ones = torch.ones(len(spec.channels))
    fields = {
        "static": torch.zeros(len(static), *examination.grid.shape),
        "mean_state": torch.zeros(len(ones), *examination.grid.shape),
    }
    with torch.random.fork_rng():
        return Forecaster(config.model, spec, mean=0 * ones, std=ones, diff_std=ones, **fields)


def show(report: Report, console: Console) -> None:
    """Print facts, then findings, errors first."""
    facts = report.facts
    for line in (*_data_lines(facts), *_machine_lines(facts)):
        print_line(console, line)
    if facts.get("variables"):
        title, names = "Sample of the source", ("min", "mean", "max", "std")
        table = TextTable(title, box=HEAVY_HEAD, padding=(0, 1), title_justify="left")
        table.add_columns("variable", overflow="fold")
        table.add_columns("units")
        table.add_columns(*names, "NaN", justify="right")
        for label, known in facts["variables"].items():
            moments = ["" if known[name] is None else f"{known[name]:.4g}" for name in names]
            table.add_row(label, known["units"], *moments, f"{100 * known['nan_share']:.3g} %")
        print_tables(console, table, soft_wrap=True)
    for found in report.findings:
        parts = [
            plain(f"\n{found.severity}: ", _STYLES[found.severity]),
            found.what,
            plain(f" [{found.check}]", "dim"),
        ]
        for name in ("where", "why", "remedy"):
            parts += [plain(f"\n  {name + ':':8}", "dim"), getattr(found, name)]
        print_line(console, *parts)
    counts = report.to_json()["counts"]
    summary = ", ".join(f"{count} {name}" for name, count in counts.items())
    style = "bold red" if report.num_errors else "bold green"
    print_line(console, f"\nFound: {summary}", style=style)


def _data_lines(facts: dict[str, Any]) -> list[str]:
    """One line for each section of facts about the data that could be examined."""
    lines = [f"Source   {facts['source']['origin']}"]
    grid, time, sample = (facts.get(name) for name in ("grid", "time", "sample"))
    if grid and grid["kind"] == "plane":
        closed = f"periodic in {grid['periodic']}" if grid["periodic"] else "not periodic"
        extent = f"{grid['extent_y']:g} x {grid['extent_x']:g}"
        lines.append(f"Grid     {grid['rows']} x {grid['columns']}, plane of {extent}, {closed}")
    elif grid:
        spacing = [grid[f"{axis}_spacing"] for axis in ("latitude", "longitude")]
        steps = " x ".join("uneven" if step is None else f"{step:g}" for step in spacing)
        poles = "with" if grid["poles"] else "without"
        text = f"Grid     {grid['num_latitudes']} x {grid['num_longitudes']}, {grid['kind']}, "
        lines.append(f"{text}{steps} degrees, {grid['coverage']}, {poles} rows on poles")
    if time and time["num_times"]:
        hours = " ".join(map(str, time["hours_of_day"]))
        text = f"Times    {time['num_times']} from {time['first']} to {time['last']}"
        calendar = "" if time["calendar"] == STANDARD else f", calendar {time['calendar']}"
        every = f", every {time['step']}" if time["step"] else ""  # a single time has no step
        kind, first = "gaps", 0
        if trajectories := TrajectoryTimes.of(time["trajectories"] or {}):
            text = f"Times    {time['num_times']} states of trajectories of "
            text += f"{trajectories.num_states} each, {trajectories.step_label}"
            kind, first = "trajectories", 1
        else:
            text += f"{every}, hours of day {hours}{calendar}"
        lines.append(text)
        for name, period in time["periods"].items():
            count = period["num_gaps"] + min(first, period["num_states"])
            lines.append(f"         {name}: {period['num_states']} states, {count} {kind}")
    if sample:
        text = f"Sample   {sample['num_times']} times, {sample['bytes'] / 2**20:.1f} MiB read of "
        lines.append(f"{text}{sample['bytes_allowed'] / 2**20:.0f} MiB allowed")
    return lines


def _machine_lines(facts: dict[str, Any]) -> list[str]:
    store, disk, known = facts.get("store"), facts.get("disk"), facts["machine"]
    lines = ["Store    not prepared yet"]
    if store:
        lines = [f"Store    {store['path']}, {store['num_times']} states"]
    if disk:
        text = f"Disk     {disk['store_bytes'] / 2**30:.2f} GiB for the store, "
        lines.append(f"{text}{disk['free_bytes'] / 2**30:.1f} GiB free in {disk['folder']}")
    gpus = ", ".join(gpu["name"] for gpu in known["gpus"]) or "no GPU"
    memory = f"{known['available_memory_bytes'] / 2**30:.1f} GiB memory available"
    text = f"Machine  {known['processor']}, {known['num_cpus']} CPUs, {memory}; {gpus}; NCCL "
    lines.append(f"{text}{known['nccl'] or 'not installed'}; torch {known['versions']['torch']}")
    rates, speeds = facts["throughput"], dict[str, str]()
    for name in ("loader", "model"):
        value = (rates[name] or {}).get("samples_per_second")
        speeds[name] = "not measured" if value is None else f"{value:.3g} samples/s"
    ratio = "" if rates["ratio"] is None else f" ({rates['ratio']:.2g} times as much)"
    return [*lines, f"Speed    loader {speeds['loader']}{ratio}, model {speeds['model']}"]
