"""Precision of matrix products in training."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

from fourcastnet_afno.training.config import Precision

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """Matrix products in 16 bits where that is the ``precision``.

    Raises:
        ValueError: If it is ``auto``, which ``settle`` replaces.
    """
    if precision == "auto":
        raise ValueError("precision=auto must be settled first, see settle")
    dtype = _DTYPES.get(precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


@contextmanager
def matrix_precision(device: torch.device, precision: Precision) -> Iterator[None]:
    """TF32 in float32 matrix products on GPUs while the block runs, unless ``float32`` is exact."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
