"""Precision of matrix products."""

import json
from pathlib import Path

import pytest
import torch

from fourcastnet_afno.forecaster.checkpoint import read_checkpoint
from fourcastnet_afno.training.precision import autocast, matrix_precision
from fourcastnet_afno.workflows.train import train_run
from tests.builders.runs import (
    make_dropless_experiment,
)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_trains(precision: str, data: Path, tmp_path: Path, alone: Path) -> None:
    train_run(make_dropless_experiment(data, precision=precision), tmp_path)
    last = json.loads((tmp_path / "history.json").read_text())[-1]["validation_loss"]
    expected = json.loads((alone / "history.json").read_text())[-1]["validation_loss"]
    assert last == pytest.approx(expected, rel=0.1)
    _, metadata = read_checkpoint(tmp_path / "checkpoints" / "last.safetensors", "none")
    assert (metadata["scaler"] != {}) == (precision == "float16")


def test_autocast_by_name() -> None:
    x = torch.ones(2, 2)
    with pytest.raises(ValueError, match="settled first"):
        autocast(x.device, "auto")
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with matrix_precision(x.device, precision), autocast(x.device, precision):  # type: ignore[arg-type]
            assert (x @ x).dtype == dtype
