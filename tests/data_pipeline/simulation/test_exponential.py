"""ETDRK4 is exact for the linear part and of fourth order for the rest."""

import numpy as np
import torch
from torch import Tensor

from data_pipeline.simulation.exponential import Exponentials, circle_mean, step


def advance(rate: float, time: float, num_steps: int, nonlinear: float) -> float:
    """Solve dx / dt = rate x - nonlinear x^2, x(0) = 1."""
    h = time / num_steps

    def operator(function) -> Tensor:  # noqa: ANN001
        return torch.tensor(np.real(circle_mean(function, np.array([h * rate + 0j]))))

    exponentials = Exponentials.from_operator(operator, h)
    state = torch.ones(1, dtype=torch.float64)
    for _ in range(num_steps):
        state = step(exponentials, torch.mul, lambda x: -nonlinear * x**2, state)
    return state.item()


def test_a_linear_equation_is_exact_in_one_step() -> None:
    for rate in (-1000.0, -1.0, 0.0, 2.0):
        np.testing.assert_allclose(advance(rate, 1.0, 1, 0.0), np.exp(rate), rtol=1e-12)


def test_fourth_order_for_the_logistic_equation() -> None:
    exact = 1 / (0.5 + 0.5 * np.exp(-2.0))  # rate 1, nonlinear 0.5, time 2
    errors = [abs(advance(1.0, 2.0, n, 0.5) - exact) for n in (8, 16, 32)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert ((orders > 3.7) & (orders < 4.5)).all()


def test_the_mean_on_a_circle_does_not_cancel() -> None:
    """(exp(z) - 1 - z) / z^2 is 1/2 + z/6 near 0, where differences lose all digits."""
    center = np.array([0.0, 1e-9, 1.0])
    values = circle_mean(lambda z: (np.exp(z) - 1 - z) / z**2, center + 0j)
    np.testing.assert_allclose(values.real, [0.5, 0.5 + 1e-9 / 6, np.e - 2], rtol=1e-12)
