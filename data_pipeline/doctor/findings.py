"""Findings: an observation, where it was made, why it matters, and the remedy."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from data_pipeline.errors import InputError
from data_pipeline.redaction import redact_texts

Severity = Literal["error", "warning", "info"]
REPORT_FORMAT = 1  # of the JSON document

# Every check by its identifier, and why it matters.
CHECKS = {
    "source": "`prepare` rejects this data, so nothing can be trained.",
    "prepare": "`prepare` rejects this data, so nothing can be trained.",
    "reading": "A damaged file or chunk stops `prepare` after hours, when it gets there.",
    "sample": "Variables that are not sampled are not checked.",
    "grid-irregular": "Patches and Fourier modes take the rows and columns as equally spaced.",
    "grid-open": "The grid nearly closes around the globe; a missing meridian leaves a seam that "
    "neither wrapping nor reflecting fits.",
    "grid-poles": "One pole has a row and the other has none, so rows do not mirror each other.",
    "grid-layout": "The canonical order is restored when the data is read; there is nothing to do.",
    "time-irregular": "States off the regular times are left out, and each leaves a gap.",
    "time-gap": "Windows and forecasts that cross a gap are left out.",
    "time-leap-day": "The calendar has no February 29th: in the data March 1st follows "
    "February 28th, by the clock there is a day between, so windows across it are left out.",
    "time-hours": "The climatology knows the hours of day of the training period alone; "
    "evaluation rejects others.",
    "climatology": "`prepare` fits the climatology last and would stop after all the work.",
    "split-windows": "Training needs at least one window of consecutive states in the training and "
    "validation periods, and forecasts need their truth in the test period.",
    "split-adjacent": "The weather at the border of two periods is correlated: the first states of "
    "validation or test are nearly known from training, which flatters the scores.",
    "forecast-overlap": "Forecasts that share verifying times are not independent: the scores have "
    "fewer degrees of freedom than forecasts.",
    "nan": "`prepare` rejects values that are not finite; they would spread to every weight.",
    "filled": "Filled values count neither in the loss nor in the scores; points that never have "
    "a value keep that of training in forecasts, which are missing there.",
    "fill": "A rule that no variable uses is a mistake in a name.",
    "constant": "A field that never changes has a standard deviation of 0, by which training "
    "divides, and nothing can be learned from it.",
    "blank": "A field with a single value at one time usually stands for missing data.",
    "units": "Values in another unit than the name stands for spoil everything that relies on it: "
    "thresholds, derived variables, scores, and forecasts from other data.",
    "outlier": "Values that the variable cannot have dominate the loss and the statistics, and "
    "`prepare` rejects those that no data has: most stand for missing values.",
    "accumulated": "A field that grows from step to step and starts again is a running total: the "
    "network would have to know when it was reset.",
    "accumulation-period": "The variable is a sum over a period that is not the timestep: what "
    "falls between two states is lost, or counted twice.",
    "upside-down": "Rows that belong to the other hemisphere make area weights, seasons, the "
    "Coriolis force and forcings wrong; scores look fine until other data is used.",
    "store-settings": "All verbs reject a store that was prepared from another configuration.",
    "store-damaged": "Training and evaluation read the store.",
    "store-stale": "The store no longer holds what the source holds: scores and forecasts from the "
    "source would be of other data than training.",
    "store-statistics": "Normalization and loss use the store's statistics.",
    "chunks": "Each chunk is read and decompressed completely, so `prepare` takes longer.",
    "disk": "`prepare` needs room for the store; a full disk stops training and forecasts.",
    "memory": "A process that runs out of memory is killed.",
    "device": "An allocation with a GPU is wasted by a run on the CPU, and the other way around.",
    "throughput": "Where the loader is slower than the model, the device waits.",
    "model": "`train` rejects this model for this data.",
    "wavenumbers": "How a wave moves and decays depends on its length, which one perceptron for "
    "all wavenumbers does not know: its errors were larger wherever they were measured.",
}


@dataclass(frozen=True)
class Finding:
    """A fault, or a fact that is worth knowing.

    Args:
        check: Identifier, a key of ``CHECKS``.
        severity: ``error`` stops or spoils a run, ``warning`` is likely a mistake, ``info`` is
            worth knowing.
        what: The observation, with figures.
        where: Variable, period, file or setting, and the place in it.
        why: Why it matters.
        remedy: What to do.
    """

    check: str
    severity: Severity
    what: str
    where: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Report:
    """Facts about an experiment by section, as values for JSON, and findings, errors first."""

    facts: dict[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()

    @property
    def num_errors(self) -> int:
        """Number of findings of severity error."""
        return self._count("error")

    def to_json(self) -> dict[str, Any]:
        """Document with the keys format, ok, counts, findings and facts."""
        document = {
            "format": REPORT_FORMAT,
            "ok": self.num_errors == 0,
            "counts": {severity: self._count(severity) for severity in get_args(Severity)},
            "findings": [asdict(finding) for finding in self.findings],
            "facts": self.facts,
        }
        return redact_texts(document)

    def extended(self, facts: dict[str, Any], findings: Sequence[Finding]) -> "Report":
        """Add sections of facts, and findings."""
        order = get_args(Severity)
        merged = sorted((*self.findings, *findings), key=lambda f: order.index(f.severity))
        return Report({**self.facts, **facts}, tuple(merged))

    def _count(self, severity: Severity) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def finding(check: str, severity: Severity, what: str, where: str, remedy: str) -> Finding:
    """Make a finding of one of ``CHECKS``."""
    return Finding(check, severity, what, where, CHECKS[check], remedy)


def finding_from_error(check: str, error: InputError, where: str) -> Finding:
    """Make a finding of an error, whose message ends with the remedy after a semicolon."""
    what, _, remedy = str(error).rpartition("; ")
    if not what:
        what, remedy = remedy, "correct the data or the configuration"
    return finding(check, "error", what, where, f"{remedy[:1].upper()}{remedy[1:]}.")


@contextmanager
def collect(findings: list[Finding], check: str, where: str) -> Iterator[None]:
    """Add the error that a check of ``prepare`` or ``train`` raises to the findings."""
    try:
        yield
    except InputError as error:
        findings.append(finding_from_error(check, error, where))
