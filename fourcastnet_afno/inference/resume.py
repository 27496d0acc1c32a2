"""Forecasts that are shared by processes and resume after a kill, in a work folder.

    .NAME.partial/restart-UNIT.safetensors    the state of an unfinished unit
    .NAME.partial/records-UNIT.json           the blow-ups of a finished unit

Work consists of units, and these of chunks, the pieces of the work folder: chunk c of unit u has
the number u * num_chunks + c. Unit u is done by the process of rank u modulo the number of
processes. A kill costs the steps since the last restart file.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

from annotated_types import Ge
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Marker, never
from data_pipeline.files.work_folder import WorkFolder
from data_pipeline.records import from_plain, naming_file, parse_json
from fourcastnet_afno.forecaster.checkpoint_file import digest_of, digest_of_tensor
from fourcastnet_afno.inference.commits.target import CommitTarget
from fourcastnet_afno.inference.config import IfExists
from fourcastnet_afno.inference.open import forecast_output, is_forecast, open_forecast

_DAMAGED = "damaged-restart"
_AGAIN = "{} and run the same command again, which computes anew what is not finished"


class BlowUpRecord(TypedDict):
    """The end of a forecast; it also has the coordinates of its place."""

    init_time: str
    realization: int
    step: int
    channel: str
    value: str
    place: str


class Work:
    """The units of forecasts, and which of them are finished.

    Args:
        path: Store or file to make.
        identity: JSON values that must be the same to resume.
        num_units: Units of all processes.
        num_chunks: Chunks of each unit.
        rank: Of this process among ``world_size``.
        marker: Recognizes outputs that may be replaced.
        target: Where the output is committed, which then never is at ``path``.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        *,
        num_units: int,
        num_chunks: int,
        rank: int = 0,
        world_size: int = 1,
        marker: Marker = is_forecast,
        target: CommitTarget | None = None,
    ) -> None:
        self._marker, self._target = marker, target
        self.folder = WorkFolder(path, json.dumps(identity, sort_keys=True, indent=1), rank)
        self._num_units, self._num_chunks = num_units, num_chunks
        self._rank, self._world_size, self._overwrite = rank, world_size, False

    @property
    def fingerprint(self) -> str:
        """Digest of the identity, 16 hexadecimal digits."""
        return hashlib.blake2b(self.folder.identity.encode(), digest_size=8).hexdigest()

    @property
    def replaces(self) -> bool:
        """Whether an output that is there is replaced."""
        return self._overwrite

    def _exists(self) -> bool:
        if self._target is None:
            return self.folder.path.exists()
        return self._target.holds_others(self.folder.token)

    @contextmanager
    def opened(self, create: Callable[[], object], existing: IfExists) -> Iterator[None]:
        """Start with the store that ``create`` makes, or resume.

        Raises:
            InputError: If an output or other work exists and is to be kept, the folder cannot be
                written to, or another process does the same work. If a single process meets a
                mistake in the input before its first piece, all is as it was before.
            TransferError: If the disk is full.
        """
        path, folder = self.folder.path, self.folder.folder
        interrupted = existing == "resume" and (folder / "identity.json").exists()
        exists = self._exists()
        if exists and existing != "overwrite" and not interrupted:
            name = path.resolve() if self._target is None else self._target.path
            raise InputError(
                f"{name} exists; write to another path, or give --existing overwrite to "
                "replace it, or --existing resume",
                code="output-exists",
            )

        def replace(identity: str) -> None:
            if existing == "overwrite":
                return
            before, now = parse_identity(identity), parse_identity(self.folder.identity)
            keys = [k for k in sorted(before.keys() | now.keys()) if before.get(k) != now.get(k)]
            raise InputError(
                f"{folder.resolve()} holds an interrupted forecast of other settings, differing in "
                f"{', '.join(keys)}; give another --output, or --existing overwrite to drop it",
                code="other-configuration",
            )

        self._overwrite = existing == "overwrite" or exists
        several = self._world_size > 1  # one that meets an error leaves the others their work
        with self.folder.opened(create=create, replace=replace, keep=several):
            yield

    @property
    def units(self) -> list[int]:
        """Units that this process has not finished."""
        units = range(self._rank, self._num_units, self._world_size)
        return [unit for unit in units if self.missing_chunks(unit)]

    def missing_chunks(self, unit: int) -> set[int]:
        """Chunks of a unit that are not finished."""
        first = unit * self._num_chunks
        return {c for c in range(self._num_chunks) if first + c not in self.folder.records}

    def record(self, unit: int, chunk: int, checksum: str) -> None:
        """Note that a chunk is safe in the store."""
        self.folder.record(unit * self._num_chunks + chunk, {"checksum": checksum})

    def restart_file(self, unit: int) -> Path:
        """Where the state of a unit is kept, see ``Restart``."""
        return self.folder.folder / f"restart-{unit}.safetensors"

    def save_blow_ups(self, unit: int, blow_ups: Sequence[Mapping[str, Any]]) -> None:
        """Keep the records of a unit until all units are finished."""
        with replacing(self.folder.folder / f"records-{unit}.json") as temporary:
            temporary.write_text(json.dumps(blow_ups))

    def blow_ups(self) -> list[dict[str, Any]]:
        """Records of all units, in order.

        Raises:
            InputError: If a file of them is damaged ("damaged-restart").
        """
        folder, blow_ups = self.folder.folder, []
        for file in (folder / f"records-{unit}.json" for unit in range(self._num_units)):
            if file.exists():
                with naming_file(file, _AGAIN.format("delete " + str(folder)), _DAMAGED):
                    records = parse_json(file.read_bytes(), "it")
                    blow_ups += from_plain(list[BlowUpRecord], records, "it")
        return blow_ups

    def finish(self, complete: Callable[[Path], Path | None]) -> bool:
        """Publish the store if all processes are finished, see ``WorkFolder.publish``."""
        num_pieces = self._num_units * self._num_chunks
        is_ours = self._marker if self._overwrite else never
        return self.folder.publish(num_pieces, complete, is_ours=is_ours)


def parse_identity(text: str) -> dict[str, Any]:
    """Parse the identity of work; one that is damaged differs in everything."""
    try:
        identity = json.loads(text)
    except ValueError:
        return {}
    return identity if isinstance(identity, dict) else {}


def recorded_provenance(path: Path, existing: IfExists) -> Mapping[str, Any]:
    """Attributes of the forecast at ``path`` that would be resumed; empty if there is none."""
    note = WorkFolder(forecast_output(path).working_path, "").folder / "identity.json"
    if note.is_file():
        return parse_identity(note.read_text(errors="replace"))
    if existing == "resume":
        with suppress(InputError), open_forecast(path) as forecast:
            return forecast.attrs
    return {}


class _Note(TypedDict):
    num_steps: Annotated[int, Ge(1)]
    records: list[BlowUpRecord]


class Restart(NamedTuple):
    """State of an unfinished unit: of each set of forecasts what ``Integration.tensors`` gives."""

    sets: Sequence[Mapping[str, Tensor]]
    num_steps: int
    blow_ups: list[dict[str, Any]]

    def save(self, path: Path) -> None:
        """Write a file; an older one is replaced at once."""
        tensors = {
            f"{number}.{name}": tensor.cpu().contiguous()
            for number, state in enumerate(self.sets)
            for name, tensor in state.items()
        }
        note = json.dumps({"num_steps": self.num_steps, "records": self.blow_ups})
        with replacing(path, SafetensorError) as temporary:
            save_file(tensors, temporary, {"note": note, "digest": _digest(note, tensors)})

    @classmethod
    def load(cls, path: Path) -> "Restart | None":
        """Read a file, if it exists; those of earlier versions have no digest.

        Raises:
            InputError: If it is not as it was written ("damaged-restart").
        """
        if not path.exists():
            return None
        with damaged_restart(path):
            try:
                with safe_open(path, framework="pt") as file:
                    header = file.metadata() or {}
                    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            except (SafetensorError, OSError) as error:
                raise ValueError(f"it is not a safetensors file ({error})") from error
            text = from_plain(str, header.get("note"), "note")
            if header.get("digest", _digest(text, tensors)) != _digest(text, tensors):
                raise ValueError("it has changed since it was written")
            note = from_plain(_Note, parse_json(text, "note"), "note")
            sets: dict[str, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                number, _, name = key.partition(".")
                sets.setdefault(number, {})[name] = tensor
            if sets.keys() != set(map(str, range(len(sets)))):
                raise ValueError(f"it has the sets {', '.join(sorted(sets))}")
        states = [sets[str(number)] for number in range(len(sets))]
        return cls(states, note["num_steps"], note["records"])


def damaged_restart(path: Path) -> AbstractContextManager[None]:
    """Name the restart file and the remedy in errors of what it holds."""
    return naming_file(path, _AGAIN.format("delete it"), _DAMAGED)


def _digest(note: str, tensors: Mapping[str, Tensor]) -> str:
    """Digest of all that a restart file holds."""
    found = [f"{name} {digest_of_tensor(tensor)}" for name, tensor in sorted(tensors.items())]
    return digest_of("\n".join([note, *found]).encode())
