"""Losses of forecasters and heads; other laws of theirs are in ``losses`` and ``forecaster``."""

from functools import partial

import pytest
import torch

from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.losses.config import LossChanges, LossConfig
from fourcastnet_afno.training.build_loss import build_loss, build_stage_losses
from fourcastnet_afno.training.config import Stage, TrainingConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states


def test_the_loss_knows_the_forecaster() -> None:
    """Persistence of a change by one standard deviation has the loss 1; pressure weights are on."""
    forecaster = make_forecaster()
    loss = build_loss(LossConfig(level_weights="pressure"), forecaster)
    state = make_states(forecaster, 2)
    torch.testing.assert_close(
        loss(state, state + forecaster.diff_std), torch.ones(2), rtol=1e-3, atol=0
    )
    masked = torch.ones(2, *forecaster.spec.grid.shape)
    masked[1] = 0
    loss = build_loss(LossConfig(), forecaster, masked)
    first = forecaster.diff_std * torch.tensor([2.0, 7.0])[:, None, None]
    torch.testing.assert_close(loss(state, state + first), torch.full((2,), 4.0), rtol=1e-3, atol=0)


def test_unknown_labels_are_rejected() -> None:
    with rejects("bad-setting", "training.loss.channel_weights", "['t500']"):
        build_loss(LossConfig(channel_weights={"t500": 1.0}), make_forecaster())


@pytest.mark.parametrize("basis", ["spherical_harmonics", "zonal"])
def test_spectra_of_planes_are_along_x(basis: str) -> None:
    forecaster = make_forecaster(PlaneGrid.regular(6, 12))  # type: ignore[arg-type]
    config = LossConfig(kind="amse", spectral_basis=basis)  # type: ignore[arg-type]
    if basis == "zonal":
        assert build_loss(config, forecaster).spectrum is not None
        return
    with rejects("needs-sphere", "training.loss.spectral_basis=spherical_harmonics"):
        build_loss(config, forecaster)


def test_stages_of_the_same_loss_share_it() -> None:
    changes = [None, LossChanges(kind="l1"), LossChanges(kind="mse"), LossChanges(kind="l1")]
    config = TrainingConfig(stages=[Stage(loss=loss) for loss in changes])
    losses = build_stage_losses(config, partial(build_loss, forecaster=make_forecaster()))
    assert [loss.config.kind for loss in losses] == ["mse", "l1", "mse", "l1"]
    assert losses[0] is losses[2]
    assert losses[1] is losses[3]
