"""First and last layer of a network by the names of their inputs and outputs.

Their weights have a place for each input and output. Those of a checkpoint go to the places of the
same name, whatever the order; new inputs and outputs have weights of zero. So the first forecast of
the channels that the checkpoint knows is that of the checkpoint, and a new channel persists (or is
its mean, with ``prediction: direct``) until it is trained.

The checkpoint's network takes and gives values in units of the checkpoint's statistics: with input
(x - m) / s, and change d' y of ``residual`` or next state m' + s' y of ``direct``. For a network in
units of other statistics (M, S, D) the same function has the weights (``folded``)

    W S / s,          b + W (M - m) / s                      of each input,
    W d / D, b d / D  or  W s / S, (b s + m - M) / S         of each output.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.errors import InputError
from fourcastnet_afno.forecaster.config import ModelConfig
from fourcastnet_afno.forecaster.forecaster import FieldSpec

FIRST_LAYER, LAST_LAYER = "network.patch_embed", "network.patch_recovery"


class ChannelMoments(NamedTuple):
    """Moments by channel, each of shape (channel,), in the channels' units."""

    mean: Tensor
    std: Tensor
    diff_std: Tensor


class Place(NamedTuple):
    """An input or output: its name, and the index of its channel if it is a prognostic one."""

    name: str
    channel: int | None = None


@dataclass(frozen=True, kw_only=True)
class EndLayers:
    """Meaning of the first and the last layer of a network.

    Args:
        spec: Meaning of the axes of its fields.
        config: What goes in and comes out.
        moments: Statistics in whose units.
    """

    spec: FieldSpec
    config: ModelConfig
    moments: ChannelMoments

    @property
    def inputs(self) -> list[Place]:
        """Inputs of the first layer, in order."""
        spec, labels = self.spec, self.spec.channels.labels
        places = []
        for age in reversed(range(self.config.num_history)):
            before = f", {age} steps before" if age else ""
            places += [Place(f"{label}{before}", index) for index, label in enumerate(labels)]
        places += [Place(name) for name in (*spec.forcings, *spec.static_channels.labels)]
        if self.config.coordinates:
            kind = spec.grid.attrs.get("periodic", "on the sphere")
            count = spec.grid.num_coordinate_channels
            places += [Place(f"coordinate {index} ({kind})") for index in range(count)]
        return places

    @property
    def outputs(self) -> list[Place]:
        """Outputs of the last layer, in order."""
        of = "change of " if self.config.prediction == "residual" else ""
        labels = self.spec.channels.labels
        return [Place(f"{of}{label}", index) for index, label in enumerate(labels)]

    def places(self, layer: str) -> list[Place]:
        """Inputs of the first layer, or outputs of the last one."""
        return self.inputs if layer == FIRST_LAYER else self.outputs

    @property
    def patch_size(self) -> tuple[int, int]:
        """Rows and columns of a patch."""
        return self.config.network.patch_size


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Weights of an end layer in their new places.

    Args:
        tensors: Weight and bias by name.
        added: Names of new inputs or outputs, whose weights are zero.
        lost: Names of those of the checkpoint that have no place.
    """

    tensors: Mapping[str, Tensor]
    added: tuple[str, ...]
    lost: tuple[str, ...]


def place_weights(
    layer: str, saved: Mapping[str, Tensor], theirs: EndLayers, ours: EndLayers, *, folded: bool
) -> Placement | None:
    """Weights of an end layer of a checkpoint for a network of other inputs and outputs.

    With ``folded`` the layer computes the same in units of the other statistics.

    Returns:
        The weights; None where patches differ, or no channel is the same.

    Raises:
        InputError: If weights of the checkpoint are not those of its fields.
    """
    old, new = (ends.places(layer) for ends in (theirs, ours))
    known = {place.name: index for index, place in enumerate(old)}
    names = {place.name: place.channel for place in new}
    in_common = [name for name in known if names.get(name) is not None]
    names_of_tensors = [f"{layer}.projection.{kind}" for kind in ("weight", "bias")]
    if theirs.patch_size != ours.patch_size or not in_common or names_of_tensors[0] not in saved:
        return None
    weight, bias = (saved[name].double() for name in names_of_tensors)
    _check_size(weight, bias, layer, len(old) * math.prod(theirs.patch_size))
    scale, offset = change_of_units(layer, old, theirs, ours if folded else theirs)
    sources = [known.get(place.name) for place in new]
    if layer == FIRST_LAYER:
        parts = weight.unflatten(1, (len(old), -1))
        bias = bias + (parts * offset[:, None]).sum(dim=(1, 2))
        weight = _moved((parts * scale[:, None]).movedim(1, 0), sources).movedim(0, 1).flatten(1)
    else:
        weight, bias = (each.unflatten(0, (len(old), -1)) for each in (weight, bias))
        weight = _moved(weight * scale[:, None, None], sources).flatten(0, 1)
        bias = _moved(bias * scale[:, None] + offset[:, None], sources).flatten()
    return Placement(
        tensors=dict(zip(names_of_tensors, (weight.float(), bias.float()), strict=True)),
        added=tuple(name for name in names if name not in known),
        lost=tuple(name for name in known if name not in names),
    )


def change_of_units(
    layer: str, places: Sequence[Place], theirs: EndLayers, ours: EndLayers
) -> tuple[Float[Tensor, " place"], Float[Tensor, " place"]]:
    """Factor and offset of the values at the places of a layer, from their units to ours.

    Of inputs those from ours to theirs; of outputs those from theirs to ours.
    """
    scale, offset = torch.ones(len(places)).double(), torch.zeros(len(places)).double()
    labels = ours.spec.channels.labels
    for index, place in enumerate(places):
        label = None if place.channel is None else theirs.spec.channels.labels[place.channel]
        if label not in labels:
            continue
        of_channel = place.channel, labels.index(label)
        old, new = (
            ChannelMoments(*(moment[at].double() for moment in end.moments))
            for end, at in zip((theirs, ours), of_channel, strict=True)
        )
        if layer == FIRST_LAYER:
            scale[index], offset[index] = new.std / old.std, (new.mean - old.mean) / old.std
        elif ours.config.prediction == "direct":
            scale[index], offset[index] = old.std / new.std, (old.mean - new.mean) / new.std
        elif new.diff_std > 0:  # others keep their values
            scale[index] = old.diff_std / new.diff_std
    return scale, offset


def _check_size(weight: Tensor, bias: Tensor, layer: str, size: int) -> None:
    axis = 1 if layer == FIRST_LAYER else 0
    if weight.ndim != 2 or weight.shape[axis] != size or bias.shape != weight.shape[:1]:
        raise InputError(
            f"the tensors {layer}.projection have shapes {tuple(weight.shape)} and "
            f"{tuple(bias.shape)}, its fields need {size} numbers",
            code="bad-record",
        )


def _moved(parts: Tensor, sources: Sequence[int | None]) -> Tensor:
    """The parts with these indices along the first axis; zeros for None."""
    result = parts.new_zeros(len(sources), *parts.shape[1:])
    for target, source in enumerate(sources):
        if source is not None:
            result[target] = parts[source]
    return result
