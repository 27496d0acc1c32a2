"""Fields as compressed integers that a page embeds, and that ``assets/data.js`` reads.

Values become integers from 0 to 4094 between the lowest and the highest one, and 65535 where there
is none. Their differences along lead time, columns and rows, modulo 65536, are small: d becomes 2 d
and -d becomes 2 d - 1, the low bytes precede the high ones, and all is deflated. Sums along the
same axes give the integers back.
"""

import base64
import zlib
from dataclasses import dataclass

import numpy as np

LEVELS = 4095
NO_VALUE = 65535


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Fields, each value ``low + quantum * integer``, known to half a quantum.

    Args:
        low: The lowest value.
        quantum: Distance of two values; 0 where all are the same.
        text: Of the deflated integers, base64.
    """

    low: float
    quantum: float
    text: str


def pack(fields: np.ndarray) -> Packed:
    """Pack fields (lead_time, row, column); what is not finite counts as missing."""
    fields = np.asarray(fields, np.float64)
    known = np.isfinite(fields)
    low, high = (float(f(fields[known])) if known.any() else 0.0 for f in (np.min, np.max))
    quantum = (high - low) / (LEVELS - 1)
    integers = np.full(fields.shape, NO_VALUE, np.uint16)
    integers[known] = np.round((fields[known] - low) / (quantum or 1.0))
    for axis in (0, 2, 1):
        integers = np.diff(integers, axis=axis, prepend=np.uint16(0))
    signed = integers.view(np.int16)
    folded = ((signed << 1) ^ (signed >> 15)).astype("<u2")
    pairs = folded.reshape(-1).view(np.uint8).reshape(-1, 2)
    deflated = zlib.compress(np.ascontiguousarray(pairs.T).tobytes(), 9)
    return Packed(low=low, quantum=quantum, text=base64.b64encode(deflated).decode())


def deflate(text: str) -> str:
    """Text that is long, as base64 of its deflated UTF-8."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()
