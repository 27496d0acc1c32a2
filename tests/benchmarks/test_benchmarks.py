"""The baseline of the benchmarks computes the same, or the comparison means nothing."""

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from benchmarks import benchmark_loader, benchmark_rollout, benchmark_scores, benchmark_training
from benchmarks.benchmark_operator import mixers, networks
from benchmarks.fourcastnet import FourCastNetFilter, as_fourcastnet
from benchmarks.memory import kept_bytes
from benchmarks.scaling_model import Machine, Workload, step_time
from benchmarks.stores import write_store, write_weatherbench2
from benchmarks.timing import count_operations
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.models.fourier.transforms import matrix_operations
from fourcastnet_afno.models.mixers import AFNO
from tests.builders.errors import rejects
from tests.builders.experiments import make_dataset, make_experiment, make_untrained_run

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("shape", [(6, 10), (9, 18), (8, 8)])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_baseline_equals_the_mixer_in_value_and_gradient(
    shape: tuple[int, int], fraction: float
) -> None:
    torch.manual_seed(0)
    mixer = AFNO(12, 3, hard_thresholding_fraction=fraction, mode_selection="fourcastnet")
    tokens = torch.randn(2, *shape, 12)
    torch.testing.assert_close(FourCastNetFilter(mixer)(tokens), mixer(tokens))
    gradients = []
    for module in (mixer, FourCastNetFilter(mixer)):
        loss = module(tokens).square().sum()
        gradients.append(torch.autograd.grad(loss, list(mixer.parameters())))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def make_network(depth: int, selection: str) -> AFNONet:
    torch.manual_seed(0)
    config = AFNONetConfig(embed_dim=32, depth=depth, num_blocks=4, mode_selection=selection)  # type: ignore[arg-type]
    return AFNONet(2, 2, config=config)


def test_the_baseline_network_computes_the_same() -> None:
    network, field = make_network(2, "fourcastnet"), torch.randn(2, 2, 24, 48)
    torch.testing.assert_close(as_fourcastnet(network)(field), network(field))


@pytest.mark.parametrize("selection", ["wavenumber", "fourcastnet"])
def test_a_block_keeps_less_than_two_thirds_of_the_baseline(selection: str) -> None:
    field = torch.randn(1, 2, 96, 192)

    def block_bytes(selection: str, baseline: bool) -> float:
        networks = [make_network(depth, selection) for depth in (1, 3)]
        networks = [as_fourcastnet(n) if baseline else n for n in networks]
        one, three = (kept_bytes(n, lambda n=n: n(field)) for n in networks)
        return (three - one) / 2

    assert 1.5 * block_bytes(selection, False) < block_bytes("fourcastnet", True)


def test_operations_of_the_mixer_by_hand() -> None:
    mixer = AFNO(4, 2)
    tokens = torch.randn(1, 6, 8, 4, requires_grad=True)
    modes = 6 * 5
    perceptron = 2 * 2 * modes * (2 * 2) * (2 * 2) * 2
    zonal, meridional = 2 * 10 * 8 * 6 * 4, 2 * 6 * 6 * 10 * 4
    zero = 2 * (2 * 2) * (2 * 2) * 2  # the response to zero, of one layer
    forward = count_operations(lambda: mixer(tokens))
    assert forward == perceptron + zero + 2 * (zonal + meridional)
    both = count_operations(lambda: mixer(tokens).sum().backward())
    assert both == 3 * (perceptron + zero) + 4 * (zonal + meridional)
    assert count_operations(lambda: tokens[0, 0] @ torch.ones(4, 3)) == 2 * 8 * 4 * 3


def test_every_reader_of_the_loader_benchmark_reads_the_same_bytes(tmp_path: Path) -> None:
    grid = LatLonGrid.equiangular(5, 8, poles=True)
    states = np.random.default_rng(0).standard_normal((12, 3, *grid.shape), dtype=np.float32)
    store = write_store(tmp_path / "ours.zarr", states, grid)
    write_weatherbench2(tmp_path / "published.zarr", states, grid)
    np.testing.assert_array_equal(store.states[(slice(None),) * 4], states)
    store.verify()
    published = xr.open_zarr(tmp_path / "published.zarr")
    turned = np.stack([published[f"v{i}"].values.swapaxes(1, 2) for i in range(3)], axis=1)
    np.testing.assert_array_equal(turned, states)


def test_the_loader_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_loader.benchmark(
        num_channels=2, num_latitudes=5, num_longitudes=8, num_times=40, batch_size=2, repeats=1
    )
    assert "this loader" in capsys.readouterr().out


def test_the_scripts_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = tmp_path / "plot.png"
    mixers(embed_dim=16, num_blocks=4, rows=(4, 6), repeats=1, output=plot)
    assert plot.stat().st_size > 1000
    printed = capsys.readouterr().out
    assert "AFNO, same modes: time ~ tokens^" in printed
    networks(embed_dim=16, depth=1, rows=(2, 3), repeats=1)
    assert "FourCastNet formulation: time ~ tokens^" in capsys.readouterr().out


def test_results_do_not_replace_files_of_others(tmp_path: Path) -> None:
    path = tmp_path / "plot.png"
    path.write_text("years of work")
    with rejects("output-exists", str(path)):
        mixers(output=path)
    with rejects("output-exists", str(path)):
        benchmark_training.steps(output=path)
    assert path.read_text() == "years of work"


def test_the_plain_loop_computes_what_is_written(tmp_path: Path) -> None:
    case = benchmark_rollout.Case(
        rows=8,
        columns=16,
        num_channels=3,
        patch=4,
        embed_dim=16,
        depth=2,
        num_forecasts=3,
        num_steps=4,
        batch_size=2,
        device="cpu",
        bfloat16=False,
        members=False,
        statistics=False,
    )
    for run in benchmark_rollout.build_runs(case, tmp_path).values():
        run.call()
        assert 0 < run.clock.in_network < run.clock.total
    plain = np.load(tmp_path / "plain.npy")
    (path,) = tmp_path.glob("*/forecast.zarr")
    written = xr.open_zarr(path, consolidated=False, decode_timedelta=True)
    ours = np.stack([written[f"v{i}"].values for i in range(3)], axis=2)
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)


def test_the_rollout_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark_rollout.rollouts(
        rows=8,
        columns=16,
        num_channels=2,
        embed_dim=16,
        depth=1,
        num_steps=3,
        repeats=1,
        memory=False,
    )
    assert "times as fast as the plain loop" in capsys.readouterr().out


def test_the_scores_benchmark_measures_the_disk() -> None:
    """The result alone is smaller than all that is there while the forecasts run."""
    case = benchmark_scores.Case(
        num_members=2, num_steps=2, num_inits=1, batch_size=2, network=False, threads=1
    )
    stepper, data = benchmark_scores.build(case)
    benchmark_scores.plain(case, stepper, data)
    assert benchmark_scores.scored(case, stepper, data) > 100_000


def test_anomalies_that_persist_keep_their_size_for_months(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A network without change, and damping so weak that two months of it are nothing."""
    make_dataset().to_netcdf(tmp_path / "data.nc")
    config = make_experiment(tmp_path / "data.nc")
    config = replace(config, model=replace(config.model, damping_days=1e6))
    checkpoint, store = make_untrained_run(config, tmp_path / "run")
    forecaster = load_forecaster(checkpoint)
    for parameter in forecaster.network.patch_recovery.parameters():
        torch.nn.init.zeros_(parameter)
    save_checkpoint(checkpoint, forecaster, {}, {"config": config.to_yaml()})
    benchmark_rollout.climate(
        tmp_path / "run", init_times="2001-02-01", num_months=2, damping_power=None
    )
    state = torch.from_numpy(
        forecaster.spec.channels.stack(store.prognostic.dataset().sel(time=["2001-02-01"])).values
    )
    assert forecaster.mean_state is not None
    assert forecaster.anomaly_variance is not None
    weights = torch.from_numpy(forecaster.spec.grid.area_weights())
    squares = weights * (state - forecaster.mean_state).square() / forecaster.anomaly_variance
    sizes = squares.mean(dim=(0, 2, 3)).sqrt()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert len(rows) == 2
    for row in rows:
        assert all(f" {size:.2f} " in row for size in sizes.tolist())


def test_the_training_benchmark_accounts_for_the_whole_step(tmp_path: Path) -> None:
    case = benchmark_training.Case(
        num_rows=8, num_columns=16, num_channels=2, embed_dim=16, depth=1, batch_size=2,
        num_batches=5,
    )  # fmt: skip
    store = benchmark_training.write_data(case, tmp_path, 1)
    watch = benchmark_training.run_alone(case, store, tmp_path / "run")
    assert all(seconds > 0 for seconds in watch.seconds.values())
    assert sum(watch.seconds.values()) < watch.total
    assert sum(benchmark_training.shares([watch]).values()) == pytest.approx(1)


def test_the_training_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    case = benchmark_training.Case(
        num_rows=8, num_columns=16, num_channels=2, embed_dim=16, depth=1, num_batches=3
    )
    benchmark_training.steps(case, repeats=1)
    assert "samples/s of the plain loop" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*benchmark_*.py")))
def test_every_benchmark_documents_its_command(name: str) -> None:
    text = (FOLDER / f"{name}.py").read_text()
    assert f"\n    python -m benchmarks.{name}" in (ast.get_docstring(ast.parse(text)) or "")
    assert "auto_cli(" in text.split('if __name__ == "__main__":')[1]


MACHINE = Machine(peak=100e12, share=0.5, devices=4, link=100e9, network=50e9, latency=0.0)


def test_a_device_alone_computes_and_reads() -> None:
    work = Workload()
    alone = step_time(work, MACHINE, 1)
    assert alone.compute == work.operations / 50e12
    assert alone.all_to_all == alone.all_reduce == alone.waiting == 0
    assert alone.total == max(alone.compute, work.window_bytes / MACHINE.storage)


def test_exchanges_by_hand() -> None:
    work = Workload(num_rows=8, num_columns=16, patch=4, embed_dim=8, depth=1, num_blocks=2)
    assert (work.tokens, work.modes) == (8, 2 * 3)
    assert work.parameters == 8 * 64 + 4 * 64 / 2 + 2 * 20 * 16 * 8
    size = 2 * 4 * work.parameters
    slow = replace(MACHINE, share=1e6)  # so that nothing is hidden behind it
    assert step_time(work, slow, 2).all_reduce == pytest.approx(size / 2 / 100e9, rel=1e-3)
    two_nodes = size * (3 / 4 / 100e9 + 1 / 2 / 50e9)
    assert step_time(work, slow, 8).all_reduce == pytest.approx(two_nodes, rel=1e-3)
    shared = replace(work, spatial=4)
    assert step_time(shared, MACHINE, 4).all_to_all == 4 * 8 * 6 * 8 / 4 * (3 / 4) / 100e9


def test_the_scaling_model_counts_as_torch_does() -> None:
    shape = {"embed_dim": 32, "depth": 2, "num_blocks": 4}
    network = AFNONet(20, 20, config=AFNONetConfig(patch_size=(4, 4), **shape))
    work = Workload(num_rows=32, num_columns=64, patch=4, **shape)
    field = torch.zeros(1, 20, 32, 64, requires_grad=True)
    found = count_operations(lambda: network(field).sum().backward())
    transforms = 4 * matrix_operations([8, 9], [8, 16]) * work.tokens * 32
    assert found - transforms == pytest.approx(work.operations, rel=0.05)
