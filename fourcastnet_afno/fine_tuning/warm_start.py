"""Warm start from a checkpoint: weights that match are loaded, the others are named."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_pipeline.errors import InputError
from fourcastnet_afno.fine_tuning.end_layers import (
    FIRST_LAYER,
    LAST_LAYER,
    ChannelMoments,
    EndLayers,
    Placement,
    place_weights,
)
from fourcastnet_afno.forecaster.checkpoint import add_prefix, read_checkpoint
from fourcastnet_afno.forecaster.checkpoint_file import damaged
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.config_text import parse_config
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.forecaster.weight_checks import moments_in, require_alike

_NOISE_LAYER = "network.noise_embed"


@dataclass(frozen=True, kw_only=True)
class WeightMatch:
    """Comparison of the weights of a checkpoint with those of a network, by name.

    The checkpoint lacks the ``missing``, the network the ``unexpected``; ``different`` names
    weights that both have, and their differences. ``added`` names inputs and outputs that the
    network has in addition, ``lost`` those of the checkpoint that it has not.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    def has_other(self, layer: str) -> bool:
        """Whether a weight of a layer is different."""
        return any(name.startswith(f"{layer}.") for name in self.different)

    def without(self, layer: str) -> "WeightMatch":
        """The comparison where the weights of a layer have another meaning."""
        kept = {n: t for n, t in self.tensors.items() if not n.startswith(f"{layer}.")}
        dropped = (f"{name} (of another layer)" for name in self.tensors if name not in kept)
        return replace(self, tensors=kept, different=(*self.different, *dropped))

    def __str__(self) -> str:
        parts = [f"{len(self.tensors)} weights taken over"]
        for name in ("missing", "unexpected", "different", "added", "lost"):
            if values := getattr(self, name):
                parts.append(f"{len(values)} {name}: {', '.join(values)}")
        return "; ".join(parts)


def match_weights(network: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> WeightMatch:
    """Compare the weights of a network and those of a checkpoint by name and shape."""
    tensors, different = {}, []
    for name in [name for name in network if name in saved]:
        there, here = tuple(saved[name].shape), tuple(network[name].shape)
        if there == here:
            tensors[name] = saved[name]
        else:
            different.append(f"{name} ({there} there, {here} here)")
    return WeightMatch(
        tensors=tensors,
        missing=tuple(name for name in network if name not in saved),
        unexpected=tuple(name for name in saved if name not in network),
        different=tuple(different),
    )


def start_from(forecaster: Forecaster, path: Path, *, folded: bool = False) -> WeightMatch:
    """Load the weights of a checkpoint's network that match; the others stay as they are.

    Statistics and static fields stay those of the forecaster's own data. Weights of the first and
    the last layer go to the inputs and outputs of the same name, see ``end_layers``; where they
    have none in common, or patches or the kind of prediction differ, the layer does not match.

    Args:
        forecaster: The new forecaster.
        path: The checkpoint.
        folded: Whether the end layers are changed so that they compute the same in physical units,
            whatever the statistics.

    Returns:
        The comparison; its tensors were loaded.

    Raises:
        InputError: If nothing matches, or there is no checkpoint, or a damaged one.
    """
    tensors, metadata = read_checkpoint(path, "forecaster")
    saved = {name: t for name, t in tensors.items() if name.startswith("network.")}
    weights = add_prefix("network", forecaster.network.state_dict())
    placed = dict[str, Placement | None]()
    with damaged(path):
        theirs, ours = _end_layers_in(tensors, metadata), end_layers_of(forecaster)
        for layer in (FIRST_LAYER, LAST_LAYER):
            placed[layer] = placement = place_weights(layer, saved, theirs, ours, folded=folded)
            saved |= {} if placement is None else placement.tensors
        match = match_weights(weights, saved)
        for name, tensor in match.tensors.items():
            require_alike(weights[name], tensor, f"forecaster.{name}")
    for layer, placement in placed.items():
        if placement is None or match.has_other(layer):
            match = match.without(layer)
        else:
            added, lost = (*match.added, *placement.added), (*match.lost, *placement.lost)
            match = replace(match, added=added, lost=lost)
    noises = [(n.length_scales, n.channels) for n in (theirs.config.noise, ours.config.noise)]
    if noises[0] != noises[1] or match.has_other(_NOISE_LAYER):
        match = match.without(_NOISE_LAYER)
    if not match.tensors:
        raise InputError(
            f"no weight of {path} suits this network ({match}); give a checkpoint of the same "
            "model.network",
            code="no-matching-weights",
        )
    with torch.no_grad():
        for name, tensor in match.tensors.items():
            weights[name].copy_(tensor)
    return match


def end_layers_of(forecaster: Forecaster) -> EndLayers:
    """Meaning of the first and the last layer of a forecaster."""
    scales = forecaster.scales
    moments = ChannelMoments(*(moment.flatten() for moment in scales[:3]))
    return EndLayers(spec=forecaster.spec, config=forecaster.config, moments=moments)


def _end_layers_in(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> EndLayers:
    """Meaning of the first and the last layer of a checkpoint."""
    spec = FieldSpec.from_json(metadata["fields"])
    config = parse_config(ModelConfig, metadata["model"])
    moments = ChannelMoments(**moments_in(tensors, "forecaster", spec.channels))
    return EndLayers(spec=spec, config=config, moments=moments)
