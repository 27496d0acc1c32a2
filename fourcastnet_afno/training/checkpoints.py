"""The checkpoints of a run, written by a thread of the main process while training goes on.

    last.safetensors             the newest one, to go on from
    step-00000120.safetensors    those before it, where more than one is kept
    best.safetensors             weights with the lowest validation loss of the stage

Tensors of ``last`` lie under ``forecaster.`` (averaged weights), ``weights.`` (the present ones,
where they differ) and ``optimizer.``. Random numbers need no state, see ``updating``.
"""

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_pipeline.files.atomic import replacing
from fourcastnet_afno.forecaster.checkpoint import (
    add_prefix,
    read_checkpoint,
    save_checkpoint,
    strip_prefix,
)
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, shard_like
from fourcastnet_afno.training.ema import MovingAverage


class RunCheckpoints:
    """Writes one file after the other; each is complete or not there.

    Args:
        folder: Where they lie.
        forecaster: Describes the model.
        metadata: Kept inside every checkpoint.
        process: The main one writes and reads, the others are given what it has read.
        keep_last: Number of the newest ones that are kept.
        part: Name of what is trained, under which its weights lie: ``forecaster``, or
            ``diagnostic`` for a head behind it.
    """

    def __init__(
        self,
        folder: Path,
        forecaster: Forecaster,
        metadata: Mapping[str, Any],
        process: Process,
        *,
        keep_last: int = 1,
        part: str = "forecaster",
    ) -> None:
        self.folder, self._process = folder, process
        self._forecaster, self._metadata = forecaster, metadata
        self._keep_last, self.part = keep_last, part
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: list[Future[None]] = []

    def save(
        self, names: tuple[str, ...], tensors: Mapping[str, Tensor], record: Mapping[str, Any]
    ) -> None:
        """Write ``tensors``, which nobody may change from here on, under each of ``names``.

        Args:
            names: ``best`` needs the part alone, ``last`` everything.
            tensors: On the CPU; empty in all but the main process.
            record: Position and what else JSON can hold.

        Raises:
            InputError: If an earlier one could not be written.
        """
        self.wait()  # One snapshot at a time is in memory.
        if not self._process.is_main:
            return
        for name in names:
            task = self._thread.submit(self._write, name, tensors, record)
            self._pending.append(task)

    def _write(self, name: str, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
        path = self.folder / f"{name}.safetensors"
        if name == "last":
            self._keep(path)
        else:
            tensors = {k: v for k, v in tensors.items() if k.startswith(f"{self.part}.")}
        save_checkpoint(path, self._forecaster, tensors, {**self._metadata, **record})

    def _keep(self, last: Path) -> None:
        """Give the checkpoint that will be replaced a name of its own, and drop the oldest."""
        if self._keep_last > 1 and last.exists():
            _, metadata = read_checkpoint(last, "none")
            kept = self.folder / f"step-{metadata['position']['step']:08d}.safetensors"
            if not kept.exists():
                _copy(last, kept)
        steps = sorted(self.folder.glob("step-*.safetensors"))
        for path in steps[: max(0, len(steps) - (self._keep_last - 1))]:
            path.unlink()

    def raise_failure(self) -> None:
        """Raise what a finished write has run into, if anything.

        Raises:
            InputError: If it could not be written.
        """
        for task in [task for task in self._pending if task.done()]:
            self._pending.remove(task)
            task.result()

    def wait(self) -> None:
        """Until everything is written.

        Raises:
            InputError: If it could not be.
        """
        pending, self._pending = self._pending, []
        for task in pending:
            task.result()

    def read(self, name: str, prefix: str = "") -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and metadata of ``name``, in all processes; None where there is no such file."""
        self.wait()
        path = self.folder / f"{name}.safetensors"
        if not self._process.broadcast(path.exists()):
            return None
        tensors, metadata = read_checkpoint(path, prefix) if self._process.is_main else ({}, {})
        return self._process.share(tensors), self._process.broadcast(metadata)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:  # A file system without links.
            shutil.copyfile(source, temporary)


def snapshot(
    trained: nn.Module,
    average: MovingAverage,
    optimizer: torch.optim.Optimizer,
    process: Process,
    part: str = "forecaster",
) -> dict[str, Tensor]:
    """All tensors of a run as copies on the CPU of the main process; all processes must call."""
    with average.applied():
        tensors = _whole(add_prefix(part, trained.state_dict()), process)
    if average.is_on:
        tensors |= _whole(add_prefix("weights", trained.state_dict()), process)
    return tensors | _whole(pack_optimizer(optimizer), process)


def _whole(tensors: Mapping[str, Tensor], process: Process) -> dict[str, Tensor]:
    copies = {}
    for name, value in tensors.items():
        whole = gather_dtensor(value.detach())
        if process.is_main:
            copies[name] = whole.to("cpu", copy=True)
    return copies


def restore(
    tensors: Mapping[str, Tensor],
    trained: nn.Module,
    average: MovingAverage,
    optimizer: torch.optim.Optimizer,
    part: str = "forecaster",
) -> None:
    """Inverse of ``snapshot``, given its tensors in all processes."""
    load_weights(trained, strip_prefix(part, tensors))
    average.reset()
    if average.is_on:
        load_weights(trained, strip_prefix("weights", tensors))
    unpack_optimizer(optimizer, strip_prefix("optimizer", tensors))


@torch.no_grad()
def load_weights(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy whole tensors to a module, whose weights may be parts.

    Raises:
        RuntimeError: If the names differ.
    """
    own = module.state_dict()
    if own.keys() != tensors.keys():
        raise RuntimeError(f"weights have other names: {sorted(own.keys() ^ tensors.keys())}")
    for name, target in own.items():
        target.copy_(shard_like(target, tensors[name]))


def pack_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{key}": value
        for index, entries in state.items()
        for key, value in entries.items()
    }


def unpack_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Inverse of ``pack_optimizer``, for names without the prefix ``optimizer.``."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".")
        parameter = parameters[int(index)]
        fits = value.shape == parameter.shape
        placed = shard_like(parameter.detach(), value) if fits else value
        state.setdefault(int(index), {})[key] = placed
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
