"""Darcy's equation against manufactured solutions."""

import numpy as np

from data_pipeline.simulation.darcy import Darcy, solve_darcy


def manufactured_error(count: int) -> float:
    """Of u = sin(pi x) sin(2 pi y) and a = 2 + cos(pi x) y, f = -grad a . grad u - a lap u."""
    y, x = np.meshgrid(np.linspace(0, 1, count), np.linspace(0, 1, count), indexing="ij")
    pi = np.pi
    u = np.sin(pi * x) * np.sin(2 * pi * y)
    a = 2 + np.cos(pi * x) * y
    a_x, a_y = -pi * np.sin(pi * x) * y, np.cos(pi * x)
    u_x = pi * np.cos(pi * x) * np.sin(2 * pi * y)
    u_y = 2 * pi * np.sin(pi * x) * np.cos(2 * pi * y)
    source = -a_x * u_x - a_y * u_y + a * 5 * pi**2 * u
    return float(np.abs(solve_darcy(a, source) - u).max())


def test_second_order_in_space() -> None:
    errors = [manufactured_error(count) for count in (17, 33, 65)]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert ((orders > 1.9) & (orders < 2.1)).all()


def test_one_unknown_by_hand() -> None:
    np.testing.assert_allclose(solve_darcy(np.ones((3, 3)))[1, 1], 1 / 16)
    # The links have the mean of both ends, and h = 1/2.
    a = np.array([[9.0, 3.0, 9.0], [5.0, 1.0, 7.0], [9.0, 11.0, 9.0]])
    np.testing.assert_allclose(
        solve_darcy(a)[1, 1], 1 / (4 * ((3 + 1 + 11 + 1 + 5 + 1 + 7 + 1) / 2))
    )


def test_swapping_the_axes_swaps_the_solution() -> None:
    a = Darcy().permeability((17, 33), np.random.default_rng(0))
    np.testing.assert_allclose(solve_darcy(a).T, solve_darcy(a.T), rtol=0, atol=1e-14)


def test_twice_the_permeability_is_half_the_pressure() -> None:
    a = Darcy().permeability((17, 17), np.random.default_rng(0))
    u = solve_darcy(a)
    np.testing.assert_allclose(solve_darcy(2 * a), u / 2, rtol=1e-12)
    assert (u[1:-1, 1:-1] > 0).all()
    assert not u[[0, -1]].any()
    assert not u[:, [0, -1]].any()


def test_the_coefficient_is_the_same_function_at_every_resolution() -> None:
    fine, coarse = (Darcy().permeability((n, n), np.random.default_rng(5)) for n in (65, 17))
    np.testing.assert_array_equal(fine[::4, ::4], coarse)
    assert set(np.unique(fine)) == {3.0, 12.0}


def test_half_of_the_medium_is_permeable_on_average() -> None:
    rng = np.random.default_rng(0)
    shares = [(Darcy(modes=16).permeability((17, 17), rng) > 5).mean() for _ in range(400)]
    assert abs(np.mean(shares) - 0.5) < 0.03
