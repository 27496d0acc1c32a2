"""Memory that autograd keeps for the backward pass."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def kept_bytes(module: nn.Module, call: Callable[[], object], *known: Tensor) -> float:
    """Bytes of the storages that a call keeps, without the module's parameters and ``known``."""
    excluded = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *known]}
    kept: dict[int, int] = {}
    alive = []

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        call()
    return float(sum(kept.values()))
