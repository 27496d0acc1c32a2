"""The baseline of the benchmarks computes the same, or the comparison means nothing."""

import pytest
import torch

from benchmarks.fourcastnet import FourCastNetFilter
from fourcastnet_afno.models.mixers import AFNO


@pytest.mark.parametrize("shape", [(6, 10), (9, 18), (8, 8)])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_baseline_equals_the_mixer_in_value_and_gradient(
    shape: tuple[int, int], fraction: float
) -> None:
    torch.manual_seed(0)
    mixer = AFNO(12, 3, hard_thresholding_fraction=fraction, mode_selection="fourcastnet")
    tokens = torch.randn(2, *shape, 12)
    torch.testing.assert_close(FourCastNetFilter(mixer)(tokens), mixer(tokens))
    gradients = []
    for module in (mixer, FourCastNetFilter(mixer)):
        loss = module(tokens).square().sum()
        gradients.append(torch.autograd.grad(loss, list(mixer.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
