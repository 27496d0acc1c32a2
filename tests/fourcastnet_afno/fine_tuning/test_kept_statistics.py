from dataclasses import replace
from pathlib import Path

import torch

from data_pipeline.channels import Channel, Channels
from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.fine_tuning.kept_statistics import kept_statistics
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster

OWN = {"mean": torch.tensor([1.0, 2.0]), "std": torch.ones(2), "diff_std": torch.ones(2)}


def test_known_channels_have_the_statistics_of_the_checkpoint(tmp_path: Path) -> None:
    saved = make_forecaster()
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {})
    channels = Channels((Channel(name="new"), saved.spec.channels.channels[0]))
    spec = replace(saved.spec, channels=channels)
    kept = kept_statistics(OWN, spec, tmp_path / "a.safetensors")
    assert {name: values.tolist() for name, values in kept.items()} == {
        "mean": [1.0, 5e4],
        "std": [1.0, 1e3],
        "diff_std": [1.0, 300.0],
    }


def test_a_mean_state_needs_the_same_grid(tmp_path: Path) -> None:
    saved = make_forecaster(damping_days=5.0)
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {})
    own = OWN | {"mean_state": torch.zeros(2, *saved.spec.grid.shape)}
    kept = kept_statistics(own, saved.spec, tmp_path / "a.safetensors")
    assert torch.equal(kept["mean_state"], saved.state_dict()["mean_state"])
    finer = replace(saved.spec, grid=LatLonGrid.equiangular(12, 24))
    with rejects("grid-mismatch", "training.statistics=kept", "folded"):
        kept_statistics(own, finer, tmp_path / "a.safetensors")
