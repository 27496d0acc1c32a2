"""Forecasts of the simulator that has made the data, from truth's states: the perfect model.

Its errors are the limit of what can be known. An ensemble runs where the future is random: the
members start from the same state with the same hidden state, and differ in the noise to come. Next
to forecasts with members the store has its members, so that all scores of an ensemble have their
limit; next to others their mean, and their spread in the group ``spread``.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from threading import Event

import numpy as np
import torch
import xarray as xr

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.files.outputs import Output, check_outputs, zarr_attributes
from data_pipeline.files.progress import track
from data_pipeline.preparation.config import DataConfig
from data_pipeline.preparation.simulator import check_continues, simulator_of, states_at
from data_pipeline.simulation.continuation import Continuation
from data_pipeline.sources.files import local_inputs
from data_pipeline.store.format import checksum
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.inference.config import StoreConfig
from fourcastnet_afno.inference.open import open_forecast
from fourcastnet_afno.inference.perturbations import generator_for
from fourcastnet_afno.inference.resume import Work
from fourcastnet_afno.inference.store import ForecastLayout, ForecastStore

_TOGETHER = 40  # forecasts that a thread runs together: long rows that stay in the cache
_MARKS = {"fingerprint", "blow_ups", "simulator"}


def perfect_model_output(path: Path) -> Output:
    """The store that ``write_perfect_model`` writes, and replaces."""
    return Output(path, "forecasts of the perfect model", _is_ours, has_work_folder=True)


def _is_ours(path: Path) -> bool:
    return zarr_attributes(path).keys() >= _MARKS


def write_perfect_model(
    config: DataConfig,
    store: PreparedStore,
    like: xr.Dataset,
    path: Path,
    *,
    num_members: int,
    seed: int,
    num_threads: int = 1,
) -> None:
    """Run the simulator of prepared data from its states, unless these forecasts are there.

    An interrupted call resumes; forecasts that have changed since they were written are replaced.

    Args:
        config: The data, of ``data.simulation`` or ``data.pde``.
        store: All of its channels.
        like: Forecasts (see ``open_forecast``) whose initial times, steps and variables it has.
        path: The forecast store to write.
        num_members: Members where the simulator is random; others run once.
        seed: Of their noise.
        num_threads: Threads that run at the same time; the result does not depend on it.

    Raises:
        InputError: If the data is not simulated ("no-simulator"), the simulator is another one
            ("other-simulator"), or an initial time is none of the data ("no-times").
    """
    check_outputs([perfect_model_output(path)], {"the data": local_inputs(str(store.path))})
    inits = like["init_time"].values
    simulator = simulator_of(config, inits)
    is_random = simulator.is_random
    run = _Run(
        simulator=simulator,
        store=store,
        channels=Channels.from_dataset(like, [n for n in simulator.variables if n in like]),
        init_times=inits,
        num_steps=like.sizes["lead_time"],
        num_members=num_members if is_random else 1,
        seed=seed,
        keeps_members=is_random and num_members > 1 and "realization" in like.dims,
    )
    settings = config.store_settings()
    identity = {
        "simulator": settings.get("simulation") or settings["pde"],
        "data": store.fingerprint,
        "init_times": checksum(inits.astype(np.int64)),
        "num_steps": run.num_steps,
        "channels": run.channels.labels,
        "members": run.num_members,
        "seed": seed if is_random else 0,
    }
    if run.keeps_members:  # as earlier versions never did
        identity["output"] = "members"
    work = Work(path, identity, num_units=len(run.units), num_chunks=run.num_chunks)
    with suppress(InputError), open_forecast(path) as made:
        found = made.attrs.get("fingerprint"), made.attrs.get("content")
        if found == (work.fingerprint, _content_of(path)):
            return
    check_continues(simulator, store, inits)
    attrs = {
        "title": "Forecasts of the simulator of the data",
        "source": "fourcastnet_afno",
        "simulator": json.dumps(identity["simulator"]),
        "fingerprint": work.fingerprint,
    }
    _write(run, work, attrs, num_threads)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """The forecasts of a simulator, divided into units."""

    simulator: Continuation
    store: PreparedStore
    channels: Channels
    init_times: np.ndarray
    num_steps: int
    num_members: int
    seed: int
    keeps_members: bool
    stopped: Event = field(default_factory=Event)

    @cached_property
    def units(self) -> list[slice]:
        """The initial times of each unit."""
        length = -(-_TOGETHER // self.num_members)
        return [slice(s, s + length) for s in range(0, len(self.init_times), length)]

    @cached_property
    def layout(self) -> ForecastLayout:
        """Axes and chunks of the store."""
        step = self.store.step
        return ForecastLayout(
            channels=self.channels,
            grid=self.store.grid,
            init_times=self.init_times,
            lead_times=np.arange(1, self.num_steps + 1) * step.delta,
            step=step,
            members=tuple(range(self.num_members)) if self.num_members > 1 else (),
            forecasts_together=(self.units[0].stop, self.num_members),
            config=StoreConfig(),
        )

    @property
    def num_chunks(self) -> int:
        """Chunks of each unit, along lead time."""
        return -(-self.num_steps // self.layout.steps_together)

    def compute(self, store: ForecastStore, number: int) -> list[str]:
        """Run a unit and write it; returns the checksum of each chunk of the members or the mean.

        Raises:
            InputError: If a solution becomes infinite.
        """
        unit, count, together = self.units[number], self.num_members, self.layout.steps_together
        inits, given = self.init_times[unit], self.simulator.variables
        chosen = [given.index(channel.name) for channel in self.channels]
        states = np.repeat(states_at(self.simulator, self.store, inits), count, axis=0)
        noise = [
            generator_for(self.seed, time, member) for time in inits for member in range(count)
        ]
        checksums, steps = list[str](), list[dict[str, np.ndarray]]()
        forecasts = self.simulator.run(np.repeat(inits, count), states, self.num_steps, noise)
        for step, fields in enumerate(forecasts):
            if self.stopped.is_set():
                break
            members = fields[:, chosen].reshape(len(inits), count, len(chosen), *fields.shape[2:])
            steps.append(self._kept(members))
            if len(steps) == together or step + 1 == self.num_steps:
                start = unit.start, 0, step + 1 - len(steps)
                blocks = {g: np.stack([kept[g] for kept in steps], axis=2) for g in steps[0]}
                for group, block in blocks.items():
                    store.write(block, start, group)
                checksums.append(checksum(blocks[""]))
                steps.clear()
        return checksums

    def _kept(self, members: np.ndarray) -> dict[str, np.ndarray]:
        """Fields of a step (init, member, ...) that the store keeps, float32 by group.

        Raises:
            InputError: If a value is not finite.
        """
        if not np.isfinite(members).all():
            raise InputError(
                "the simulator became infinite in the forecasts of the perfect model; raise "
                "data.pde.substeps, or leave perfect_model out of evaluation.baselines",
                code="unstable-solver",
            )
        if self.keeps_members:
            return {"": members.astype(np.float32)}
        mean = members.mean(axis=1, keepdims=True, dtype=np.float64)
        kept = {"": mean.astype(np.float32)}
        if self.num_members > 1:
            squares = ((members - mean) ** 2).sum(axis=1, keepdims=True)
            spread = np.sqrt(squares / (self.num_members - 1))
            kept["spread"] = spread.astype(np.float32)
        return kept


def _write(run: _Run, work: Work, attrs: dict[str, str], num_threads: int) -> None:
    """Compute the units that are left, several at a time, and publish the store."""
    store = ForecastStore(work.folder.store, run.layout)

    def create() -> None:
        has_summary = run.num_members > 1 and not run.keeps_members
        store.create(attrs, quantiles=() if has_summary else None)

    def complete(folder: Path) -> Path:
        attrs = {"blow_ups": "[]", "content": _content_of(folder)}
        ForecastStore(folder, run.layout).finish(attrs)
        return folder

    with work.opened(create, "overwrite"):
        left = work.units
        with _threads(num_threads, run.stopped) as pool:
            finished = zip(left, pool.map(partial(run.compute, store), left), strict=True)
            for number, checksums in track(finished, "Running the perfect model", len(left)):
                for chunk, digest in enumerate(checksums):
                    work.record(number, chunk, digest)
        work.finish(complete)


def _content_of(path: Path) -> str:
    """Digest of a store's files; that of the root's metadata holds it, and is left out."""
    digest = hashlib.blake2b(digest_size=16)
    for file in sorted(path.rglob("*")):
        if file.is_file() and file != path / "zarr.json":
            digest.update(f"{file.relative_to(path)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _threads(count: int, stopped: Event) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute with one core each, so that their number does not change a bit.

    At the end of the block they stop.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(count, "simulator", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
