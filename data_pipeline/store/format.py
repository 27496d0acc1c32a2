"""The format of the training store: its version, filled shares and the checksum of a shard."""

import hashlib

import numpy as np

STORE_FORMAT = 3
FULL = 255  # the share of a cell in the array ``filled`` that stands for all of it


def checksum(values: np.ndarray) -> str:
    """Digest of an array, 16 hexadecimal digits."""
    return hashlib.blake2b(np.ascontiguousarray(values).data, digest_size=8).hexdigest()
