"""The checkpoints of a run, written by a thread of the main process while training continues.

    last.safetensors             the newest one, to resume from
    step-00000120.safetensors    earlier ones, where more than one is kept
    best.safetensors             weights with the lowest validation loss of the stage
    ../history.json              the records of the epochs that ``last`` knows, written after it

Tensors of ``last`` have the prefixes ``forecaster.`` or ``diagnostic.`` (averaged weights),
``weights.`` (present weights, where they differ) and ``optimizer.``. With adapters the averaged
weights are those with the changes, and ``adapters.`` holds the factors, in ``last`` also the
weights without the changes. Random numbers need no state,
see ``updater``.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing, write_text, writing_to
from data_pipeline.records import from_plain
from fourcastnet_afno.fine_tuning.adapters import (
    adapter_state,
    is_original,
    merged_state,
    own_state,
)
from fourcastnet_afno.forecaster.checkpoint import (
    add_prefix,
    read_checkpoint,
    save_checkpoint,
    strip_prefix,
)
from fourcastnet_afno.forecaster.checkpoint_file import damaged, intact_of_run
from fourcastnet_afno.forecaster.weight_checks import require_fit
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.wrap import gather_dtensor, shard_like
from fourcastnet_afno.training.optimizers.build import load_optimizer, pack_steps
from fourcastnet_afno.training.progress import Position, ProgressRecord
from fourcastnet_afno.training.updater import Updater


class RunCheckpoints:
    """Writes and reads the checkpoints of a run, one after the other; each is complete or absent.

    The main process writes the ``metadata`` into each and sends what it has read to the others.
    """

    def __init__(
        self,
        folder: Path,
        updater: Updater,
        metadata: Mapping[str, Any],
        process: Process,
        *,
        keep_last: int = 1,
    ) -> None:
        self.folder, self._updater, self._process = folder, updater, process
        self._metadata, self._keep_last = metadata, keep_last
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._pending: list[Future[None]] = []

    def save(self, position: Position, *names: str) -> None:
        """Write the present state of the run under each of ``names``; all processes must call.

        ``last`` holds everything, ``best`` the averaged weights alone.

        Raises:
            InputError: If an earlier checkpoint could not be written.
        """
        self.wait()  # One snapshot at a time is in memory.
        updater = self._updater
        trained, prefix = updater.objective.trained, updater.objective.prefix
        with updater.average.applied():
            tensors = self._gather(add_prefix(prefix, merged_state(trained)))
            tensors |= self._gather(add_prefix("adapters", adapter_state(trained)))
        if updater.average.is_on:
            tensors |= self._gather(add_prefix("weights", trained.state_dict()))
        for index, entries in updater.optimizer.state_dict()["state"].items():
            tensors |= self._gather(add_prefix(f"optimizer.{index}", entries))
        metadata = {
            **self._metadata,
            "position": position.to_json(),
            "precision": updater.objective.precision,
            "scaler": updater.scaler.state_dict(),
            "optimizer_steps": pack_steps(updater.optimizer),
        }
        if self._process.is_main:
            self._pending.append(self._thread.submit(self._write_all, names, tensors, metadata))

    def _gather(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies on the CPU of the main process."""
        copies = {}
        for name, value in tensors.items():
            full = gather_dtensor(value.detach())
            if self._process.is_main:
                copies[name] = full.to("cpu", copy=True)
        return copies

    def _write_all(self, names: Sequence[str], *content: Mapping[str, Any]) -> None:
        for name in names:  # if one fails, the next ones would know of what is not there
            self._write(name, *content)

    def _write(self, name: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
        path, objective = self._path(name), self._updater.objective
        if name == "last":
            with writing_to(path):
                self._keep(path)
        else:
            kept = objective.prefix, "adapters"
            tensors = {k: v for k, v in tensors.items() if k.partition(".")[0] in kept}
            tensors = {k: v for k, v in tensors.items() if not is_original(k)}
        save_checkpoint(path, objective.forecaster, tensors, metadata)
        if name == "last":
            self._write_history(metadata["position"]["history"])

    def _write_history(self, records: Sequence[ProgressRecord]) -> None:
        """Write the records of a checkpoint where they are not written yet."""
        path = self.folder.parent / "history.json"
        if records:
            write_text(path, json.dumps(records, indent=1))
        elif path.is_file():
            path.unlink()  # of a run that was started over

    def _keep(self, last: Path) -> None:
        """Give the checkpoint that will be replaced a name of its own, and drop the oldest."""
        if self._keep_last > 1 and last.exists():
            _, metadata = read_checkpoint(last, "none")
            numbered = self.folder / f"step-{metadata['position']['step']:08d}.safetensors"
            if not numbered.exists():
                with replacing(numbered) as temporary:
                    try:
                        os.link(last, temporary)
                    except OSError:  # A file system without links.
                        shutil.copyfile(last, temporary)
        steps = sorted(self.folder.glob(f"step-{8 * '[0-9]'}.safetensors"))
        for path in steps[: max(0, len(steps) - (self._keep_last - 1))]:
            path.unlink()

    def wait(self, *, running: bool = True) -> None:
        """Wait until everything is written; without ``running`` ones, only raise errors.

        Raises:
            InputError: If a checkpoint could not be written.
        """
        ended = [task for task in self._pending if running or task.done()]
        self._pending = [task for task in self._pending if task not in ended]
        for task in ended:
            task.result()

    def restore(self) -> Position | None:
        """Resume from ``last``, if there is one: set the state of the run, return its position.

        The history becomes that of ``last``: a killed run may have written one without the other.
        """
        checkpoint = self._read("last")
        if checkpoint is None:
            if self._process.is_main:
                self._write_history([])
            return None
        tensors, metadata = checkpoint
        with damaged(self._path("last")):
            position = self._set_state(tensors, metadata)
        if self._process.is_main:
            self._write_history(position.history)
        return position

    def _set_state(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Position:
        position, updater = Position.from_json(metadata.get("position")), self._updater
        trained = updater.objective.trained
        self._load_averages(tensors)
        updater.average.reset()
        if updater.average.is_on:
            _load_weights(trained, strip_prefix("weights", tensors), "weights")
        load_optimizer(
            updater.optimizer,
            strip_prefix("optimizer", tensors),
            from_plain(list[int | None], metadata.get("optimizer_steps"), "optimizer_steps"),
            is_new=not position.recent_losses,  # of this stage
        )
        scaler = metadata.get("scaler", {})
        if updater.scaler.is_enabled() and scaler.keys() != updater.scaler.state_dict().keys():
            message = f"scaler has the entries {sorted(scaler)}, not those of float16"
            raise InputError(message, code="bad-record")
        updater.scaler.load_state_dict(dict(scaler))
        return position

    def load_best(self) -> None:
        """Set the weights to those of ``best``, which every stage writes."""
        checkpoint = self._read("best")
        path = self._path("best")
        if checkpoint is None:  # Every stage ends with a validation.
            raise InputError(
                f"{path.absolute()} was deleted while the run went on; "
                + (intact_of_run(path) or "give another --output to start over"),
                code="no-checkpoint",
            )
        with damaged(path):
            self._load_averages(checkpoint[0])

    def _load_averages(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the weights to the averages of a checkpoint."""
        objective = self._updater.objective
        merged, adapters = (strip_prefix(p, tensors) for p in (objective.prefix, "adapters"))
        state = own_state(objective.trained, merged, adapters)
        _load_weights(objective.trained, state, objective.prefix)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and metadata in all processes; None where there is no such file."""
        self.wait()
        path, process = self._path(name), self._process
        if not process.broadcast(path.exists()):
            return None
        tensors, metadata = read_checkpoint(path) if process.is_main else ({}, {})
        return process.broadcast_tensors(tensors), process.broadcast(metadata)


@torch.no_grad()
def _load_weights(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Copy full tensors to a module, whose weights may be sharded."""
    if "filled" not in tensors and "filled" in module.state_dict():
        module.register_buffer("filled", None)  # Earlier versions end as they began.
    weights = module.state_dict()
    require_fit(weights, tensors, prefix)
    for name, target in weights.items():
        target.copy_(shard_like(target, tensors[name]))
