"""Sizes of networks before their weights are allocated."""

from typing import Any, Literal

import pytest

from data_pipeline import memory
from fourcastnet_afno.forecaster.network_size import check_network_size, count_weights
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from tests.builders.errors import rejects

SHAPE = 12, 24
MixerName = Literal["afno", "fno", "global_filter", "attention"]


@pytest.mark.parametrize("mixer", ["afno", "attention", "fno", "global_filter"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_blocks": 2, "mlp_ratio": 2.5, "patch_size": (2, 3)},
        {"hidden_size_factor": 3, "position_grid": (3, 6), "hard_thresholding_fraction": 0.5},
    ],
)
def test_weights_are_counted_before_they_exist(mixer: MixerName, settings: dict[str, Any]) -> None:
    settings = {"embed_dim": 64, "depth": 2, "num_blocks": 4, **settings}
    config = AFNONetConfig(mixer=mixer, reference_grid=(6, 12), **settings)
    network = AFNONet(5, 3, config=config)
    number = sum(parameter.numel() for parameter in network.parameters())
    assert 0.85 * number < count_weights(config, 5, 3) <= 1.15 * number


@pytest.mark.parametrize(
    "settings",
    [{"embed_dim": 65_536}, {"depth": 10_000, "embed_dim": 8192}, {"mixer": "fno", "depth": 400}],
)
def test_a_network_that_does_not_fit_is_named(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = AFNONetConfig(reference_grid=(180, 360), **settings)
    named = f"embed_dim={config.embed_dim}", f"depth={config.depth}", "GiB", "model.network"
    monkeypatch.setattr(memory, "memory_limit", lambda: 200 * 2**30)
    with rejects("too-little-memory", *named):
        check_network_size(config, 70, 70, (720, 1440), "model.network")


@pytest.mark.parametrize(
    ("settings", "axis"),
    [
        ({"patch_size": (36, 4)}, "latitude"),
        ({"patch_size": (4, 100)}, "longitude"),
        ({"padding": Padding(margin=(12, 0))}, "latitude"),
    ],
)
def test_patches_and_margins_that_a_grid_is_too_small_for_are_named(
    settings: dict[str, Any], axis: str
) -> None:
    named = "model.network.patch_size", f"padding.{axis}", "zero"
    with rejects("grid-mismatch", *named):
        check_network_size(AFNONetConfig(**settings), 2, 2, SHAPE, "model.network")


def test_patches_larger_than_a_grid_may_be_padded_by_zeros() -> None:
    padding = Padding(latitude="zero", longitude="zero")
    config = AFNONetConfig(patch_size=(30, 30), padding=padding)
    check_network_size(config, 2, 2, SHAPE, "model.network")
