"""The digest of an array depends on its values, not on how memory holds them."""

import numpy as np

from data_pipeline.store.format import checksum


def test_a_digest_depends_on_values_alone() -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    assert len(checksum(values)) == 16
    assert checksum(values) == checksum(np.asfortranarray(values))
    assert checksum(values) == checksum(np.repeat(values, 2, axis=1)[:, ::2])
    changed = values.copy()
    changed[1, 2, 3] = np.nextafter(changed[1, 2, 3], 0)
    assert checksum(changed) != checksum(values)
