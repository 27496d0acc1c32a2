import pytest
import torch
from torch import Tensor, nn

from fourcastnet_afno.training.optimizers.lamb import LAMB


def test_lamb_first_step_by_hand() -> None:
    """x = (3, 4) has the length 5; r = (1, -1) + 0.1 x = (1.3, -0.6)."""
    x = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = LAMB([x], lr=0.2, betas=(0.9, 0.99), eps=1e-12, weight_decay=0.1)
    x.grad = torch.tensor([0.5, -80.0], dtype=torch.float64)
    optimizer.step()
    update = torch.tensor([1.3, -0.6], dtype=torch.float64)
    length = (1.3**2 + 0.6**2) ** 0.5
    start = torch.tensor([3.0, 4.0], dtype=torch.float64)
    torch.testing.assert_close(x.detach(), start - 0.2 * 5 / length * update)


def lamb_in_numbers(
    x: Tensor, gradients: list[Tensor], *, lr: float, betas: tuple[float, float], decay: float
) -> Tensor:
    """Algorithm 2 of You et al. (2020), number by number."""
    values, first, second = x.flatten().tolist(), [0.0] * x.numel(), [0.0] * x.numel()
    for step, gradient in enumerate(gradients, start=1):
        update = []
        for i, g in enumerate(gradient.flatten().tolist()):
            first[i] = betas[0] * first[i] + (1 - betas[0]) * g
            second[i] = betas[1] * second[i] + (1 - betas[1]) * g * g
            m, v = first[i] / (1 - betas[0] ** step), second[i] / (1 - betas[1] ** step)
            update.append(m / (v**0.5 + 1e-6) + decay * values[i])
        length = sum(value * value for value in values) ** 0.5
        update_length = sum(u * u for u in update) ** 0.5
        trust = length / update_length if decay and length and update_length else 1.0
        values = [value - lr * trust * u for value, u in zip(values, update, strict=True)]
    return torch.tensor(values, dtype=torch.float64).reshape(x.shape)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_lamb_equals_a_loop_over_numbers(decay: float) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 2)]
    starts = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    starts.append(torch.zeros(3, dtype=torch.float64))  # No length: the trust ratio is 1.
    gradients = [
        [torch.randn(x.shape, generator=generator, dtype=torch.float64) for _ in range(6)]
        for x in starts
    ]
    parameters = [nn.Parameter(x.clone()) for x in starts]
    optimizer = LAMB(parameters, lr=0.1, betas=(0.8, 0.95), weight_decay=decay)
    for step in range(6):
        for parameter, own in zip(parameters, gradients, strict=True):
            parameter.grad = own[step]
        optimizer.step()
    for parameter, start, own in zip(parameters, starts, gradients, strict=True):
        expected = lamb_in_numbers(start, own, lr=0.1, betas=(0.8, 0.95), decay=decay)
        torch.testing.assert_close(parameter.detach(), expected)


def test_lamb_skips_what_has_no_gradient_and_counts_by_tensor() -> None:
    first, second = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    optimizer = LAMB([first, second], lr=0.1)
    for step in range(3):
        first.grad = torch.tensor([1.0, 2.0], dtype=torch.float64)
        second.grad = first.grad.clone() if step == 2 else None
        optimizer.step()
        if step == 0:
            after_one = first.detach().clone()
    torch.testing.assert_close(second.detach(), after_one)


def test_lamb_takes_a_closure() -> None:
    x = nn.Parameter(torch.ones(1))
    optimizer = LAMB([x], lr=0.1, weight_decay=0.0)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = 3 * x.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 3
    torch.testing.assert_close(x.detach(), torch.tensor([0.9]))
