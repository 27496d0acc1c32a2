"""Problems, networks, scores and tables of the comparison of operators."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pde.ablation import forms, variants
from benchmarks.pde.networks import build, count_weights
from benchmarks.pde.pictures import draw, spectrum
from benchmarks.pde.problems import (
    KINDS,
    Darcy,
    Data,
    FineShallowWater,
    NavierStokes,
    Problem,
    PublicDarcy,
    SphericalShallowWater,
    VorticityAlone,
    array_name,
)
from benchmarks.pde.runs import NUM_WEIGHTS, Run, load_trained, run_missing, surrogate_of
from benchmarks.pde.tables import ablation_table, read_results, scores_table
from benchmarks.pde.training import Batches, baselines, correlations, roll_out, scores, time_above
from benchmarks.unet import UNet
from tests.builders.processes import fast_spawning

PROBLEMS = [
    Darcy(
        train_shape=(9, 9),
        test_shapes=((9, 9), (17, 17), (13, 13)),
        num_train=6,
        num_test=2,
        epochs=1,
        solver_points=49,
    ),
    NavierStokes(
        train_shape=(16, 16),
        test_shapes=((16, 16), (32, 32), (24, 24)),
        num_train=2,
        num_test=1,
        num_steps=3,
        epochs=1,
        solver_points=32,
    ),
    SphericalShallowWater(
        train_shape=(8, 16),
        test_shapes=((8, 16), (16, 32)),
        num_train=1,
        num_test=1,
        days=2,
        epochs=1,
        samples_per_epoch=4,
        solver_latitudes=16,
    ),
]


@pytest.fixture(scope="module", params=PROBLEMS, ids=lambda problem: problem.name)
def problem(request: pytest.FixtureRequest) -> Problem:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pde")


@pytest.fixture(scope="module")
def data(problem: Problem, folder: Path) -> Data:
    return problem.load(folder / "data")


def test_resolutions_hold_the_same_functions(problem: Problem, data: Data) -> None:
    coarse, fine = (data[array_name(shape)] for shape in problem.test_shapes[:2])
    if isinstance(problem, SphericalShallowWater):  # latitudes lie between those of finer grids
        weights = [problem.weights(shape).numpy() for shape in problem.test_shapes[:2]]
        coarse, fine = (
            np.stack([(x**k * w).mean((-1, -2)) for k in (1, 2)])
            for x, w in zip((coarse, fine), weights, strict=True)
        )
        np.testing.assert_allclose(coarse[:, :, :, 2], fine[:, :, :, 2], rtol=1e-2)
        return
    if isinstance(problem, NavierStokes):  # the finer grid resolves more waves
        modes = [np.fft.rfft2(x, norm="forward") for x in (coarse, fine)]
        np.testing.assert_allclose(modes[0][..., :8, :8], modes[1][..., :8, :8], atol=1e-6)
        return
    np.testing.assert_array_equal(coarse, fine[..., ::2, ::2])


def test_data_is_read_and_not_solved_again(
    problem: Problem, data: Data, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(problem), "solve", lambda self: pytest.fail("solved again"))
    again = problem.load(folder / "data")
    assert all(np.array_equal(again[name], data[name]) for name in data)


@pytest.mark.parametrize("kind", KINDS)
def test_networks_fit_the_budget_and_every_resolution(
    kind: str, problem: Problem, data: Data
) -> None:
    torch.manual_seed(0)
    surrogate = build(kind, problem, data, 60_000)
    assert 20_000 < count_weights(surrogate) <= 60_000
    for shape in problem.test_shapes:
        state = torch.from_numpy(data[array_name(shape)][:, 0])
        assert surrogate(state).shape == state.shape
    if problem.steady:
        assert (surrogate(state)[..., 0, :].abs() < 1e-5).all()


def test_budget_that_nothing_fits(data: Data, problem: Problem) -> None:
    with pytest.raises(ValueError, match="no unet has at most 10 weights"):
        build("unet", problem, data, 10)


def test_batches_cover_an_epoch_and_keep_pairs_together(problem: Problem, data: Data) -> None:
    batches = Batches(problem, data, seed=0)
    pairs = list(batches)
    assert len(pairs) == len(batches)
    states = torch.from_numpy(data["train"])
    known = {
        target.sum().item(): state.sum().item()
        for state, target in zip(
            states[:, :-1].flatten(0, 1), states[:, 1:].flatten(0, 1), strict=True
        )
    }
    for state, target in pairs:
        for one, other in zip(state, target, strict=True):
            nearest = min(known, key=lambda total: abs(total - other.sum().item()))
            assert known[nearest] == pytest.approx(one.sum().item(), rel=1e-4, abs=1e-3)


def test_scores_of_the_truth_and_of_persistence(problem: Problem, data: Data) -> None:
    surrogate = build("unet", problem, data, 60_000)
    state = torch.from_numpy(data[array_name(problem.test_shapes[0])])
    answers = {s.sum().item(): t for s, t in zip(state[:, 0], state[:, 1], strict=True)}
    if problem.steady:
        tested = replace(problem, test_shapes=problem.test_shapes[:1])
        perfect = scores(
            lambda x: torch.stack([answers[one.sum().item()] for one in x]), surrogate, tested, data
        )
        assert perfect == {array_name(problem.test_shapes[0]): 0.0}
    for name, step in baselines(problem, data).items():
        result = scores(step, surrogate, problem, data)
        error = result[array_name(problem.test_shapes[0])]
        assert error is not None
        assert 0.01 < error < 2, name


def test_correlation_of_rollouts() -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 5, 2, 8, 8, generator=generator)
    weights = torch.ones(8, 8)
    rollout = [3 * state + 7 for state in states[:, 1:].unbind(1)]
    np.testing.assert_allclose(correlations(rollout, states, weights), 1, atol=1e-6)
    rollout[1] = -rollout[1]
    assert correlations(rollout, states, weights)[1] == pytest.approx(-1)
    doubled = roll_out(lambda state: 2 * state, states)
    torch.testing.assert_close(doubled[-1], 16 * states[:, 0])
    assert time_above(np.array([0.9, 0.9, 0.7])) == pytest.approx(2.5)
    assert time_above(np.array([0.9, 0.9])) is None


@pytest.mark.parametrize("size", [(16, 16), (15, 18)])
def test_a_periodic_unet_commutes_with_translations_by_its_coarsest_cells(
    size: tuple[int, int],
) -> None:
    torch.manual_seed(0)
    network = UNet(2, 1, [8, 8, 8], ("circular", "circular"))
    field = torch.randn(2, 2, *size)
    assert network(field).shape == (2, 1, *size)
    if size == (16, 16):
        torch.testing.assert_close(
            network(field.roll((4, 8), (2, 3))), network(field).roll((4, 8), (2, 3))
        )


def test_spectra_hold_the_mean_square() -> None:
    rng = np.random.default_rng(0)
    for count in (16, 17):
        periodic = rng.standard_normal((2, 5, count))
        np.testing.assert_allclose(
            spectrum(periodic, False).sum(-1), (periodic**2).mean((-1, -2)), rtol=1e-12
        )
    bounded = np.pad(rng.standard_normal((2, 5, 15)), ((0, 0), (0, 0), (1, 1)))
    mean_square = (bounded**2).sum(-1).mean(-1) / 16
    np.testing.assert_allclose(spectrum(bounded, True).sum(-1), mean_square, rtol=1e-12)


def test_runs_tables_and_pictures(tmp_path: Path) -> None:
    problem = Darcy(
        train_shape=(9, 9),
        test_shapes=((9, 9), (17, 17)),
        num_train=2,
        num_test=2,
        epochs=1,
        solver_points=17,
    )
    data = problem.load(tmp_path / "data")
    runs = [Run(problem=problem, label="afno", kind="afno", seed=seed) for seed in (0, 1)]
    changed = [run for run in variants(problem) if run.spectral_norm]
    with fast_spawning():
        run_missing([*runs, *changed], tmp_path, processes=1)
    times = [run.path(tmp_path).stat().st_mtime_ns for run in runs]
    run_missing(runs, tmp_path, processes=1)  # nothing is missing
    assert times == [run.path(tmp_path).stat().st_mtime_ns for run in runs]

    results = read_results(tmp_path / "darcy")
    header, _, row, mean = scores_table(results, {"afno": 1.25})
    assert "17 x 17" in header
    assert row.startswith(f"| afno | {results[0]['weights']} |")
    assert "| 1.2 |" in row
    assert row.count("±") == 2
    assert mean.startswith("| mean of the training |")
    (_, _, ablated) = ablation_table(read_results(tmp_path / "ablation_darcy"))
    assert ablated.startswith("| spectral normalization of the MLPs |")

    trained = load_trained(runs[0], data, tmp_path)
    state = torch.from_numpy(data["test_9x9"])
    again = scores(trained, trained, problem, data)
    assert again == pytest.approx(results[0]["scores"])
    assert torch.isfinite(trained(state[:, 0])).all()
    picture = draw(problem, tmp_path, tmp_path / "images")
    assert picture is not None
    assert picture.stat().st_size > 10_000
    assert draw(NavierStokes(), tmp_path, tmp_path / "images") is None


def without_values(problem: Problem) -> Data:
    """Arrays of the shapes that networks are built from."""
    channels = 4 if isinstance(problem, SphericalShallowWater) else 1
    surface = f"surface_{problem.train_shape[0]}x{problem.train_shape[1]}"
    data: Data = {"train": np.zeros((1, 2, channels, *problem.train_shape), np.float32)}
    return data | {surface: np.zeros(problem.train_shape, np.float32)}


def test_every_network_of_the_table_fits_its_budget() -> None:
    for problem in (Darcy(), PublicDarcy(folder=Path()), NavierStokes(), SphericalShallowWater()):
        data = without_values(problem)
        for kind in problem.kinds:
            assert 70_000 < count_weights(build(kind, problem, data, NUM_WEIGHTS)) <= NUM_WEIGHTS


def test_every_change_of_the_ablation_can_be_built() -> None:
    runs = list(variants(Darcy()))
    assert len({run.label for run in runs}) == len(runs)
    for problem in (Darcy(), NavierStokes(), SphericalShallowWater()):
        data, tried = without_values(problem), list(forms(problem))
        folders = [run.path(Path()).parent.name for run in tried]
        assert set(folders) == {f"forms_{problem.name}"}
        for run in tried:
            assert count_weights(surrogate_of(run, data)) > 50_000, run.label


def test_public_darcy_gets_its_missing_ends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train_16", 16), ("test_16", 16), ("test_32", 32)):
        x = rng.integers(0, 2, (3, count, count)).astype(bool)
        y = rng.random((3, count, count)).astype(np.float32)
        np.savez(tmp_path / f"darcy_{name}.npz", x=x, y=y)
    data = PublicDarcy(folder=tmp_path, num_train=2).solve()
    assert data["train"].shape == (2, 2, 1, 17, 17)
    assert (data["test_33x33"][:, 1, :, -1] == 0).all()
    assert (data["test_33x33"][:, 0, :, -1] == data["test_33x33"][:, 0, :, -2]).all()


def test_afno_has_the_margin_of_other_periodic_mixers_where_edges_are_no_points() -> None:
    public, ours = PublicDarcy(folder=Path()).network("afno"), Darcy().network("afno")
    assert public.padding == Darcy().network("global_filter").padding
    assert public.padding.margin == (2, 2)
    assert replace(public, padding=ours.padding, boundary=ours.boundary) == ours


def test_velocity_has_the_vorticity_as_its_curl_and_no_divergence() -> None:
    y, x = torch.meshgrid(torch.arange(16) / 16, torch.arange(24) / 24, indexing="ij")
    k = 2 * torch.pi
    vorticity = (k * x).sin() * (2 * k * y).cos() + (3 * k * x).cos()
    # The stream function of a wave is the wave over its squared wavenumber.
    stream_y = (k * x).sin() * -2 * k * (2 * k * y).sin() / (5 * k**2)
    stream_x = k * (k * x).cos() * (2 * k * y).cos() / (5 * k**2) - (3 * k * x).sin() / (3 * k)
    velocity = NavierStokes().derived(vorticity[None, None])
    torch.testing.assert_close(velocity[0], torch.stack([stream_y, -stream_x]), atol=1e-6, rtol=0)
    assert VorticityAlone().derived(vorticity[None, None]).shape == (1, 0, 16, 24)


def test_the_finer_planet_is_the_same_one() -> None:
    coarse, fine = SphericalShallowWater(), FineShallowWater()
    assert fine.train_shape == coarse.test_shapes[1]
    assert (fine.days, fine.solver_latitudes) == (coarse.days, coarse.solver_latitudes)
