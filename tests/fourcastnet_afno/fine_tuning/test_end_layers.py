from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from fourcastnet_afno.fine_tuning.end_layers import (
    FIRST_LAYER,
    LAST_LAYER,
    change_of_units,
    place_weights,
)
from fourcastnet_afno.fine_tuning.warm_start import end_layers_of
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster


def test_inputs_and_outputs_by_name() -> None:
    ends = end_layers_of(make_forecaster(num_history=2))
    labels = ["geopotential_500", "2m_temperature"]
    inputs = [place.name for place in ends.inputs]
    before = [f"{label}, 1 steps before" for label in labels]
    assert inputs[:5] == [*before, *labels, "day_of_year_sin"]
    assert all(name.startswith("coordinate") for name in inputs[5:])
    assert [place.name for place in ends.outputs] == [f"change of {label}" for label in labels]
    direct = end_layers_of(make_forecaster(prediction="direct"))
    assert [place.name for place in direct.outputs] == labels


def test_units_by_hand() -> None:
    theirs = end_layers_of(make_forecaster())
    moments = theirs.moments
    other = moments._replace(
        mean=moments.mean + moments.std, std=2 * moments.std, diff_std=4 * moments.diff_std
    )
    ours = replace(theirs, moments=other)
    scale, offset = change_of_units(FIRST_LAYER, theirs.inputs[:3], theirs, ours)
    assert (scale.tolist(), offset.tolist()) == ([2, 2, 1], [1, 1, 0])  # a forcing has its own
    scale, offset = change_of_units(LAST_LAYER, theirs.outputs, theirs, ours)
    assert (scale.tolist(), offset.tolist()) == ([0.25, 0.25], [0, 0])


def test_weights_of_other_fields_are_rejected() -> None:
    forecaster = make_forecaster()
    ends = end_layers_of(forecaster)
    saved: Mapping[str, Tensor] = {
        f"{FIRST_LAYER}.projection.weight": torch.zeros(8, 7),
        f"{FIRST_LAYER}.projection.bias": torch.zeros(8),
    }
    with rejects("bad-record", f"{FIRST_LAYER}.projection", "(8, 7)"):
        place_weights(FIRST_LAYER, saved, ends, ends, folded=False)
