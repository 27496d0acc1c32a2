"""The format of the training store: its version and the checksum of a shard."""

import hashlib

import numpy as np

STORE_FORMAT = 3


def checksum(stored: np.ndarray) -> str:
    """Of the stored values of a shard, 16 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(stored).data, digest_size=8).hexdigest()
