"""Processes that share each field: the same numbers as one process, at every place."""

import csv
import hashlib
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.loading.loader import Loader
from data_pipeline.loading.windows import Sample
from data_pipeline.periods import Period
from data_pipeline.preparation.prepare import open_store
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.reader import PreparedStore
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, read_checkpoint
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.losses.config import LossConfig
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig, Padding
from fourcastnet_afno.models.layers import DropPath
from fourcastnet_afno.parallel.config import Parallel
from fourcastnet_afno.parallel.field_group import FieldGroup, field_group
from fourcastnet_afno.parallel.launch import process_group
from fourcastnet_afno.parallel.process import Process
from fourcastnet_afno.parallel.row_sharding import (
    AllRows,
    RowPartition,
    Rows,
    ShardedRows,
)
from fourcastnet_afno.parallel.wrap import gather_dtensor, wrap
from fourcastnet_afno.training.build_loss import build_loss
from fourcastnet_afno.training.config import RolloutConfig, Stage, TrainingConfig, ValidationConfig
from fourcastnet_afno.training.nonfinite import describe_gradient
from fourcastnet_afno.training.objectives import RolloutLoss
from fourcastnet_afno.training.progress import ProgressRecord
from fourcastnet_afno.training.shard_rows import shard_rows
from fourcastnet_afno.training.signals import TrainingInterruptedError
from fourcastnet_afno.training.trainer import Trainer
from fourcastnet_afno.training.updater import with_noise
from fourcastnet_afno.workflows.config import ExperimentConfig
from fourcastnet_afno.workflows.prepare import prepare_run
from fourcastnet_afno.workflows.train import train_run
from tests.builders.errors import rejects
from tests.builders.experiments import make_dataset, make_experiment, make_forecaster, make_states
from tests.builders.processes import SignalAfter, on_ranks

Join = Callable[..., AbstractContextManager[Process]]
SMALL = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2, initialization="small")
# Name: rows, columns, network, loss, gradient of the rollout.
CASES = {
    "uneven": (18, 12, SMALL, LossConfig(kind="mse"), "full"),
    "padded": (23, 10, replace(SMALL, patch_size=(3, 3)), LossConfig(), "checkpointed"),
    "margin": (
        20, 12,
        replace(SMALL, padding=Padding(margin=(2, 2)), boundary=("zero_padded", "zero_padded")),
        LossConfig(kind="relative_l2"), "full",
    ),
    "pole": (
        18, 14, replace(SMALL, pole="double_fourier_sphere", vector_channels=3),
        LossConfig(kind="relative_l2", relative_to="channel"), "full",
    ),
    "kernel": (
        18, 14,
        replace(
            SMALL, pole="double_fourier_sphere", vector_channels=4, wavenumber_weights="kernel",
        ),
        LossConfig(), "full",
    ),
    "reflected": (
        16, 12,
        replace(
            SMALL, boundary=("reflected", "periodic"), checkpoint_activations=True,
            hard_thresholding_fraction=0.5,
        ),
        LossConfig(kind="huber"), "pushforward",
    ),
    "fft": (
        18, 12, replace(SMALL, transform="fft", hard_thresholding_fraction=0.7),
        LossConfig(kind="amse"), "full",
    ),
    "position": (
        16, 6, replace(SMALL, position_grid=(8, 3), mode_selection="fourcastnet"),
        LossConfig(kind="crps", spectral_weight=0.5, energy_weight=0.2), "full",
    ),
}  # fmt: skip


class MeanLoss(nn.Module):
    """Mean loss over the windows, so that its gradient can be exchanged."""

    def __init__(self, forecaster: Forecaster, loss: LossConfig, gradient: str) -> None:
        super().__init__()
        config = RolloutConfig(gradient=gradient)  # type: ignore[arg-type]
        self.rollout = RolloutLoss(forecaster, build_loss(loss, forecaster), config)

    def forward(self, *fields: Tensor) -> Tensor:
        return self.rollout(*fields).mean()


def module_and_fields(case: str) -> tuple[MeanLoss, list[Tensor]]:
    """A network whose every weight matters, and four windows of the whole grid."""
    rows, columns, network, loss, gradient = CASES[case]
    band: dict[str, object] = {}
    if case not in ("uneven", "fft"):
        band = {"band_limit": 0.6, "band_edge": "smooth", "short_waves": "decay"}
        band |= {"damping_days": 2.0, "damping_power": 2}
    forecaster = make_forecaster(LatLonGrid.equiangular(rows, columns), network=network, **band)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    fields = [
        make_states(forecaster, 4, 1, seed=2),
        torch.randn(4, 2, 1, rows, columns, generator=generator),
        make_states(forecaster, 4, 2, seed=3),
    ]
    # In float64, as rounding may switch a rectifier.
    return MeanLoss(forecaster.double(), loss, gradient), [field.double() for field in fields]


def share_of(process: Process, fields: list[Tensor], rows: Rows) -> list[Tensor]:
    mine = rows.field_slice
    return [f.chunk(process.data_size)[process.data_rank][..., mine, :] for f in fields]


def largest_error(process: Process, case: str, parallel: Parallel = "ddp") -> float:
    """Of forecast, loss and gradients against one process, each over its largest value."""
    alone, fields = module_and_fields(case)
    expected = alone(*fields)
    expected.backward()
    forecaster = module_and_fields(case)[0].rollout.forecaster
    shard_rows(forecaster, process)
    shared, mine = (
        MeanLoss(forecaster, *CASES[case][3:]),
        share_of(process, fields, forecaster.rows),
    )
    wrapped = wrap(shared, process, parallel, shards=[*forecaster.network.blocks, forecaster])
    loss = wrapped(*mine)
    loss.backward()
    errors = [error(process.reduce_mean(loss.detach()), expected.detach())]
    with torch.no_grad():
        forecast = alone.rollout.forecaster(fields[0], fields[1][:, 0]) - fields[0][:, 0]
        (part,) = share_of(process, [forecast], forecaster.rows)
        errors.append(error(forecaster(mine[0], mine[1][:, 0]) - mine[0][:, 0], part))
    for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        errors.append(error(gather_dtensor(ours.grad), theirs.grad))
    return max(errors)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def kept_values(process: Process, case: str) -> tuple[int, int]:
    """Numbers that a backward pass needs, in one process and in this one; weights do not count."""
    alone, fields = module_and_fields(case)
    forecaster = module_and_fields(case)[0].rollout.forecaster
    shard_rows(forecaster, process)
    shared = MeanLoss(forecaster, *CASES[case][3:])
    return _kept(alone, fields), _kept(shared, share_of(process, fields, forecaster.rows))


def _kept(module: nn.Module, fields: list[Tensor]) -> int:
    sizes = {tensor.data_ptr(): 0 for tensor in (*module.parameters(), *module.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        sizes.setdefault(tensor.data_ptr(), tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = module(*fields)  # The graph keeps what was packed, so that no memory is used twice.
    loss.backward()
    return sum(sizes.values())


class Steep(torch.autograd.Function):
    """Zero, with an infinite slope."""

    @staticmethod
    def forward(ctx, weight: Tensor) -> Tensor:  # noqa: ANN001 # type: ignore[override]
        ctx.shape = weight.shape
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # noqa: ANN001 # type: ignore[override]
        return torch.where(gradient != 0, torch.inf, 0.0).expand(ctx.shape)


def trace_gradient(process: Process) -> str:
    """A gradient that is not finite at one process alone, of the second window."""
    module, fields = module_and_fields("uneven")
    rollout = module.rollout
    shard_rows(rollout.forecaster, process)
    rollout = RolloutLoss(rollout.forecaster, build_loss(LossConfig(), rollout.forecaster))
    state, forcing, target = share_of(process, fields, rollout.forecaster.rows)
    sample = Sample(state, target, forcing, torch.arange(4) * 10**17, torch.ones(4))
    if process.rank == 1:
        by_channel = rollout.by_channel

        def steep(*values: Tensor) -> Tensor:
            losses, place = by_channel(*values), torch.zeros(4, 1, 1)
            place[1] = 1
            weight = rollout.forecaster.network.patch_recovery.projection.bias
            return losses + place * Steep.apply(weight)

        rollout.by_channel = steep
    return describe_gradient(rollout, sample, [0, 1, 2, 3], process)


def compare_2(process: Process) -> dict[str, float]:
    alone, mine = kept_values(process, "uneven")
    assert alone <= process.reduce_sum(torch.tensor(mine)).item() < 1.02 * alone
    words = "the gradient of geopotential_500, 2m_temperature at row 1 "
    assert trace_gradient(process).startswith(f"on rank 0: {words}")
    errors = {case: largest_error(process, case) for case in CASES}
    return errors | {"fsdp": largest_error(process, "uneven", "fsdp")}


def compare_4(process: Process) -> dict[str, float]:
    # Of which the last has fewer zonal wavenumbers.
    cases = ("uneven", "pole", "kernel", "position")
    errors = {case: largest_error(process, case) for case in cases}
    mesh = replace(process, spatial=field_group(2, timedelta(minutes=1)))
    return errors | {f"2 x 2 {case}": largest_error(mesh, case) for case in ("padded", "fft")}


def check_rows(process: Process) -> None:
    """Means, norms and whole fields are those of the whole field; so are masks and noise."""
    assert process.spatial is not None
    rows = ShardedRows(RowPartition(11, (0, 1), 3, process.spatial.size), process.spatial)
    field = torch.randn(2, 3, 11, 4, generator=torch.Generator().manual_seed(0))
    mine = field[..., rows.field_slice, :]
    torch.testing.assert_close(rows.mean(mine), field.mean(dim=(-2, -1)))
    norm = torch.linalg.vector_norm(field, dim=(1, 2, 3))
    torch.testing.assert_close(rows.norm(mine, (-3, -2, -1)), norm)
    assert torch.equal(rows.gather(mine), field)
    drop = DropPath(0.5)
    drop.rows = rows
    torch.manual_seed(process.rank)
    for _ in range(3):
        kept = drop(torch.ones(16, mine.shape[-2], 2)).flatten(1)
        assert torch.equal(kept, kept[:, :1].expand_as(kept))
        masks = process.gather(kept[:, 0].tolist())
        assert all(mask == masks[0] for mask in masks)
    states = field[None]
    sample = Sample(states, states, states, torch.ones(1, dtype=torch.int64), torch.ones(1))
    shard = sample._replace(state=states[..., rows.field_slice, :])
    noisy = with_noise(sample, torch.ones(3, 1, 1), 5).state[..., rows.field_slice, :]
    assert torch.equal(with_noise(shard, torch.ones(3, 1, 1), 5, rows).state, noisy)


def work(size: int) -> dict[str, float]:
    with process_group("cpu", spatial_ranks=size) as process:
        if size == 4:
            return compare_4(process)
        check_rows(process)
        return compare_2(process)


@pytest.mark.parametrize("size", [2, 4])
def test_forecasts_and_gradients_are_those_of_one_process(size: int) -> None:
    for errors in on_ranks(size, work, size, joined=False):
        assert len(errors) == (9 if size == 2 else 6)
        assert max(errors.values()) < 1e-11, errors


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten rows, prepared once for all runs."""
    folder = tmp_path_factory.mktemp("data")
    make_dataset(120, LatLonGrid.equiangular(10, 12)).to_netcdf(folder / "data.nc")
    prepare_run(make_config(folder / "data.nc"), folder / "run")
    return folder / "data.nc"


def make_config(data: Path, **training: object) -> ExperimentConfig:
    """Patches of two rows: five for two or four processes. Loss and noise of their own."""
    settings: dict = {
        "stages": [Stage(epochs=1), Stage(epochs=1, num_steps=2)],
        "batch_size": 16,
        "peak_tflops": 1.0,
        "loss": LossConfig(kind="relative_l2"),
        "validation": ValidationConfig(every_steps=3, num_steps=2, num_init_times=3, batch_size=2),
    }
    config = make_experiment(data, **(settings | training))
    network = replace(SMALL, pole="double_fourier_sphere", embed_dim=16)
    validation = Period(start="2001-03-02", end="2001-03-10")
    return replace(
        config,
        model=replace(config.model, network=network),
        data=replace(
            config.data, store=str(data.parent / "run" / "data.zarr"), validation=validation
        ),
    )


def train_shared(process: Process, data: Path, output: Path) -> list[tuple[int, ...]]:
    """Two groups of two stop after three steps, and a group of four resumes."""
    shapes, original, stop = [], Loader.epoch, SignalAfter({2} if process.rank == 3 else ())

    @contextmanager
    def join(
        device: str, *, timeout_minutes: float, spatial_ranks: int, member_ranks: int
    ) -> Iterator[Process]:
        assert member_ranks == 1
        group = field_group(spatial_ranks, timedelta(minutes=timeout_minutes))
        yield replace(process, spatial=group)

    def epoch(self: Loader, *arguments: int) -> Iterator[Sample]:
        for sample in original(self, *arguments):
            if self.shuffle:
                shapes.append(tuple(sample.state.shape))
            yield sample

    Loader.epoch = epoch
    with pytest.raises(TrainingInterruptedError):
        train_run(make_config(data, spatial_ranks=2), output, callbacks=[stop], join=join)
    train_run(make_config(data, spatial_ranks=4), output, join=join)
    states = process.gather(train_with_everything(data, output.with_name("everything"), join))
    assert states == states[:1] * 4
    fail_on_one_band(process, data, output.with_name("failed"), join)
    return shapes


def train_with_everything(data: Path, output: Path, join: Join) -> str:
    """Train with all else that a recipe may have; a digest of this process's weights."""
    config = make_config(
        data,
        spatial_ranks=2,
        stages=[Stage(epochs=1, num_steps=2)],
        batch_size=32,
        accumulate=2,
        precision="bfloat16",
        compress_gradients=True,
        loss=LossConfig(kind="crps"),
        rollout=RolloutConfig(num_members=2, member_noise=0.1, gradient="checkpointed"),
        validation=ValidationConfig(num_steps=0),
    )
    network = replace(
        config.model.network, drop_rate=0.1, drop_path_rate=0.5, checkpoint_activations=True
    )
    digest, original = hashlib.sha256(), Trainer.fit

    def fit(self: Trainer) -> list[ProgressRecord]:
        history = original(self)
        for value in self.objective.forecaster.state_dict().values():
            digest.update(value.numpy().tobytes())
        return history

    Trainer.fit = fit
    train_run(replace(config, model=replace(config.model, network=network)), output, join=join)
    return digest.hexdigest()


def fail_on_one_band(process: Process, data: Path, output: Path, join: Join) -> None:
    """All stop with a message that names the process whose rows are not finite."""
    original = Loader.epoch

    def epoch(self: Loader, *arguments: int) -> Iterator[Sample]:
        for sample in original(self, *arguments):
            if process.rank == 1:
                sample.target[3, 0, 1, 0, 5] = torch.nan
            yield sample

    Loader.epoch = epoch
    place = "on rank 1: the targets of 2m_temperature from step 1 at row 3"
    with rejects("not-finite", "the loss is nan", place):
        train_run(make_config(data, spatial_ranks=2), output, join=join)


def columns(run: Path, *names: str, file: str = "steps.csv") -> np.ndarray:
    with (run / "logs" / file).open(newline="") as text:
        return np.array([[float(row[name]) for name in names] for row in csv.DictReader(text)])


def test_a_run_is_that_of_one_process(data: Path, tmp_path: Path) -> None:
    train_run(make_config(data), tmp_path / "alone")
    shapes = on_ranks(4, train_shared, data, tmp_path / "shared")
    # Each reads its rows of the windows of its group: 8 of 16, then all of them.
    for rank, found in enumerate(shapes):
        assert found[0] == (8, 2, 2, (4, 6)[rank % 2], 12)
        assert found[6] == (16, 2, 2, (2, 2, 2, 4)[rank], 12)
        assert found[8] == (8, 2, 2, (4, 6)[rank % 2], 12)
    runs = tmp_path / "alone", tmp_path / "shared"
    for file, names in (
        ("steps.csv", ("step", "loss", "gradient_norm", "learning_rate")),
        ("validation.csv", ("step", "model")),
    ):
        expected, found = (columns(run, *names, file=file) for run in runs)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert len(columns(runs[1], "flop_utilization")) == 8
    best = [run / "checkpoints" / "best.safetensors" for run in runs]
    (one, _), (other, _) = (read_checkpoint(path) for path in best)
    for name, weight in one.items():
        largest = float(weight.abs().max())
        torch.testing.assert_close(other[name], weight, rtol=0, atol=1e-5 * largest)
    forecaster = load_forecaster(best[1])
    assert forecaster.rows == AllRows()
    assert forecaster(make_states(forecaster, 1, 2), torch.zeros(1, 1, 10, 12)).isfinite().all()


@pytest.mark.parametrize(
    ("network", "rows", "named"),
    [
        (replace(SMALL, mixer="attention"), 8, "attention"),
        (replace(SMALL, boundary=("reflected", "reflected")), 8, "('reflected', 'reflected')"),
        (SMALL, 6, "6 rows"),
        (replace(SMALL, patch_size=(8, 2)), 25, "padding.latitude=reflect"),
    ],
)
def test_networks_that_need_all_rows_are_rejected(
    network: AFNONetConfig, rows: int, named: str
) -> None:
    forecaster = make_forecaster(LatLonGrid.equiangular(rows, 12), network=network)
    group = object.__new__(FieldGroup)  # the first of four; nobody needs to ask the others
    group.rank, group.size = 0, 4
    with rejects("bad-setting", "training.spatial_ranks=4", named):
        shard_rows(forecaster, Process(spatial=group))
    assert forecaster.rows == AllRows()


def test_columns_mirrored_at_their_ends_are_not_sharded() -> None:
    network = replace(SMALL, boundary=("periodic", "mirrored"), patch_size=(2, 1))
    group = object.__new__(FieldGroup)
    group.rank, group.size = 0, 2
    rows = ShardedRows(RowPartition(8, (0, 0), 2, 2, False), group)
    with pytest.raises(ValueError, match="boundary="):
        AFNONet(1, 1, config=network).shard(rows)


def test_settings_that_do_not_fit_are_rejected() -> None:
    with pytest.raises(ValueError, match=r"needs training.compile=off"):
        TrainingConfig(spatial_ranks=2, compile="default")
    with pytest.raises(ValueError, match=r"training.spatial_ranks"):
        TrainingConfig(spatial_ranks=0)


def test_rows_of_a_store(data: Path) -> None:
    store = open_store(str(data.parent / "run" / "data.zarr"), make_config(data).data)
    shard = pickle.loads(pickle.dumps(store.select_rows(slice(3, 7))))
    assert shard.grid.latitude == store.grid.latitude[3:7]
    times = np.arange(5, 8)
    assert np.array_equal(shard.states.read(times), store.states.read(times)[..., 3:7, :])
    cropped = PreparedStore(store.path, CropConfig(north=50.0, west=-40.0, east=100.0))
    rows = slice(1, 5)
    part = cropped.select_rows(rows)
    assert np.array_equal(part.states.read(times), cropped.states.read(times)[..., rows, :])
    assert part.grid.longitude == cropped.grid.longitude
