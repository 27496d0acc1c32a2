"""Checkpoints as folders that others load: weights, their digest and a model card.

    save_pretrained("runs/era5/checkpoints/best.safetensors", "published/NAME")
    load_forecaster("published/NAME")

The folder is complete for ``load_forecaster``, for the command line and for
``Earth2StudioForecaster.from_pretrained``, from a disk, any web server, a bucket, or a model hub to
which it is uploaded (`hf upload ORG/NAME published/NAME`).
"""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError, TransferError
from data_pipeline.files.atomic import make_folder, replacing, write_text
from data_pipeline.files.outputs import Output, check_outputs, read_json
from data_pipeline.redaction import redacted
from data_pipeline.sources.files import missing_packages
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, read_checkpoint
from fourcastnet_afno.forecaster.checkpoint_file import is_checkpoint, write_tensors
from fourcastnet_afno.interop.model_card import model_card
from fourcastnet_afno.published import (
    CARD,
    DESCRIPTION,
    WEIGHTS,
    content_of,
    is_url,
    local_checkpoint,
)

_LIBRARY = "fourcastnet-afno"
_PUBLISHED = ("forecaster.", "diagnostic.")
_RECORD = ("model", "fields", "config", "fingerprint", "position", "diagnostic", "versions")


def save_pretrained(
    checkpoint: Path | str, destination: Path | str, *, scores: Path | None = None
) -> None:
    """Write a folder with the forecaster of a checkpoint, and the diagnostic head if it has one.

    What only a run needs to resume is left out. The description is written last, so that nobody
    loads a part.

    Args:
        checkpoint: File or URL.
        destination: Folder, or a URL that fsspec can write, such as ``s3://BUCKET/NAME``. A folder
            that was written by this function is replaced.
        scores: ``scores.json`` of its forecasts, for the model card.

    Raises:
        InputError: If the checkpoint is damaged, or the folder holds other files of these names.
    """
    path = local_checkpoint(checkpoint, read_checkpoint)
    forecaster = load_forecaster(path)
    tensors, metadata = read_checkpoint(path)
    head = metadata.get("diagnostic")
    channels = Channels.from_json(head["channels"]) if head else Channels(())
    found = None if scores is None else _read_scores(scores)
    name = Path(str(destination).rstrip("/")).name
    card = model_card(name, forecaster, metadata, channels, found)
    kept = {n: value for n, value in tensors.items() if n.startswith(_PUBLISHED)}
    record = {n: metadata[n] for n in _RECORD if n in metadata}

    def write(folder: Path) -> None:
        with replacing(folder / WEIGHTS) as temporary:
            write_tensors(temporary, kept, record)
        write_text(folder / CARD, card)
        content = content_of(folder / WEIGHTS)
        description = {
            "library_name": _LIBRARY,
            "checkpoint": {"file": WEIGHTS, "sha256": content.sha256, "size": content.size},
            "model": record["model"],
            "fields": record["fields"],
        }
        write_text(folder / DESCRIPTION, json.dumps(description, indent=1) + "\n")

    if is_url(destination):
        with TemporaryDirectory() as folder:
            write(Path(folder))
            _upload(Path(folder), str(destination).rstrip("/"))
        return
    folder = Path(destination)
    inputs = {"the checkpoint": [path], "scores": [scores] if scores else []}
    check_outputs(_outputs(folder), inputs)
    make_folder(folder)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    write(folder)


def _outputs(folder: Path) -> list[Output]:
    """The files of a published folder, of which all are ours where the description is."""

    def is_described(path: Path) -> bool:
        return read_json(folder / DESCRIPTION).get("library_name") == _LIBRARY

    def is_card(path: Path) -> bool:
        return f"library_name: {_LIBRARY}\n" in path.read_text()

    return [
        Output(folder / WEIGHTS, "weights", is_checkpoint, is_certain=True),
        Output(folder / DESCRIPTION, "the description of weights", is_described, is_certain=True),
        Output(folder / CARD, "a model card", is_card, is_certain=True),
    ]


def _read_scores(path: Path) -> Mapping[str, Any]:
    try:
        scores = read_json(path)
    except OSError as error:
        message = f"no scores at {path} ({error.strerror}); run `fourcastnet-afno evaluate`"
        raise InputError(message, code="missing-file") from error
    if "forecasts" not in scores:
        raise InputError(
            f"{path} holds no scores, expected the scores.json of `evaluate` or `score`",
            code="unreadable-file",
        )
    return scores


def _upload(folder: Path, url: str) -> None:
    """Copy the files of a folder to a URL, the description last."""
    if url.startswith(("hf://", "http://", "https://")):
        raise InputError(
            f"{redacted(url)} cannot be written to; write a folder and upload it, for the hub with "
            "`hf upload ORG/NAME FOLDER`",
            code="bad-setting",
        )
    try:
        import fsspec

        files, place = fsspec.url_to_fs(url)
        files.makedirs(place, exist_ok=True)
        for name in (WEIGHTS, CARD, DESCRIPTION):
            files.put_file(str(folder / name), f"{place}/{name}")
    except ImportError as error:
        raise missing_packages(redacted(url), error) from error
    except (OSError, ValueError) as error:
        raise TransferError(
            f"cannot write {redacted(url)}: {error}; check the URL and its credentials",
            code="transfer-failed",
        ) from error
