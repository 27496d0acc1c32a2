"""Exported forecasters compute the same, and roll out without this package."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fourcastnet_afno import rollout
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.forecaster.checkpoint import load_forecaster, save_checkpoint
from fourcastnet_afno.forecaster.config import ExportFormat, ModelConfig
from fourcastnet_afno.forecaster.export import example_inputs, export_checkpoint, exportable
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from tests.builders.errors import rejects
from tests.builders.limits import small_files
from tests.fourcastnet_afno.forecaster.test_forecaster import DIFF_STD, MEAN, STD, make_forecaster

ROLLOUT = """
import sys, json
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
state, forcing = np.load(sys.argv[2]), np.load(sys.argv[3])
for step in range(4):
    feeds = {"state": state, "forcing": forcing[step]}
    (following,) = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
    state = np.concatenate([state[:, 1:], following[:, None]], axis=1)
np.save(sys.argv[4], following)
assert not {"torch", "fourcastnet_afno", "data_pipeline"} & set(sys.modules)
meta = session.get_modelmeta().custom_metadata_map["fourcastnet_afno"]
assert [c["name"] for c in json.loads(meta)["channels"]] == ["pressure", "temperature"]
"""


def make_checkpoint(path: Path, **network: object) -> Path:
    """A forecaster with land, whose weights are large enough for mixers to matter."""
    small = make_forecaster()
    settings: dict = {"patch_size": (2, 2), "embed_dim": 8, "depth": 1, "num_blocks": 2}
    noise = network.pop("noise", NoiseConfig())
    assert isinstance(noise, NoiseConfig)
    config = ModelConfig(
        num_history=2,
        band_limit=0.7,
        band_edge="smooth",
        damping_power=1,
        damping_days=5.0,
        noise=noise,
        network=AFNONetConfig(**(settings | network)),
    )
    torch.manual_seed(0)
    fields = {"mean": MEAN, "std": STD, "diff_std": DIFF_STD, "static": torch.zeros(0, 6, 12)}
    filled = torch.full((2, 6, 12), torch.nan)
    filled[1, 2:4, 3:5] = 271.5
    mean_state = MEAN[:, None, None].expand(-1, 6, 12)
    forecaster = Forecaster(config, small.spec, **fields, filled=filled, mean_state=mean_state)
    for parameter in forecaster.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    save_checkpoint(path, forecaster, {}, {})
    return path


NETWORKS = [
    {"transform": "fft", "noise": NoiseConfig(length_scales=[3000.0], channels=2)},
    {"boundary": ("reflected", "zero_padded"), "hard_thresholding_fraction": 0.5},
    {"boundary": ("mirrored", "periodic"), "patch_size": (1, 2), "wavenumber_weights": "kernel"},
]
"""In addition to that of the rollout; each export takes seconds."""


@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_onnx_equals_the_network(tmp_path: Path, network: dict) -> None:
    checkpoint = make_checkpoint(tmp_path / "c.safetensors", **network)
    record = export_checkpoint(checkpoint, tmp_path / "m.onnx", batch_size=2)
    assert record["largest_difference"] < 1e-4
    assert {path.name for path in tmp_path.iterdir()} == {"c.safetensors", "m.onnx", "m.onnx.json"}
    forecaster = load_forecaster(checkpoint)
    inputs = example_inputs(forecaster, 2)
    with torch.no_grad():
        change = (forecaster(*inputs) - inputs[0][:, -1]) / forecaster.scales.std
    assert change.std() > 0.1  # the network says something at all


def test_an_onnx_rollout_needs_neither_torch_nor_this_package(tmp_path: Path) -> None:
    network = {"pole": "double_fourier_sphere", "vector_channels": 2}
    checkpoint = make_checkpoint(tmp_path / "c.safetensors", **network)
    export_checkpoint(checkpoint, tmp_path / "m.onnx", batch_size=2)
    forecaster = load_forecaster(checkpoint)
    state, _ = example_inputs(forecaster, 2)
    hours = np.arange(4)[:, None] * np.timedelta64(6, "h")
    times = np.array(["2000-01-01", "2000-06-01"], "datetime64[ns]") + hours
    forcings = [forecaster.forcing_at(at) for at in times]
    np.save(tmp_path / "state.npy", state.numpy())
    np.save(tmp_path / "forcing.npy", torch.stack(forcings).numpy())
    names = ("m.onnx", "state.npy", "forcing.npy", "result.npy")
    run = subprocess.run(
        [sys.executable, "-c", ROLLOUT, *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    with torch.no_grad():
        *_, expected = rollout(forecaster, state, forcings, 4)
    difference = (torch.from_numpy(np.load(tmp_path / "result.npy")) - expected).abs()
    assert (difference / forecaster.scales.std).max() < 1e-4


def test_torch_export_holds_no_operator_of_this_package(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "c.safetensors")
    export_checkpoint(checkpoint, tmp_path / "m.pt2", kind="torch_export")
    program = torch.export.load(tmp_path / "m.pt2")
    assert "fourcastnet_afno" not in str(program.graph)


def test_a_full_disk_does_not_end_the_process(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "c.safetensors")
    with small_files(), rejects("disk-full", str(tmp_path / "m.pt2")):
        export_checkpoint(checkpoint, tmp_path / "m.pt2", kind="torch_export")
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
def test_aot_inductor_equals_the_network(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "c.safetensors")
    words = [f"--checkpoint={checkpoint}", f"--output={tmp_path / 'm.pt2'}"]
    assert main(["export", *words, "--format=aot_inductor"]) == 0
    assert json.loads((tmp_path / "m.pt2.json").read_text())["largest_difference"] < 1e-4


@pytest.mark.parametrize("kind", ["onnx", "torch_export", "aot_inductor"])
def test_a_file_of_somebody_else_next_to_a_description_stays(
    tmp_path: Path, kind: ExportFormat
) -> None:
    path = tmp_path / ("m.onnx" if kind == "onnx" else "m.pt2")
    path.write_text("years of work")
    record = {"inputs": {}, "format": kind, "checkpoint": "c", "largest_difference": 0.0}
    path.with_name(f"{path.name}.json").write_text(json.dumps(record))
    with rejects("output-exists", path.name):
        export_checkpoint(make_checkpoint(tmp_path / "c.safetensors"), path, kind=kind)
    assert path.read_text() == "years of work"


def test_exporting_leaves_the_forecaster_as_it_is() -> None:
    forecaster = make_forecaster().train()
    copy = exportable(forecaster)
    assert forecaster.training
    assert all(p.requires_grad for p in forecaster.parameters())
    assert not any(p.requires_grad for p in copy.parameters())


@pytest.mark.parametrize(
    ("network", "output", "named"),
    [({}, "m.pt", "m.pt"), ({"mixer": "fno"}, "m.onnx", "model.network.mixer=fno")],
)
def test_impossible_exports_are_rejected(
    tmp_path: Path, network: dict, output: str, named: str
) -> None:
    checkpoint = make_checkpoint(tmp_path / "c.safetensors", **network)
    with rejects("bad-setting", named):
        export_checkpoint(checkpoint, tmp_path / output)
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fourcastnet_afno.forecaster.export.find_spec", lambda name: None)
    with rejects("missing-package", "onnx", "pip install"):
        export_checkpoint(tmp_path / "c.safetensors", tmp_path / "m.onnx")
