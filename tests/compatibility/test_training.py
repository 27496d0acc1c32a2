"""A training that the code of before has begun."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

from fourcastnet_afno.cli import main
from tests.compatibility.conftest import ARTIFACTS, MANIFEST
from tests.compatibility.machine import rounds_alike

# Adam divides each gradient by its own size, so that roundings of small ones reach the weights.
ROUNDING = 1e-2


def metadata(path: Path) -> dict:
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["metadata"])


def losses(run: Path) -> list[float]:
    return [epoch["validation_loss"] for epoch in json.loads((run / "history.json").read_text())]


def check_same(found: Path, before: Path) -> None:
    """Compare checkpoints tensor by tensor: to the bit on the same machine, else in norm."""
    now, then = load_file(found), load_file(before)
    assert now.keys() == then.keys()
    for name, values in then.items():
        if rounds_alike(MANIFEST["machine"]):
            np.testing.assert_array_equal(now[name], values, err_msg=name)
        else:
            difference = np.linalg.norm(now[name].astype(float) - values)
            assert difference <= ROUNDING * max(np.linalg.norm(values), 1e-2), name


def test_an_interrupted_training_ends_as_if_it_had_not_been(unpack: Callable[..., Path]) -> None:
    folder = unpack("planet_store", "planet_run", "stopped_run")
    whole, stopped = folder / "planet", folder / "stopped"
    (whole / "data.zarr").rename(stopped / "data.zarr")
    begun = losses(stopped)
    assert len(begun) == 1
    assert main(["train", f"--config={ARTIFACTS / 'planet.yaml'}", "--output=stopped"]) == 0
    for name in ("best", "last"):
        file = Path("checkpoints") / f"{name}.safetensors"
        check_same(stopped / file, whole / file)
        if name == "last":
            now, then = (metadata(run / file)["position"] for run in (stopped, whole))
            assert (now["stage"], now["step"]) == (then["stage"], then["step"])
    assert losses(stopped)[:1] == begun
    rtol = 0 if rounds_alike(MANIFEST["machine"]) else 1e-4
    np.testing.assert_allclose(losses(stopped), losses(whole), rtol=rtol)


def test_training_a_finished_run_again_changes_nothing(unpack: Callable[..., Path]) -> None:
    folder = unpack("planet_store", "planet_run")
    files = sorted((folder / "planet" / "checkpoints").iterdir())
    before = [file.read_bytes() for file in files]
    # With the config.yaml that it has kept.
    assert main(["train", "--output=planet"]) == 0
    assert [file.read_bytes() for file in files] == before
