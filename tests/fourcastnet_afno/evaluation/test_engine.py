"""Interrupted evaluations, and tasks that travel to other processes."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import xarray as xr

from fourcastnet_afno.evaluation.config import EvaluationConfig
from fourcastnet_afno.evaluation.evaluate import evaluate
from tests.builders.evaluation_fixtures import (
    make_coefficients,
    make_forecast,
    make_truth,
)
from tests.builders.limits import small_files
from tests.builders.processes import start

TRUTH = make_truth()


COEFFICIENTS = make_coefficients(TRUTH)


FORECAST = make_forecast(TRUTH, num_members=2)


class StoppingExecutor(Executor):
    """Runs tasks at once, and stops before one of them."""

    def __init__(self, stop: int = 10**9) -> None:
        self.left = stop

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:  # noqa: ANN401
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


BLOCK_BYTES = 12_000


@pytest.mark.parametrize("stop", [5, 10])
def test_a_resumed_evaluation_is_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop: int
) -> None:
    settings: dict = {"block_bytes": BLOCK_BYTES, "state": tmp_path / "state.npz"}
    given = ({"m": FORECAST}, TRUTH, COEFFICIENTS, EvaluationConfig(num_resamples=20))
    all_of_them = StoppingExecutor()
    whole = evaluate(*given, executor=all_of_them, block_bytes=BLOCK_BYTES)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*given, executor=StoppingExecutor(stop), **settings)
    assert settings["state"].exists()
    again = StoppingExecutor()
    xr.testing.assert_identical(evaluate(*given, executor=again, **settings), whole)
    assert again.left > all_of_them.left
    assert not settings["state"].exists()


def test_a_full_disk_does_not_hide_why_the_evaluation_stopped(tmp_path: Path) -> None:
    settings: dict = {"block_bytes": BLOCK_BYTES, "state": tmp_path / "state.npz"}
    given = ({"m": FORECAST}, TRUTH, COEFFICIENTS, EvaluationConfig(num_resamples=20))
    with small_files(), pytest.raises(KeyboardInterrupt):
        evaluate(*given, executor=StoppingExecutor(5), **settings)
    assert not list(tmp_path.iterdir())


def test_the_state_of_another_evaluation_is_not_taken_up(tmp_path: Path) -> None:
    state = tmp_path / "state.npz"
    config = EvaluationConfig(num_resamples=0, spectra=False)
    with pytest.raises(KeyboardInterrupt):
        evaluate(
            {"m": FORECAST}, TRUTH, COEFFICIENTS, config,
            executor=StoppingExecutor(8), state=state, block_bytes=BLOCK_BYTES,
        )  # fmt: skip
    other = EvaluationConfig(num_resamples=0, regions=["tropics"], spectra=False)
    given = ({"m": FORECAST}, TRUTH, COEFFICIENTS, other)
    found = evaluate(*given, state=state, block_bytes=BLOCK_BYTES)
    expected = evaluate(*given, block_bytes=BLOCK_BYTES)
    xr.testing.assert_identical(found, expected)


class Journey(Executor):
    """Sends each task away and back before it runs."""

    def submit(self, fn: Callable, /, *args: Any, **kwargs: Any) -> Future:  # noqa: ANN401
        future: Future = Future()
        function, arguments = cloudpickle.loads(cloudpickle.dumps((fn, args)))
        future.set_result(function(*arguments))
        return future


def score_far_away() -> None:
    names = ["persistence", "climatology", "weekly_climatology", "linear"]
    for convention in ("weatherbench2", "weatherbench1", "fourcastnet"):
        config = EvaluationConfig(baselines=names, convention=convention, num_resamples=0)  # type: ignore[arg-type]
        given = ({"m": make_forecast(TRUTH)}, TRUTH, COEFFICIENTS, config)
        far = evaluate(*given, training=TRUTH, executor=Journey())
        assert far["forecast"].values.tolist() == ["m", *names]
        xr.testing.assert_identical(far, evaluate(*given, training=TRUTH))


def test_every_baseline_travels_to_other_processes() -> None:
    """In a process of its own: functions that the tests' type checker has wrapped stay here."""
    process = start(score_far_away)
    process.join()
    assert process.exitcode == 0
