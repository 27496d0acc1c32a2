"""Starting from a checkpoint: weights that match are taken over, the others are named."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster


@dataclass(frozen=True, kw_only=True)
class WeightMatch:
    """Which weights of a checkpoint suit a network.

    Args:
        tensors: Those that do, by name.
        missing: Names of the network's that the checkpoint lacks.
        unexpected: Names of the checkpoint's that the network lacks.
        different: What differs for names that both have.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    different: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for a person."""
        parts = [f"{len(self.tensors)} weights taken over"]
        for name in ("missing", "unexpected", "different"):
            if values := getattr(self, name):
                parts.append(f"{len(values)} {name}: {', '.join(values)}")
        return "; ".join(parts)


def match_weights(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> WeightMatch:
    """Compare weights by name and shape.

    Args:
        own: Of the network.
        given: Of a checkpoint.
    """
    both = [name for name in own if name in given]
    return WeightMatch(
        tensors={name: given[name] for name in both if own[name].shape == given[name].shape},
        missing=tuple(name for name in own if name not in given),
        unexpected=tuple(name for name in given if name not in own),
        different=tuple(
            f"{name} ({tuple(given[name].shape)} there, {tuple(own[name].shape)} here)"
            for name in both
            if own[name].shape != given[name].shape
        ),
    )


def start_from(forecaster: Forecaster, path: Path) -> WeightMatch:
    """Load the weights of a checkpoint's network that match; the others stay as they are.

    Statistics and static fields stay those of the forecaster's own data. Where channels, static
    fields, forcings, history or the kind of prediction differ, the first or the last layer does not
    match, whatever its shape.

    Args:
        forecaster: Changed in place.
        path: A checkpoint of this package.

    Returns:
        What was loaded and what was not.

    Raises:
        InputError: If nothing matches, or there is no checkpoint.
    """
    tensors, metadata = read_checkpoint(path, "forecaster")
    given = {name: t for name, t in tensors.items() if name.startswith("network.")}
    own = {f"network.{name}": t for name, t in forecaster.network.state_dict().items()}
    match = match_weights(own, given)
    theirs = _ends(FieldSpec.from_json(metadata["fields"]), metadata["model"])
    ours = _ends(forecaster.spec, asdict(forecaster.config))
    for layer in ours:
        prefix = f"network.{layer}."
        if theirs[layer] != ours[layer] or any(n.startswith(prefix) for n in match.different):
            match = _without(match, prefix)
    if not match.tensors:
        raise InputError(
            f"no weight of {path} suits this network ({match}); give a checkpoint of the same "
            "model.network"
        )
    with torch.no_grad():
        for name, tensor in match.tensors.items():
            own[name].copy_(tensor)
    return match


def _ends(spec: FieldSpec, model: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What the numbers that the first layer takes and the last one gives stand for."""
    inputs = [spec.static_channels.labels, list(spec.forcings), model["num_history"]]
    coordinates = model["coordinates"] and spec.grid.attrs.get("periodic", "on the sphere")
    return {
        "patch_embed": [spec.channels.labels, *inputs, coordinates],
        "patch_recovery": [spec.channels.labels, model["prediction"]],
    }


def _without(match: WeightMatch, prefix: str) -> WeightMatch:
    kept = {name: t for name, t in match.tensors.items() if not name.startswith(prefix)}
    dropped = (f"{n} (of another layer)" for n in match.tensors if n not in kept)
    return replace(match, tensors=kept, different=(*match.different, *dropped))
