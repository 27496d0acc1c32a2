"""The file of a checkpoint: tensors and a record, each with a digest that is checked when read.

A file is given to others, and copied over networks: bytes flip, ends get lost, and headers are
edited. The header of the safetensors file holds, as text,

    format      "1"
    metadata    JSON, see ``CheckpointRecord``
    digests     JSON: the CRC-32C of the metadata, and of each tensor's type, shape and bytes

Files of earlier versions lack the digests; all else is checked there too, and that the model and
the meaning of its fields are those of the configuration next to them.
"""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Required, TypedDict

import google_crc32c
import torch
from annotated_types import Ge
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from data_pipeline.records import from_plain, parse_json
from data_pipeline.sources.names import parse_label
from data_pipeline.timestep import Timestep
from data_pipeline.yaml_text import read_settings

_FORMAT = "1"
_BLOCK_BYTES = 16 * 2**20
_ABSENT = "run `fourcastnet-afno train` or correct the path"
_DAMAGED = "copy it again, or use another checkpoint of the run or train again"
_OF_RUN = re.compile(r"(last|best|step-\d{8})\.safetensors")


class HeadRecord(TypedDict):
    """A diagnostic head, see ``describe_diagnostic``."""

    config: Mapping[str, Any]
    channels: list[Any]
    backbone: str


class PositionRecord(TypedDict):
    """The progress of a run, of which more is read to resume."""

    step: Annotated[int, Ge(0)]


class CheckpointRecord(TypedDict, total=False):
    """Entries of the metadata that are read; the model and the meaning of its fields are needed."""

    model: Required[Mapping[str, Any]]
    fields: Required[Mapping[str, Any]]
    config: str
    fingerprint: str
    position: PositionRecord
    precision: str
    scaler: Mapping[str, float]
    optimizer_steps: list[int | None]
    diagnostic: HeadRecord | None


class StoredTensors(NamedTuple):
    """Tensors of a checkpoint by name, and its record."""

    tensors: dict[str, Tensor]
    record: dict[str, Any]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Write a file with digests."""
    packed = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    text = json.dumps(record)
    digests = {
        "metadata": digest_of(text.encode()),
        "tensors": {name: digest_of_tensor(value) for name, value in packed.items()},
    }
    save_file(packed, path, {"format": _FORMAT, "metadata": text, "digests": json.dumps(digests)})


def read_tensors(path: Path, prefix: str = "") -> StoredTensors:
    """Read the record of a file and the tensors whose names start with ``prefix``.

    Raises:
        InputError: If it is no checkpoint that this version reads, or not as it was written.
    """
    with damaged(path):
        return _read(path, prefix)


def _read(path: Path, prefix: str) -> StoredTensors:
    """Read as ``read_tensors`` does, with errors that lack what ``damaged`` adds."""
    with _opened(path) as file:
        header = file.metadata() or {}
        if (stored := header.get("format")) != _FORMAT:
            raise InputError(
                f"{path} has format {stored!r}, this version reads format {_FORMAT!r}; give a "
                "checkpoint of fourcastnet-afno, of this version or an earlier one",
                code="other-format",
            )
        names = list(file.keys())
        tensors = {name: file.get_tensor(name) for name in names if name.startswith(prefix)}
    text = from_plain(str, header.get("metadata"), "metadata")
    if "digests" in header:
        digests = parse_json(header["digests"], "digests")
        _check_digests(from_plain(_Digests, digests, "digests"), text, names, tensors)
    record = from_plain(CheckpointRecord, parse_json(text, "metadata"), "metadata")
    if "digests" not in header:
        _check_agreement(record)
    return StoredTensors(tensors, record)


def is_checkpoint(path: Path) -> bool:
    """Whether a file was written by ``write_tensors``, of any version; tensors are not read."""
    return _can_be_read(path, "none")


def _can_be_read(path: Path, prefix: str = "") -> bool:
    try:
        _read(path, prefix)
    except ValueError:
        return False
    return True


@contextmanager
def damaged(path: Path) -> Iterator[None]:
    """Name the checkpoint and the remedy in errors of what it holds."""
    try:
        yield
    except ValueError as error:  # of settings too
        code, what = error.code if isinstance(error, InputError) else "", str(error)
        if code in ("other-format", "other-version"):
            raise
        if code not in ("no-checkpoint", "unreadable-file"):
            code, what = "damaged-checkpoint", f"{path} is damaged: {error}"
        remedy = intact_of_run(path) or (_ABSENT if code == "no-checkpoint" else _DAMAGED)
        raise InputError(f"{what}; {remedy}", code=code) from error


def intact_of_run(path: Path) -> str:
    """How to go on from an intact checkpoint of the same run; empty if there is none."""
    others = path.parent.glob("*.safetensors") if _OF_RUN.fullmatch(path.name) else ()
    names = sorted(p.name for p in others if p.name != path.name and _OF_RUN.fullmatch(p.name))
    intact = [name for name in names if _can_be_read(path.parent / name)]
    if not intact:
        return ""
    found = f"{', '.join(intact)} of this run can be read"
    if path.stem.startswith("step"):
        return f"{found}: use one of them"
    newest = str(path.parent / ("last.safetensors" if "last.safetensors" in intact else intact[-1]))
    if newest.endswith("best.safetensors"):
        start = shlex.quote(f"--training.start_from={newest}")
        return f"{found}, which has weights alone: start another run from them by {start}"
    return f"{found}: go on from there by `{shlex.join(['cp', newest, str(path)])}`"


class _DataRecord(TypedDict, total=False):
    """Settings of the data in the configuration of a training, which ``fields`` have too."""

    prognostic: list[str]
    diagnostic: list[str]
    forcings: list[str]
    timestep: str | None
    timestep_hours: int | None


def _check_agreement(record: Mapping[str, Any]) -> None:
    """Compare model and fields with the configuration of the training, as far as it states them."""
    settings = read_settings(record.get("config") or "", "config")
    data = from_plain(_DataRecord, settings.get("data") or {}, "config.data")
    own, theirs = record["fields"], dict[str, Any]()
    if data.get("timestep") or data.get("timestep_hours"):
        stated = {k: v for k, v in data.items() if k.startswith("timestep") and v}
        theirs["timestep"] = (Timestep.from_json(own).delta, Timestep.from_json(stated).delta)
    if "forcings" in data:
        theirs["forcings"] = (own.get("forcings"), data["forcings"])
    if "prognostic" in data:
        names = {channel.name for channel in Channels.from_json(own.get("channels"))}
        theirs["channels"] = (names, {parse_label(label)[0] for label in data["prognostic"]})
    if head := record.get("diagnostic"):  # it is trained behind the model of another configuration
        theirs["diagnostic"] = _in_common(head["config"], settings.get("diagnostic") or {})
        if "diagnostic" in data:
            names = {channel.name for channel in Channels.from_json(head["channels"])}
            stated = {parse_label(label)[0] for label in data["diagnostic"]}
            theirs["diagnostic.channels"] = names, stated
    else:
        theirs["model"] = _in_common(record["model"], settings.get("model") or {})
    for name, (here, there) in theirs.items():
        if here != there:
            message = f"{name} is {here} and in the configuration of its training {there}"
            raise InputError(message[:400], code="bad-record")


def _in_common(one: Any, other: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Two nested mappings with the keys that both have; others stay as they are."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return one, other
    pairs = {name: _in_common(one[name], other[name]) for name in one if name in other}
    own, theirs = ({name: pair[i] for name, pair in pairs.items()} for i in (0, 1))
    return own, theirs


class _Digests(TypedDict):
    metadata: str
    tensors: Mapping[str, str]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"no checkpoint at {path.absolute()}", code="no-checkpoint")
    try:
        with _open_unchanged(path) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is not a safetensors file ({error})", code="unreadable-file"
        ) from error


def _open_unchanged(path: Path) -> Any:  # noqa: ANN401
    """Open a file that a training may replace meanwhile, so that all of it is of one version.

    The library opens a path twice: its header, and torch its bytes.
    """
    while True:
        before = _version_of(path)
        try:
            file = safe_open(path, framework="pt")
        except RuntimeError as error:  # of torch, where the second one is shorter
            if _version_of(path) == before:
                raise OSError(str(error)) from error
            continue
        if _version_of(path) == before:
            return file


def _version_of(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _check_digests(
    digests: Mapping[str, Any], text: str, names: list[str], tensors: Mapping[str, Tensor]
) -> None:
    stated = digests["tensors"]
    if others := sorted({*names} ^ stated.keys()):
        kind = "lacks" if others[0] in stated else "was written without"
        raise InputError(f"it {kind} the tensor {others[0]}", code="bad-record")
    found = {"metadata": digest_of(text.encode())}
    expected = {"metadata": digests["metadata"]}
    for name, value in tensors.items():
        found[f"tensor {name}"], expected[f"tensor {name}"] = digest_of_tensor(value), stated[name]
    if changed := [name for name in found if found[name] != expected[name]]:
        some = ", ".join(changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        raise InputError(f"{some}{more} changed since it was written", code="bad-record")


def digest_of_tensor(value: Tensor) -> str:
    """Digest of type, shape and bytes of a contiguous tensor on the CPU."""
    meaning = f"{value.dtype} {tuple(value.shape)}".encode()
    # Strides of axes with one entry or none can be anything, also for contiguous tensors.
    flat = value.as_strided((value.numel(),), (1,))
    content = flat.view(torch.uint8).numpy()
    content.flags.writeable = False
    crc = google_crc32c.value(meaning)
    for start in range(0, len(content), _BLOCK_BYTES):  # between them other threads proceed
        crc = google_crc32c.extend(crc, content[start : start + _BLOCK_BYTES])
    return f"{crc:08x}"


def digest_of(text: bytes) -> str:
    """CRC-32C of bytes."""
    return f"{google_crc32c.value(text):08x}"
