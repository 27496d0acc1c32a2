"""Fields as compressed integers."""

import base64
import zlib

import numpy as np
import pytest

from fourcastnet_afno.report.explorer.packed import LEVELS, NO_VALUE, deflate, pack
from tests.builders.embedded_pages import unpacked


def test_values_come_back_to_half_a_quantum() -> None:
    fields = np.random.default_rng(0).normal(280, 20, (3, 4, 5))
    packed = pack(fields)
    assert packed.quantum == pytest.approx(np.ptp(fields) / (LEVELS - 1))
    restored = packed.low + packed.quantum * unpacked(packed.text, fields.shape)
    assert np.abs(restored - fields).max() <= packed.quantum / 2 * (1 + 1e-9)


def test_what_is_not_finite_is_missing() -> None:
    fields = np.array([[[0.0, np.nan, 4094.0], [np.inf, 1.0, 2.0]]])
    expected = [[[0, NO_VALUE, 4094], [NO_VALUE, 1, 2]]]
    packed = pack(fields)
    assert (packed.low, packed.quantum) == (0.0, 1.0)
    np.testing.assert_array_equal(unpacked(packed.text, fields.shape), expected)
    nothing = pack(np.full((1, 2, 2), np.nan))
    assert (unpacked(nothing.text, (1, 2, 2)) == NO_VALUE).all()


def test_constant_fields_take_no_room() -> None:
    packed = pack(np.full((40, 32, 64), 7.5))
    assert (packed.low, packed.quantum) == (7.5, 0)
    assert (unpacked(packed.text, (40, 32, 64)) == 0).all()
    assert len(packed.text) < 500


def test_text_is_deflated() -> None:
    text = "ä" * 1000
    assert zlib.decompress(base64.b64decode(deflate(text))).decode() == text
