"""Checkpoints of the commit before: a forecaster, and a head behind it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from fourcastnet_afno import open_forecast
from fourcastnet_afno.cli import main
from tests.compatibility.conftest import MANIFEST
from tests.compatibility.public_calls import rolled_out, scored

RUN = ("planet_store", "planet_run")
FLOAT32 = 1e-5


def test_a_forecaster_predicts_the_same(
    unpack: Callable[..., Path],
    expected: dict[str, np.ndarray],
    assert_computed: Callable[..., None],
) -> None:
    run = unpack(*RUN) / "planet"
    forecast = rolled_out(run)
    for name in ("u_component_of_wind", "geopotential"):
        assert_computed(forecast[name].values, expected[f"rollout/{name}"], rounding=FLOAT32)
    scores = scored(forecast, run / "data.zarr")
    for name in ("rmse", "acc"):  # differences of fields that are close to each other
        assert_computed(scores[name].values, expected[f"scores/{name}"], rounding=1e-3)


def test_a_head_predicts_the_same_behind_its_forecaster(
    unpack: Callable[..., Path], assert_computed: Callable[..., None]
) -> None:
    unpack(*RUN, "head_run", "vorticity")
    _, *words = MANIFEST["commands"]["forecast with a head"].split()
    assert main(["forecast", *words[:-1], "--output=now.zarr"]) == 0
    now, before = (open_forecast(Path(f"{name}.zarr")) for name in ("now", "vorticity"))
    assert set(now) == {"u_component_of_wind", "geopotential", "relative_vorticity"}
    for name in now:
        assert_computed(now[name].values, before[name].values, rounding=FLOAT32)


def test_training_a_finished_head_again_changes_nothing(unpack: Callable[..., Path]) -> None:
    folder = unpack(*RUN, "head_run")
    best = folder / "head" / "checkpoints" / "best.safetensors"
    before = best.read_bytes()
    words = ["--checkpoint=planet/checkpoints/best.safetensors", "--output=head"]
    assert main(["train-diagnostic", *words]) == 0
    assert best.read_bytes() == before
