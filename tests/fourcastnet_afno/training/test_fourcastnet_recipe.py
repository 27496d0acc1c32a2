from dataclasses import replace
from pathlib import Path

import pytest
import torch

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.cli.parser import parse
from fourcastnet_afno.forecaster.diagnostic_head import DiagnosticHead
from fourcastnet_afno.training.build_loss import build_diagnostic_loss
from fourcastnet_afno.training.objectives import DiagnosticLoss
from fourcastnet_afno.workflows.config import ExperimentConfig
from tests.builders.experiments import make_forecaster, make_states

CONFIGS = Path(__file__).parents[3] / "configs"


def parsed(verb: str, preset: str, recipe: str, *words: str) -> ExperimentConfig:
    overlays = (preset, "channels/fourcastnet_20", f"recipes/{recipe}")
    files = [f"--config={CONFIGS / name}.yaml" for name in overlays]
    return parse(verb, [*files, *words])["config"]


@pytest.mark.parametrize(
    "preset",
    ["weatherbench2_64x32", "weatherbench2_240x121", "weatherbench2_1440x721", "arco_era5"],
)
def test_the_recipe_of_fourcastnet_suits_every_preset(preset: str) -> None:
    config = parsed("train", preset, "fourcastnet")
    stages = [(s.epochs, s.num_steps, s.learning_rate) for s in config.training.stages]
    assert stages == [(80, 1, 5e-4), (50, 2, 1e-4)]
    assert config.training.batch_size == 64
    model = config.model
    assert (model.prediction, model.num_history, model.network.wavenumber_weights) == (
        "direct", 1, "none",
    )  # fmt: skip
    assert (model.band_limit, model.short_waves, model.damping_days) == (None, "persist", None)
    loss, optimizer = config.training.loss, config.training.optimizer
    assert (loss.kind, loss.scale, loss.area_weights) == ("relative_l2", "state", False)
    assert (optimizer.betas, optimizer.eps, optimizer.weight_decay) == ((0.9, 0.999), 1e-8, 0)
    assert config.training.gradient_clip == 0
    assert len(config.data.prognostic) == 20


def test_the_head_of_the_recipe_by_hand() -> None:
    """Its loss is ||log(1 + tp / 1e-5) - ReLU(z)|| / ||log(1 + tp / 1e-5)|| about no mean."""
    words = ("--checkpoint=backbone.safetensors", "--output=run")
    config = parsed(
        "train-diagnostic", "weatherbench2_1440x721", "fourcastnet_precipitation", *words
    )
    (stage,) = config.training.stages
    assert (stage.epochs, stage.num_steps, stage.learning_rate) == (25, 1, 2.5e-4)
    assert config.training.optimizer.betas == (0.9, 0.999)
    assert config.data.diagnostic == ["total_precipitation_6hr"]
    assert len(config.data.prognostic) == 20
    small = replace(config.diagnostic.network, embed_dim=16, depth=1, num_blocks=4)
    grid = LatLonGrid.equiangular(16, 32)
    forecaster = make_forecaster(grid)
    head = DiagnosticHead(
        replace(config.diagnostic, network=small),
        forecaster,
        Channels((Channel(name="total_precipitation_6hr", units="m"),)),
        mean=torch.tensor([1e-3]),
        std=torch.tensor([2e-3]),
    )
    training = config.training
    objective = DiagnosticLoss(
        head, forecaster, build_diagnostic_loss(training.loss, head), training.rollout
    )
    state, forcing = make_states(forecaster, 2, 1), torch.zeros(2, 1, 1, *grid.shape)
    generator = torch.Generator().manual_seed(0)
    rain = 1e-3 * torch.rand(2, 1, 1, *grid.shape, generator=generator)
    with torch.no_grad():
        found = objective(state, forcing, rain)
        following = forecaster(state, forcing[:, 0])
        amount = head(following)
        wanted = torch.log1p(rain[:, 0] / 1e-5)
        error = torch.log1p(amount / 1e-5) - wanted
    norms = [x.square().sum(dim=(1, 2, 3)).sqrt() for x in (error, wanted)]
    torch.testing.assert_close(found, norms[0] / norms[1], rtol=1e-4, atol=1e-5)
    assert (amount >= 0).all()
