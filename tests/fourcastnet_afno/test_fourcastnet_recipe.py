from pathlib import Path

import pytest

from fourcastnet_afno.cli import build_parser

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.mark.parametrize(
    "preset",
    ["weatherbench2_64x32", "weatherbench2_240x121", "weatherbench2_1440x721", "arco_era5"],
)
def test_the_recipe_of_fourcastnet_suits_every_preset(preset: str) -> None:
    overlays = (preset, "channels/fourcastnet_20", "recipes/fourcastnet")
    words = [f"--config={CONFIGS / name}.yaml" for name in overlays]
    parser = build_parser()
    config = parser.instantiate(parser.parse_args(["train", *words])).train
    stages = [(s.epochs, s.num_steps, s.learning_rate) for s in config.training.stages]
    assert stages == [(80, 1, 5e-4), (50, 2, 1e-4)]
    assert config.training.batch_size == 64
    assert config.model.prediction == "direct"
    assert len(config.data.prognostic) == 20
