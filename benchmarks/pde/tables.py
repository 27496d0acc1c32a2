"""Tables of the results of ``benchmarks.benchmark_pde``, in Markdown."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def read_results(folder: Path) -> list[Result]:
    """All results of a problem."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*_*.json"))]


def scores_table(results: Sequence[Result], costs: dict[str, float]) -> Iterator[str]:
    """Lines of a problem's table: a network a row, mean and spread over seeds.

    Args:
        results: Results of all networks and seeds.
        costs: Milliseconds of a step by network.
    """
    names = list(results[0]["scores"])
    yield _row(["", "weights", "training [s]", "step [ms]", *map(_title, names)])
    yield _row(["---", *["---:"] * (len(names) + 3)])
    by_label = defaultdict(list)
    for result in results:
        by_label[result["label"]].append(result)
    for label, group in by_label.items():
        scores = [_spread([r["scores"][name] for r in group], name) for name in names]
        seconds = _mean([r["seconds"] for r in group])
        cost = f"{costs[label]:.1f}" if label in costs else ""
        yield _row([label, str(group[0]["weights"]), f"{seconds:.0f}", cost, *scores])
    for label, scores in results[0]["baselines"].items():
        yield _row([label, "", "", "", *(_spread([scores[name]], name) for name in names)])


def ablation_table(results: Sequence[Result]) -> Iterator[str]:
    """Lines of the ablation's table: a change a row."""
    names = list(results[0]["scores"])
    yield _row(["", "weights", "training [s]", *map(_title, names)])
    yield _row(["---", *["---:"] * (len(names) + 2)])
    for result in results:
        scores = [_spread([result["scores"][name]], name) for name in names]
        yield _row([result["label"], str(result["weights"]), f"{result['seconds']:.0f}", *scores])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _title(name: str) -> str:
    kind, _, shape = name.rpartition("test_")
    words = {"correlation_time_": "correlated [steps]", "last_step_": "error of the last step"}
    return f"{words.get(kind, 'error')}, {shape.replace('x', ' x ')}"


def _spread(values: Sequence[float | None], name: str) -> str:
    """Mean and sample standard deviation; a rollout that stays correlated has no time."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return f"always ({len(values) - len(known)} of {len(values)})"
    digits = 1 if name.startswith("correlation") else 4
    text = f"{_mean(known):.{digits}f}"
    return text + (f" ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else "")


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
