"""Statistics of a checkpoint in place of those of new data."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.checkpoint_file import damaged
from fourcastnet_afno.forecaster.forecaster import FieldSpec
from fourcastnet_afno.forecaster.weight_checks import moments_in, tensor_in


def kept_statistics(own: Mapping[str, Tensor], spec: FieldSpec, path: Path) -> dict[str, Tensor]:
    """Statistics of a checkpoint for the channels that it has, and the data's own for new ones.

    Args:
        own: ``mean``, ``std`` and ``diff_std`` of the data by channel, each of shape (channel,), in
            the channels' units; with ``mean_state`` (channel, lat, lon) where a model needs it.
        spec: Meaning of the axes.
        path: The checkpoint.

    Raises:
        InputError: If there is no checkpoint, or a damaged one, or its mean state is that of
            another grid.
    """
    tensors, metadata = read_checkpoint(path, "forecaster")
    with damaged(path):
        theirs = FieldSpec.from_json(metadata["fields"])
        known: dict[str, Tensor] = dict(moments_in(tensors, "forecaster", theirs.channels))
        if "mean_state" in own and "mean_state" in tensors:
            shape = len(theirs.channels), *theirs.grid.shape
            known["mean_state"] = tensor_in(tensors, "mean_state", "forecaster", shape)
    if "mean_state" in known and not theirs.grid.is_same(spec.grid):
        raise InputError(
            f"training.statistics=kept needs the grid of {path} for its mean state, {theirs.grid}, "
            f"got {spec.grid}; use training.statistics=folded",
            code="grid-mismatch",
        )
    labels = theirs.channels.labels
    indices = [labels.index(label) if label in labels else None for label in spec.channels.labels]
    return {
        name: torch.stack(
            [
                values[position] if index is None or name not in known else known[name][index]
                for position, index in enumerate(indices)
            ]
        )
        for name, values in own.items()
    }
