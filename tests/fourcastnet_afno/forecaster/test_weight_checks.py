"""Tensors of files that do not fit, by name."""

import pytest
import torch
from torch import Tensor

from data_pipeline.channels import Channel, Channels
from fourcastnet_afno.forecaster.weight_checks import (
    moments_in,
    require_alike,
    require_depth,
    require_fit,
)
from fourcastnet_afno.models.config import AFNONetConfig
from tests.builders.errors import rejects

CHANNELS = Channels((Channel(name="geopotential", level=500), Channel(name="2m_temperature")))


def make_moments(**changes: list[float]) -> dict[str, Tensor]:
    """Moments of both channels as checkpoints have them."""
    values = {"mean": [0.0, 1.0], "std": [1.0, 2.0], "diff_std": [0.0, 0.5], **changes}
    names = {"mean": "normalizer.mean", "std": "normalizer.std", "diff_std": "diff_std"}
    return {names[key]: torch.tensor(v)[:, None, None] for key, v in values.items()}


@pytest.mark.parametrize(
    "value",
    [
        torch.ones(3),
        torch.ones(2, dtype=torch.int8),
        torch.ones(2, dtype=torch.complex64),
        torch.tensor([1.0, torch.nan]),
        torch.tensor([1.0, -torch.inf]),
        torch.tensor([1.0, 1e300], dtype=torch.float64),
    ],
)
def test_shapes_types_and_values_are_checked(value: Tensor) -> None:
    with rejects("bad-record", "x.weight"):
        require_alike(torch.zeros(2), value, "x.weight")


def test_huge_numbers_and_other_precisions_are_finite() -> None:
    require_alike(torch.zeros(2), torch.full((2,), 3e38), "x.weight")
    require_alike(torch.zeros(2, device="meta"), torch.ones(2).bfloat16(), "x.weight")
    require_alike(torch.zeros(2), torch.tensor([1.0, torch.nan]), "x.filled")
    with rejects("bad-record", "x.filled"):
        require_alike(torch.zeros(2), torch.tensor([torch.inf, torch.nan]), "x.filled")


def test_all_tensors_of_the_model_and_no_others() -> None:
    weights = {"a": torch.zeros(2), "b": torch.zeros(1)}
    require_fit(weights, dict(weights), "x")
    with rejects("bad-record", "lacks", "x.b"):
        require_fit(weights, {"a": weights["a"]}, "x")
    with rejects("bad-record", "x.c"):
        require_fit(weights, weights | {"c": weights["a"]}, "x")


def test_the_depth_is_known_before_a_network_is_built() -> None:
    stored = {f"network.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(3)}
    require_depth(AFNONetConfig(depth=3), stored, "x")
    with rejects("bad-record", "x.network.blocks", "10000"):
        require_depth(AFNONetConfig(depth=10_000), stored, "x")


def test_moments_come_by_channel() -> None:
    moments = moments_in(make_moments(), "forecaster", CHANNELS)
    assert {name: values.tolist() for name, values in moments.items()} == {
        "mean": [0.0, 1.0],
        "std": [1.0, 2.0],
        "diff_std": [0.0, 0.5],
    }
    assert moments_in(make_moments(), "diagnostic", CHANNELS).keys() == {"mean", "std"}


@pytest.mark.parametrize(
    ("name", "values"),
    [("std", [1.0, 0.0]), ("std", [1.0, -1.0]), ("diff_std", [1.0, -1.0])],
)
def test_a_scale_that_is_none_names_its_channel(name: str, values: list[float]) -> None:
    with rejects("bad-record", f"forecaster.{'normalizer.' * (name == 'std')}{name}", "2m_temp"):
        moments_in(make_moments(**{name: values}), "forecaster", CHANNELS)


def test_moments_that_are_missing_are_named() -> None:
    stored = make_moments()
    del stored["normalizer.std"]
    with rejects("bad-record", "forecaster.normalizer.std"):
        moments_in(stored, "forecaster", CHANNELS)
