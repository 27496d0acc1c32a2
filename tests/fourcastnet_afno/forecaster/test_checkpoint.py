"""Checkpoints of a forecaster; those of a run are in ``training``."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_pipeline.grids.grid import Grid, LatLonGrid
from data_pipeline.grids.plane import PlaneGrid
from fourcastnet_afno.forecaster.checkpoint import (
    add_prefix,
    fingerprint_of,
    load_forecaster,
    read_checkpoint,
    save_checkpoint,
    strip_prefix,
)
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states


@pytest.mark.parametrize("grid", [LatLonGrid.equiangular(6, 12), PlaneGrid.regular(6, 12)])
def test_a_loaded_forecaster_is_the_saved_one(grid: Grid, tmp_path: Path) -> None:
    saved = make_forecaster(grid, num_history=2).eval()  # type: ignore[arg-type]
    save_checkpoint(tmp_path / "a.safetensors", saved, {}, {"position": {"step": 3}})
    loaded = load_forecaster(tmp_path / "a.safetensors")
    assert (loaded.spec, loaded.config) == (saved.spec, saved.config)
    assert fingerprint_of(loaded) == fingerprint_of(saved)
    state, forcing = make_states(saved, 1, 2), torch.zeros(1, 1, *grid.shape)
    assert torch.equal(loaded(state, forcing), saved(state, forcing))
    tensors, metadata = read_checkpoint(tmp_path / "a.safetensors", "none")
    assert not tensors
    assert metadata["position"] == {"step": 3}


def test_fingerprints_know_weights_and_meaning() -> None:
    one, same, other, coarser = (make_forecaster() for _ in range(4))
    with torch.no_grad():
        other.network.patch_recovery.projection.bias[0] += 1e-6
    coarser.spec = make_forecaster(LatLonGrid.equiangular(8, 16)).spec
    digests = [fingerprint_of(forecaster) for forecaster in (one, same, other, coarser)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_other_files_are_rejected(tmp_path: Path) -> None:
    with rejects("no-checkpoint", "none.safetensors"):
        read_checkpoint(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with rejects("unreadable-file", "text.safetensors"):
        read_checkpoint(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "old.safetensors", {"format": "0"})
    with rejects("other-format", "old.safetensors", "'0'", "'1'"):
        read_checkpoint(tmp_path / "old.safetensors")


def test_prefixes_are_inverse() -> None:
    tensors = {"a.b": torch.zeros(1), "c": torch.ones(2)}
    assert strip_prefix("x", {**add_prefix("x", tensors), "xy.d": torch.ones(3)}) == tensors
