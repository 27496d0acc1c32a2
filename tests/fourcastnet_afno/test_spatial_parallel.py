"""Processes that share each field: the same numbers as one process, at every place."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from data_pipeline.dataset import Sample
from data_pipeline.grid import LatLonGrid
from fourcastnet_afno.bands import Band, Cut, Layout, even_counts
from fourcastnet_afno.distributed import Parallel, Process, field_group, full, launched, wrap
from fourcastnet_afno.finetuning import RolloutConfig, build_loss
from fourcastnet_afno.forecaster import Forecaster
from fourcastnet_afno.losses import LossConfig
from fourcastnet_afno.models.afno import AFNONetConfig
from fourcastnet_afno.models.layers import DropPath, Padding
from fourcastnet_afno.spatial import share_fields
from fourcastnet_afno.updating import RolloutLoss, with_noise
from tests.builders import make_forecaster, make_states
from tests.processes import on_ranks

SMALL = AFNONetConfig(patch_size=(2, 2), embed_dim=8, depth=2, num_blocks=2)
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
        LossConfig(kind="l1"), "full",
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
    forecaster = make_forecaster(LatLonGrid.equiangular(rows, columns), network=network)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in forecaster.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    fields = [
        make_states(forecaster, 4, 1, seed=2),
        torch.randn(4, 2, 1, rows, columns, generator=generator),
        make_states(forecaster, 4, 2, seed=3),
    ]
    return MeanLoss(forecaster, loss, gradient), fields


def share_of(process: Process, fields: list[Tensor], band: Band | None) -> list[Tensor]:
    rows = band.rows if band else slice(None)
    return [f.chunk(process.data_size)[process.data_rank][..., rows, :] for f in fields]


def largest_error(process: Process, case: str, parallel: Parallel = "ddp") -> float:
    """Of forecast, loss and gradients against one process, each over its largest value."""
    alone, fields = module_and_fields(case)
    expected = alone(*fields)
    expected.backward()
    forecaster = module_and_fields(case)[0].rollout.forecaster
    share_fields(forecaster, process)
    shared, mine = (
        MeanLoss(forecaster, *CASES[case][3:]),
        share_of(process, fields, forecaster.band),
    )
    wrapped = wrap(shared, process, parallel, shards=[*forecaster.network.blocks, forecaster])
    loss = wrapped(*mine)
    loss.backward()
    errors = [error(process.reduce_mean(loss.detach()), expected.detach())]
    with torch.no_grad():
        forecast = alone.rollout.forecaster(fields[0], fields[1][:, 0]) - fields[0][:, 0]
        (part,) = share_of(process, [forecast], forecaster.band)
        errors.append(error(forecaster(mine[0], mine[1][:, 0]) - mine[0][:, 0], part))
    for ours, theirs in zip(shared.parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        errors.append(error(full(ours.grad), theirs.grad))
    return max(errors)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def compare_2(process: Process) -> dict[str, float]:
    errors = {case: largest_error(process, case) for case in CASES}
    return errors | {"fsdp": largest_error(process, "uneven", "fsdp")}


def compare_4(process: Process) -> dict[str, float]:
    cases = ("uneven", "pole", "position")  # Of which the last has fewer zonal wavenumbers.
    errors = {case: largest_error(process, case) for case in cases}
    mesh = replace(process, spatial=field_group(process.device, 4, 2))
    return errors | {f"2 x 2 {case}": largest_error(mesh, case) for case in ("padded", "fft")}


def laws(process: Process) -> None:
    """Round trip and adjoints of the exchanges, over all processes together."""
    group = process.spatial
    assert group is not None
    generator = torch.Generator().manual_seed(process.rank)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def inner(x: Tensor, y: Tensor) -> Tensor:
        return process.reduce_sum((x * y).sum())

    size, rank = group.size, group.rank
    rows, columns = Cut(1, even_counts(5, size)), Cut(2, (0, *even_counts(7, size - 1)))
    x, y = random(2, rows.counts[rank], 7, 3), random(2, 5, columns.counts[rank], 3)
    there = group.transpose(x, split=columns, join=rows)
    assert there.shape == y.shape
    assert torch.equal(group.transpose(there, split=rows, join=columns), x)
    back = group.transpose(y, split=rows, join=columns)
    torch.testing.assert_close(inner(there, y), inner(x, back))
    a, b = random(4).requires_grad_(), random(4)
    total = group.sum(a)
    (adjoint,) = torch.autograd.grad((total * b).sum(), a)
    torch.testing.assert_close(inner(total.detach(), b), inner(a.detach(), adjoint))


def bands(process: Process) -> None:
    """Means, norms and whole fields are those of the whole field; so are masks and noise."""
    assert process.spatial is not None
    band = Band(Layout(11, (0, 1), 3, process.spatial.size), process.spatial)
    field = torch.randn(2, 3, 11, 4, generator=torch.Generator().manual_seed(0))
    mine = field[..., band.rows, :]
    torch.testing.assert_close(band.mean(mine), field.mean(dim=(-2, -1)))
    norm = torch.linalg.vector_norm(field, dim=(1, 2, 3))
    torch.testing.assert_close(band.norm(mine, (-3, -2, -1)), norm)
    assert torch.equal(band.whole(mine), field)
    drop = DropPath(0.5)
    drop.band = band
    torch.manual_seed(process.rank)
    for _ in range(3):
        kept = drop(torch.ones(16, band.num_rows, 2)).flatten(1)
        assert torch.equal(kept, kept[:, :1].expand_as(kept))
        masks = process.gather(kept[:, 0].tolist())
        assert all(mask == masks[0] for mask in masks)
    states = field[None]
    sample = Sample(states, states, states, torch.ones(1, dtype=torch.int64), torch.ones(1))
    rows = sample._replace(state=states[..., band.rows, :])
    noisy = with_noise(sample, torch.ones(3, 1, 1), 5).state[..., band.rows, :]
    assert torch.equal(with_noise(rows, torch.ones(3, 1, 1), 5, band).state, noisy)


def work(size: int) -> dict[str, float]:
    with launched("cpu", spatial_ranks=size) as process:
        laws(process)
        if size == 4:
            return compare_4(process)
        bands(process)
        return compare_2(process)


@pytest.mark.parametrize("size", [2, 4])
def test_forecasts_and_gradients_are_those_of_one_process(size: int) -> None:
    for errors in on_ranks(size, work, size, joined=False):
        assert len(errors) == (8 if size == 2 else 5)
        assert max(errors.values()) < 5e-6, errors
