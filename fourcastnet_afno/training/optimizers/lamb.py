"""LAMB: Adam for large batches.

References:
    You et al., 2020, Large Batch Optimization for Deep Learning, https://arxiv.org/abs/1904.00962,
    algorithm 2.
"""

# torch documents its operations on lists of tensors (torch._foreach_*) under these names.
# pyright: reportPrivateImportUsage=false

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor


class LAMB(torch.optim.Optimizer):
    """Adam whose update of each tensor is as long as the tensor, times the learning rate.

        m_t = b1 m_{t-1} + (1 - b1) g          v_t = b2 v_{t-1} + (1 - b2) g^2
        r   = m_t / (1 - b1^t) / (sqrt(v_t / (1 - b2^t)) + eps) + decay x
        x  <- x - lr |x| / |r| r

    The trust ratio |x| / |r| is 1 where either norm is 0 and, like in the authors' code and in
    apex, in groups without weight decay (biases and gains).

    References:
        You et al., 2020, https://arxiv.org/abs/1904.00962, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401
        """Update all tensors that have a gradient."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            if any(p.grad is not None for p in group["params"]):
                self._update(group)
        return loss

    def _update(self, group: Mapping[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        betas, gradients = group["betas"], [p.grad for p in parameters]
        states = [self.state[parameter] for parameter in parameters]
        for state, parameter in zip(states, parameters, strict=True):
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["step"] += 1
        means, squares = ([state[key] for state in states] for key in ("exp_avg", "exp_avg_sq"))
        torch._foreach_lerp_(means, gradients, 1 - betas[0])
        torch._foreach_mul_(squares, betas[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - betas[1])
        first, second = ([1 - beta ** state["step"].item() for state in states] for beta in betas)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, second))
        torch._foreach_add_(roots, group["eps"])
        updates = torch._foreach_div(means, first)
        torch._foreach_div_(updates, roots)
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
            norms = torch._foreach_norm(parameters), torch._foreach_norm(updates)
            trust_ratios = [
                torch.where((x > 0) & (r > 0), x / r, torch.ones_like(x))
                for x, r in zip(*norms, strict=True)
            ]
            torch._foreach_mul_(updates, trust_ratios)
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])
