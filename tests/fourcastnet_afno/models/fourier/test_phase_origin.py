import numpy as np
import torch
from torch import Tensor, nn

from fourcastnet_afno.models.fourier.phase_origin import (
    PhaseShifted,
    shift_phase_origin,
    translated,
)
from fourcastnet_afno.models.mixers import AFNO


def test_translations_of_waves_are_exact() -> None:
    angles = [2 * np.pi * np.arange(n) / n for n in (9, 12)]

    def tokens(down: float, right: float) -> Tensor:
        y, x = angles[0] - 2 * np.pi * down / 9, angles[1] - 2 * np.pi * right / 12
        return torch.from_numpy(np.add.outer(np.cos(2 * y), np.sin(3 * x)))[None, ..., None]

    torch.testing.assert_close(translated(tokens(0, 0), (0.3, -1.7)), tokens(0.3, -1.7))


def test_shifted_mixers_are_translations_around_the_mixer() -> None:
    """A shift by full tokens is a turn of the grid; without a shift the mixer stays as it is."""
    torch.manual_seed(0)
    mixer, tokens = AFNO(8, 2), torch.randn(2, 6, 7, 8)
    assert shift_phase_origin(mixer, (0.0, 0.0)) is mixer
    other = nn.Identity()
    assert shift_phase_origin(other, (1.0, 0.0)) is other
    shifted = shift_phase_origin(mixer, (1.0, 2.0))
    assert isinstance(shifted, PhaseShifted)
    expected = mixer(tokens.roll((1, 2), (1, 2))).roll((-1, -2), (1, 2))
    torch.testing.assert_close(shifted(tokens), expected, atol=1e-5, rtol=1e-4)
