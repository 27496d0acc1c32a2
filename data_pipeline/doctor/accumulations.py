"""Checks of sums over time: running totals, and periods that are not the timestep."""

from dataclasses import replace

import numpy as np

from data_pipeline.channels import Channels
from data_pipeline.doctor.findings import Finding, finding
from data_pipeline.doctor.sampling import SampledStates, read_sample
from data_pipeline.doctor.times import times_of
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preprocessing.plausibility import is_accumulated
from data_pipeline.sources.names import ACCUMULATED, parse_label
from data_pipeline.timestep import Timestep, lead_label

_RUN_HOURS, _LONGEST_RUN = 49, 60
_SIX_HOURS = Timestep.parse("6h")


def accumulated(states: SampledStates, channels: Channels) -> Channels:
    """Select the channels that are sums over time."""
    attrs = {channel.name: states.dataset[channel.name].attrs for channel in channels}
    return Channels(tuple(c for c in channels if is_accumulated(c.name, c.units, attrs[c.name])))


def check_running_totals(
    states: SampledStates, channels: Channels, step: Timestep, first: int, budget: int
) -> tuple[list[Finding], int]:
    """Find running totals in the source, from the state with the index ``first`` on.

    Returns the bytes of chunks that were read, too, at most ``budget``.
    """
    source = replace(states, dataset=states.source, steps={})
    times = times_of(source.dataset)
    start = int(np.searchsorted(times, times_of(states.dataset)[first]))
    # Consecutive times that show two resets of daily totals, where steps are short enough.
    length = max(8, min(_LONGEST_RUN, int(_RUN_HOURS * 3.6e12 // step.mean_nanoseconds) + 1))
    run = np.arange(start, min(start + length, len(times)))
    read_from = {(states.source_of(c.name), c.level): c for c in channels}
    findings, num_bytes = [], 0
    for (name, _), channel in read_from.items():
        # An incomplete run is of no use: a part of the budget for each.
        alone = Channels((replace(channel, name=name),))
        sample, _ = read_sample(source, alone, run, budget // len(read_from))
        num_bytes += sample.num_bytes
        values = sample.values.get(alone.labels[0])
        steps = _steps_to_reset(values, sample.times, step)
        if steps is None:
            continue
        again = f" and starts again about every {lead_label(steps * step.delta)}" if steps else ""
        what = f"the field grows from step to step{again}"
        where = f"{alone.labels[0]}: from {sample.times[0].astype('datetime64[m]')}"
        remedy = "Take differences of consecutive times, and the first value after each reset."
        findings.append(finding("accumulated", "error", what, where, remedy))
    return findings, num_bytes


def _steps_to_reset(values: np.ndarray | None, times: np.ndarray, step: Timestep) -> int | None:
    """Steps between resets of a running total, 0 where none was seen; ``None`` for other fields.

    A running total grows everywhere, falls nowhere but at a reset, and grows again after it.
    """
    if values is None or len(values) < 7:
        return None
    if not (step.steps_between(times[:-1], times[1:]) == 1).all():
        return None
    steps = np.diff(values.astype(np.float64), axis=0)
    scale = np.nanmax(np.abs(values)) or 1.0
    falls = (steps < -1e-4 * scale).mean(axis=(1, 2)) > 1e-3
    grows = ~falls & (steps > 1e-4 * scale).any(axis=(1, 2))
    isolated = not (falls[1:] & falls[:-1]).any()
    if not isolated or grows.sum() < max(4, 2 * falls.sum()):
        return None
    resets = np.flatnonzero(falls)
    return round(float(np.median(np.diff(resets)))) if len(resets) > 1 else 0


def check_sum_periods(channels: Channels, step: Timestep, config: DataConfig) -> list[Finding]:
    """Find sums over a period that is not the timestep.

    Variables that ``data.accumulate`` sums, and those that ``prepare`` rejects without it, are
    left out.
    """
    handled = {*ACCUMULATED, *(parse_label(name)[0] for name in config.accumulate)}
    findings, timestep = [], config.step
    for channel in channels:
        of_six_hours = channel.name.endswith("_6hr")
        period = _SIX_HOURS if of_six_hours else step
        if channel.name in handled or period == timestep.in_calendar(period.calendar):
            continue
        shorter = period.mean_nanoseconds < timestep.mean_nanoseconds
        effect = "the rest is lost" if shorter else "sums overlap"
        summed = "total_precipitation" if of_six_hours else channel.name
        what = f"sums of {period.label} are taken every {timestep.label}: {effect}"
        remedy = f"Set data.accumulate={{{summed}: sum}}, or data.timestep to {period}."
        findings.append(finding("accumulation-period", "warning", what, channel.label, remedy))
    return findings
