"""He's initialization keeps the size of Fourier coefficients, whatever the width of the blocks."""

import pytest
import torch

from fourcastnet_afno.models.afno import AFNOBlock, AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.models.mixers import AFNO


@pytest.mark.parametrize(("num_blocks", "factor"), [(1, 1), (8, 1), (32, 1), (8, 4)])
def test_he_keeps_the_mean_square_of_coefficients(num_blocks: int, factor: int) -> None:
    torch.manual_seed(0)
    mixer = AFNO(
        128,
        num_blocks,
        sparsity_threshold=0.0,
        hidden_size_factor=factor,
        reference_grid=(32, 32),
    )
    tokens = torch.randn(8, 32, 32, 128)
    change = mixer(tokens) - tokens
    assert change.square().mean().item() == pytest.approx(1, rel=0.2)


def test_small_weights_have_the_deviation_of_fourcastnet() -> None:
    torch.manual_seed(0)
    mixer = AFNO(256, 4, initialization="small")
    for weight in (mixer.weight1, mixer.weight2):
        assert weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_a_network_initializes_its_mixers_as_configured() -> None:
    torch.manual_seed(0)
    config = AFNONetConfig(embed_dim=64, depth=2, num_blocks=4)
    for block in AFNONet(1, 1, config=config).blocks:
        assert isinstance(block, AFNOBlock)
        assert isinstance(block.mixer, AFNO)
        assert block.mixer.weight1.std().item() == pytest.approx(16**-0.5, rel=0.05)
        assert block.mixer.weight2.std().item() == pytest.approx(32**-0.5, rel=0.05)
