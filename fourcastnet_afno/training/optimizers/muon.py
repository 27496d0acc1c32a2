"""Muon: matrices move by the orthogonal factor of their momentum, other weights as with AdamW.

    m_t = b m_{t-1} + (1 - b) g                   b = 0.95
    u   = b m_t + (1 - b) g                       (Nesterov's look ahead)
    x  <- (1 - lr decay) x - lr 0.2 sqrt(max(rows, columns)) orthogonal(u)

With the singular value decomposition u = U S V^T, orthogonal(u) is about U V^T: directions that
gradients seldom point to learn as fast as those that they mostly point to. The factor gives the
update the size of one of AdamW, so that both kinds of weights have the same learning rate.

References:
    Jordan et al., 2024, Muon: An optimizer for hidden layers in neural networks,
    https://kellerjordan.github.io/posts/muon/ (iteration and its coefficients).
    Liu et al., 2025, Muon is Scalable for LLM Training, https://arxiv.org/abs/2502.16982,
    equation 4 (decay and size of the update).
"""

# torch documents its operations on lists of tensors (torch._foreach_*) under these names.
# pyright: reportPrivateImportUsage=false

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_MOMENTUM = 0.95
_COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of X, (X X^T) X and (X X^T)^2 X
_ITERATIONS = 5


class Muon(torch.optim.AdamW):
    """Muon for the groups whose ``is_matrix`` is true, AdamW for the others.

    A weight with more than two axes is a stack of matrices, the last two axes of each. The
    gradients of matrices are gone after a step.

    Args:
        params: Groups of weights; groups without ``is_matrix`` are no matrices.
        lr: Learning rate.
        betas: Of AdamW.
        eps: Of AdamW.
        weight_decay: Decoupled, of both.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        groups = [{"is_matrix": False} | group for group in params]
        options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, foreach=True, **options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401
        """Update all tensors that have a gradient."""
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        for group in self.param_groups:
            if group["is_matrix"]:
                self._update(group)
        super().step()
        return loss

    def _update(self, group: Mapping[str, Any]) -> None:
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        gradients = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None  # AdamW leaves alone what has none
            state = self.state[weight]
            if not state:
                state["step"] = torch.tensor(0.0)  # which AdamW wants of any state
                state["exp_avg"] = torch.zeros_like(weight)
            state["step"] += 1
        moments = [self.state[weight]["exp_avg"] for weight in weights]
        torch._foreach_lerp_(moments, gradients, 1 - _MOMENTUM)
        directions = torch._foreach_lerp(gradients, moments, _MOMENTUM)
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for weight, update in zip(weights, orthogonal_factors(directions), strict=True):
            size = 0.2 * max(weight.shape[-2:]) ** 0.5
            weight.add_(update, alpha=-group["lr"] * size)


def orthogonal_factors(
    stacks: Sequence[Tensor],
) -> list[Tensor]:
    """The orthogonal factors U V^T of matrices U S V^T, about: singular values are 0.7 to 1.2.

    Those of singular values below a thousandth of the largest are smaller. Matrices of one shape
    are computed together, in bfloat16 on GPUs.

    Args:
        stacks: Tensors (*stack, row, column), of which the last two axes are matrices.
    """
    by_shape: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, stack in enumerate(stacks):
        rows, columns = sorted(stack.shape[-2:])
        by_shape[rows, columns].append(index)
    results = list(stacks)
    for shape, indices in by_shape.items():
        wide = [_wide(stacks[index]).reshape(-1, *shape) for index in indices]
        factors = _newton_schulz(torch.cat(wide)).split([len(each) for each in wide])
        for index, factor in zip(indices, factors, strict=True):
            result = factor.view(_wide(stacks[index]).shape).to(stacks[index].dtype)
            results[index] = result.mT if result.shape != stacks[index].shape else result
    return results


def _wide(stack: Tensor) -> Tensor:
    """Matrices with no more rows than columns."""
    return stack.mT if stack.shape[-2] > stack.shape[-1] else stack


def _newton_schulz(
    matrices: Float[Tensor, "stack row column"],
) -> Float[Tensor, "stack row column"]:
    """Push the singular values of each matrix to about 1 by an odd polynomial, again and again."""
    norms = torch.linalg.matrix_norm(matrices, keepdim=True)
    x = matrices / norms.clamp_min(torch.finfo(matrices.dtype).tiny)
    if x.is_cuda:
        x = x.bfloat16()
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = first * x + (third * square + fifth * square @ square) @ x
    return x
