"""``fourcastnet-afno doctor``: data, store, machine and speed of an experiment, before it runs."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from data_pipeline.channels import Channel, Channels
from data_pipeline.doctor.examination import Examination, examine
from data_pipeline.doctor.findings import Finding, Report, finding_from_error
from data_pipeline.doctor.times import PeriodNeeds
from data_pipeline.errors import InputError
from data_pipeline.loading.windows import WindowDataset
from fourcastnet_afno.doctor.machine import (
    available_memory,
    check_batches,
    check_device,
    describe_machine,
    judge_throughput,
    loader_rate,
    model_rate,
)
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.provenance import versions
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import store_location

_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan"}
_MEASURED = ("loader", "model")


def doctor(
    config: ExperimentConfig,
    output: Path,
    *,
    as_json: bool = False,
    measure: bool = True,
    sample_mib: int = 1024,
) -> Report:
    """Examine an experiment and print what was found.

    Args:
        config: The experiment.
        output: Run folder, whose store is examined where there is one.
        as_json: Whether to print one JSON document, and nothing else, to standard output.
        measure: Whether to time the loader and the model, for a few seconds each.
        sample_mib: MiB of the source to read at most.
    """
    # Progress bars and messages of libraries must not get between the lines of the document.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        report = diagnose(config, output, measure=measure, sample_mib=sample_mib)
    if as_json:
        print(json.dumps(report.to_json(), indent=1, allow_nan=False))
    else:
        show(report, Console(soft_wrap=True, highlight=False))
    return report


def diagnose(
    config: ExperimentConfig, output: Path, *, measure: bool = True, sample_mib: int = 1024
) -> Report:
    """Everything the doctor finds; see ``doctor``."""
    horizons = PeriodNeeds(
        history=config.model.num_history,
        training_steps=max(stage.num_steps for stage in config.training.stages),
        forecast_steps=config.forecast.num_steps,
        interval_hours=config.forecast.init_interval_hours,
    )
    location = store_location(config, output)
    examined = examine(config.data, location, horizons, sample_bytes=sample_mib * 2**20)
    findings = check_device(config.training)
    facts: dict[str, Any] = {"machine": describe_machine() | {"versions": versions()}}
    rates, more = _throughput(config, examined, measure=measure and not _stops(findings))
    return examined.report.extended(facts | {"throughput": rates}, [*findings, *more])


def _stops(findings: list[Finding]) -> bool:
    return any(finding.severity == "error" for finding in findings)


def _throughput(
    config: ExperimentConfig, examined: Examination, *, measure: bool
) -> tuple[dict[str, Any], list[Finding]]:
    """Speed of loader and model; the model needs channels and grid, the loader a store."""
    steps = min(stage.num_steps for stage in config.training.stages)
    facts: dict[str, Any] = {"num_steps": steps, "loader": None, "model": None, "ratio": None}
    if examined.channels is None or examined.grid is None:
        return facts, []
    try:
        forecaster = _untrained(config, examined)
    except InputError as error:
        return facts, [finding_from_error("model", error, "model")]
    longest = max(stage.num_steps for stage in config.training.stages)
    cells = examined.grid.shape[0] * examined.grid.shape[1] * len(examined.channels)
    window = 4 * cells * (config.model.num_history + longest)
    findings = check_batches(window, config.training.batch_size, available_memory())
    if not measure or _stops(findings):
        return facts, findings
    facts["model"], more = model_rate(forecaster, config.training, steps)
    facts["loader"] = _loader(config, examined, steps)
    loader, model = (facts[name] and facts[name]["samples_per_second"] for name in _MEASURED)
    facts["ratio"] = loader / model if loader and model else None
    return facts, [*findings, *more, *judge_throughput(loader, model)]


def _loader(config: ExperimentConfig, examined: Examination, steps: int) -> dict[str, Any] | None:
    if examined.store is None:
        return None
    try:
        windows = WindowDataset(
            examined.store,
            config.data.train,
            config.model.num_history,
            steps,
            config.data.forcings,
            config.data.subset,
        )
    except InputError:  # reported by the check of the periods
        return None
    return {"samples_per_second": loader_rate(windows, config.training)}


def _untrained(config: ExperimentConfig, examined: Examination) -> Forecaster:
    """The configured forecaster for fields of mean 0 and standard deviation 1."""
    assert examined.channels is not None
    assert examined.grid is not None
    static = Channels(tuple(Channel(name=f"static{i}") for i in range(examined.num_static)))
    spec = FieldSpec(
        channels=examined.channels,
        static_channels=static,
        forcings=tuple(config.data.forcings),
        grid=examined.grid,
        timestep_hours=config.data.timestep_hours,
    )
    ones = torch.ones(len(spec.channels))
    fields = torch.zeros(len(static), *examined.grid.shape)
    with torch.random.fork_rng():
        return Forecaster(config.model, spec, mean=0 * ones, std=ones, diff_std=ones, static=fields)


def show(report: Report, console: Console) -> None:
    """Print facts, then findings, errors first."""
    facts = report.facts
    for line in _summary(facts):
        console.print(line)
    if facts.get("variables"):
        console.print(_variables(facts["variables"]))
    for finding in report.findings:
        console.print(_rendered(finding))
    counts = report.to_json()["counts"]
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    console.print(f"\nFound: {words}", style="bold red" if report.num_errors else "bold green")


def _rendered(finding: Finding) -> Text:
    text = Text("\n").append(f"{finding.severity}: ", style=_STYLES[finding.severity])
    text.append(finding.what).append(f" [{finding.check}]", style="dim")
    for name in ("where", "why", "remedy"):
        text.append(f"\n  {name + ':':8}", style="dim").append(getattr(finding, name))
    return text


def _variables(variables: dict[str, Any]) -> Table:
    table = Table(
        Column("variable", overflow="fold"),
        "units",
        title="Sample of the source",
        title_justify="left",
    )
    names = ("min", "mean", "max", "std")
    for name in (*names, "NaN"):
        table.add_column(name, justify="right")
    for label, facts in variables.items():
        moments = ["" if facts[name] is None else f"{facts[name]:.4g}" for name in names]
        table.add_row(label, facts["units"], *moments, f"{100 * facts['nan_share']:.3g} %")
    return table


def _summary(facts: dict[str, Any]) -> list[str]:
    """A line for each section of facts that is there."""
    lines = [f"Source   {facts['source']['origin']}"]
    grid, time, sample = (facts.get(name) for name in ("grid", "time", "sample"))
    if grid and grid["kind"] == "plane":
        closed = f"periodic in {grid['periodic']}" if grid["periodic"] else "not periodic"
        lines.append(
            f"Grid     {grid['rows']} x {grid['columns']}, plane of {grid['extent_y']:g} x "
            f"{grid['extent_x']:g}, {closed}"
        )
    elif grid:
        spacing = [grid[f"{axis}_spacing"] for axis in ("latitude", "longitude")]
        steps = " x ".join("uneven" if step is None else f"{step:g}" for step in spacing)
        poles = "with" if grid["poles"] else "without"
        lines.append(
            f"Grid     {grid['num_latitudes']} x {grid['num_longitudes']}, {grid['kind']}, "
            f"{steps} degrees, {grid['coverage']}, {poles} rows on poles"
        )
    if time and time["num_times"]:
        hours = " ".join(map(str, time["hours_of_day"]))
        lines.append(
            f"Times    {time['num_times']} from {time['first']} to {time['last']}, every "
            f"{time['step_hours']:g} h, hours of day {hours}"
        )
        lines += [
            f"         {name}: {period['num_states']} states, {period['num_gaps']} gaps"
            for name, period in time["periods"].items()
        ]
    if sample:
        lines.append(
            f"Sample   {sample['num_times']} times, {sample['bytes'] / 2**20:.1f} MiB read of "
            f"{sample['bytes_allowed'] / 2**20:.0f} MiB allowed"
        )
    return lines + _machine_lines(facts)


def _machine_lines(facts: dict[str, Any]) -> list[str]:
    store, disk, machine = facts.get("store"), facts.get("disk"), facts["machine"]
    lines = [
        f"Store    {store['path']}, {store['num_times']} states"
        if store
        else "Store    not prepared yet"
    ]
    if disk:
        lines.append(
            f"Disk     {disk['store_bytes'] / 2**30:.2f} GiB for the store, "
            f"{disk['free_bytes'] / 2**30:.1f} GiB free in {disk['folder']}"
        )
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    lines.append(
        f"Machine  {machine['processor']}, {machine['num_cpus']} CPUs, "
        f"{machine['available_memory_bytes'] / 2**30:.1f} GiB memory available; {gpus}; "
        f"NCCL {machine['nccl'] or 'not there'}; torch {machine['versions']['torch']}"
    )
    return [*lines, _speed(facts["throughput"])]


def _speed(rates: dict[str, Any]) -> str:
    values = {name: (rates[name] or {}).get("samples_per_second") for name in _MEASURED}
    words = {
        name: "not measured" if value is None else f"{value:.3g} samples/s"
        for name, value in values.items()
    }
    ratio = "" if rates["ratio"] is None else f" ({rates['ratio']:.2g} times as much)"
    return f"Speed    loader {words['loader']}{ratio}, model {words['model']}"
