"""Calls that README and docs show, made by the code of before and, in the tests, by that of now.

``make_artifacts.py`` runs this file as a script under the code of before: only what the documents
name is imported, so that both sides do the very same.
"""

import hashlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from data_pipeline import PreparedStore
from fourcastnet_afno import evaluate, forcings_from, load_forecaster, open_forecast, rollout
from fourcastnet_afno.cli import main

# Bytes of a forecast that a task of the evaluation reads: small, so that there are many tasks.
BLOCK_BYTES = 4 * 8 * 16


class CountingExecutor(ThreadPoolExecutor):
    """One thread that counts its tasks, and is interrupted at one of them where that is asked for.

    Args:
        interrupted_at: Number of the task at which Ctrl-C is pressed; never by default.
    """

    def __init__(self, interrupted_at: int | None = None) -> None:
        super().__init__(1)
        self.num_tasks, self._interrupted_at = 0, interrupted_at

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:  # noqa: ANN401
        """Count a task."""
        if self.num_tasks == self._interrupted_at:
            raise KeyboardInterrupt
        self.num_tasks += 1
        return super().submit(fn, *args, **kwargs)


def digest(values: np.ndarray) -> str:
    """Type, shape and SHA-256 of an array's bytes."""
    values = np.ascontiguousarray(values)
    return f"{values.dtype.str} {values.shape} {hashlib.sha256(values.tobytes()).hexdigest()}"


def described_dataset(dataset: xr.Dataset) -> dict[str, Any]:
    """Names, units, dimensions and digests of all that a dataset holds."""
    return {
        str(name): {
            "dims": list(map(str, array.dims)),
            "units": array.attrs.get("units"),
            "digest": digest(array.values),
        }
        for name, array in sorted(dataset.variables.items(), key=lambda item: str(item[0]))
    }


def described_store(path: Path) -> dict[str, Any]:
    """All that the documents let users read of a prepared store."""
    store = PreparedStore(path)
    has_diagnostic = len(store.diagnostic.channels) > 0
    return {
        "times": digest(store.times),
        "states": digest(store.states[: len(store.times), :]),
        "coords": {name: digest(values) for name, values in store.grid.coords.items()},
        "dataset": described_dataset(store.dataset()),
        "prognostic": described_dataset(store.prognostic.dataset()),
        "diagnostic": described_dataset(store.diagnostic.dataset()) if has_diagnostic else {},
        "climatology": described_dataset(store.climatology()),
    }


def rolled_out(run: Path, num_steps: int = 4) -> xr.Dataset:
    """README's ten lines: a forecast from one of the last states of a run's store."""
    forecaster = load_forecaster(run / "checkpoints/best.safetensors")
    store = PreparedStore(run / "data.zarr").prognostic
    now = len(store.times) - num_steps - 2
    init_time, states = store.times[[now]], torch.from_numpy(store.states[: now + 1, :])
    history = states[None, -forecaster.config.num_history :]
    with torch.inference_mode():
        steps = rollout(forecaster, history, forcings_from(forecaster, init_time), num_steps)
        fields = torch.stack(list(steps), dim=1).numpy()
    leads = np.arange(1, num_steps + 1) * forecaster.spec.timestep
    axes = {"init_time": init_time, "lead_time": leads, **store.grid.coords}
    return forecaster.spec.channels.unstack(fields, axes)


def scored(forecast: xr.Dataset, store: Path, **options: Any) -> xr.Dataset:  # noqa: ANN401
    """README's last lines: scores of a forecast in memory."""
    truth = PreparedStore(store).prognostic
    return evaluate({"model": forecast}, truth.dataset(), truth.climatology(), **options)


def in_memory(path: Path) -> xr.Dataset:
    """The forecast of a store, without a trace of where it was."""
    forecast = open_forecast(path).load()
    forecast.encoding.clear()
    return forecast


def printed_config(words: Sequence[str]) -> str:
    """The configuration that a verb takes from its words, with the defaults, as YAML.

    Raises:
        ValueError: If the words are refused.
    """
    with redirect_stdout(io.StringIO()) as out:
        try:
            code = main([*words, "--print_config"])
        except SystemExit as stop:
            code = stop.code
    if code:
        raise ValueError(f"{words} are refused with exit code {code}")
    return out.getvalue()


def write_expected(
    run: Path, store: Path, interrupted_at: int, state: Path, fields: Path, record: Path
) -> None:
    """Write what the code that runs makes of a run and a store of another equation.

    Args:
        run: Run folder with store, checkpoint and forecast.
        store: Another prepared store.
        interrupted_at: Task at which an evaluation is interrupted.
        state: The file that it leaves.
        fields: File for computed fields and scores.
        record: File for digests of what is read.
    """
    forecast = rolled_out(run)
    arrays = {f"rollout/{name}": array.values for name, array in forecast.items()}
    of_memory = scored(forecast, run / "data.zarr")
    arrays |= {f"scores/{name}": of_memory[name].values for name in ("rmse", "acc")}
    stored = in_memory(run / "forecast.zarr")
    counting = CountingExecutor()
    whole = scored(stored, run / "data.zarr", executor=counting, block_bytes=BLOCK_BYTES)
    arrays["state/rmse"] = whole["rmse"].values
    try:
        executor = CountingExecutor(interrupted_at)
        options = {"state": state, "executor": executor, "block_bytes": BLOCK_BYTES}
        scored(stored, run / "data.zarr", **options)
    except KeyboardInterrupt:
        pass
    np.savez_compressed(fields, **arrays)  # type: ignore[arg-type]
    found = {
        "num_tasks": counting.num_tasks,
        "stores": {
            "planet": described_store(run / "data.zarr"),
            "fisher": described_store(store),
        },
        "forecast": described_dataset(open_forecast(run / "forecast.zarr")),
    }
    record.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    places = {name: Path(given[name]) for name in ("run", "store", "state", "fields", "record")}
    write_expected(interrupted_at=given["interrupted_at"], **places)
    for name, words in given["configs"].items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(printed_config(words))
