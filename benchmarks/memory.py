"""Memory that autograd keeps."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def kept_bytes(module: nn.Module, call: Callable[[], object], *known: Tensor) -> float:
    """Bytes of the storages kept by a call, without the module's parameters and ``known``."""
    ours = {t.untyped_storage().data_ptr() for t in [*module.parameters(), *known]}
    kept: dict[int, int] = {}
    alive = []

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in ours:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        call()
    return float(sum(kept.values()))
