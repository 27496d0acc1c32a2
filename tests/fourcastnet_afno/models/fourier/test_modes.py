"""Which modes hard thresholding keeps."""

import itertools

import numpy as np
import torch
from hypothesis import given, settings

from fourcastnet_afno.models.fourier.modes import (
    analyze,
    kept_modes,
    signed_wavenumbers,
    synthesize,
)
from tests.fourcastnet_afno.models.test_mixers import FRACTIONS, SIZES, every_mode, is_kept


@given(height=SIZES, width=SIZES, fraction=FRACTIONS)
@settings(max_examples=60)
def test_kept_modes_are_the_lowest_wavenumbers(height: int, width: int, fraction: float) -> None:
    shape = (height, width)
    kept = set(itertools.product(*(axis.tolist() for axis in kept_modes(shape, fraction))))
    assert kept == {mode for mode in every_mode(shape) if is_kept(mode, shape, fraction)}


def test_fraction_one_keeps_all_and_zero_keeps_the_mean() -> None:
    assert [len(axis) for axis in kept_modes((45, 90), 1.0)] == [45, 46]
    assert [axis.tolist() for axis in kept_modes((45, 90), 0.0)] == [[0], [0]]


def test_a_reference_grid_names_absolute_wavenumbers() -> None:
    rows, columns = kept_modes((64, 128), 0.5, reference=(8, 16))
    assert rows.tolist() == [0, 1, 2, 62, 63]
    assert columns.tolist() == [0, 1, 2, 3, 4]
    assert [len(axis) for axis in kept_modes((4, 6), 1.0, reference=(8, 16))] == [4, 4]


def test_synthesis_inverts_analysis_on_kept_modes() -> None:
    tokens = torch.randn(2, 6, 7, 3, dtype=torch.float64)
    kept = [torch.from_numpy(indices) for indices in kept_modes((6, 7), 0.5)]
    filtered = synthesize(analyze(tokens, kept), kept, (6, 7))
    torch.testing.assert_close(analyze(filtered, kept), analyze(tokens, kept))
    every = [torch.from_numpy(indices) for indices in kept_modes((6, 7), 1.0)]
    torch.testing.assert_close(synthesize(analyze(tokens, every), every, (6, 7)), tokens)


def test_signed_wavenumbers_by_hand() -> None:
    assert signed_wavenumbers(np.arange(5), 5).tolist() == [0, 1, 2, -2, -1]
    assert signed_wavenumbers(np.arange(4), 4).tolist() == [0, 1, 2, -1]
