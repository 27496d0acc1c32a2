"""Checkpoints run by anemoi-inference's own runners; those tests need it installed."""

import datetime
import json
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data_pipeline.grids.grid import LatLonGrid
from fourcastnet_afno.cli.main import main
from fourcastnet_afno.forecaster.checkpoint import save_checkpoint
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.inference.perturbations import noise_of
from fourcastnet_afno.inference.rollout import forcings_from, rollout
from fourcastnet_afno.interop.anemoi import export_anemoi, model_from
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig
from tests.builders.errors import rejects
from tests.builders.experiments import make_forecaster, make_states
from tests.builders.open_data import grib_message

UNITS = ("m2 s-2", "K")
NAMES = ["z_500", "2t"]
START = np.datetime64("2020-03-01T12", "ns")
DATE = datetime.datetime(2020, 3, 1, 12)
NUM_STEPS = 3


def noisy() -> Forecaster:
    noise = NoiseConfig(length_scales=[4000.0], channels=1, memory_hours=12.0)
    forecaster = make_forecaster(units=UNITS, noise=noise)
    for name, parameter in forecaster.named_parameters():
        if "modulation" in name:  # which starts without effect
            torch.nn.init.constant_(parameter, 3.0)
    return forecaster


FORECASTERS = {
    "one state": lambda: make_forecaster(units=UNITS),
    "two states": lambda: make_forecaster(units=UNITS, num_history=2),
    "noise": noisy,
}


@pytest.fixture(params=FORECASTERS)
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    return FORECASTERS[request.param]().eval()


def exported(forecaster: Forecaster, folder: Path) -> Path:
    save_checkpoint(folder / "c.safetensors", forecaster, {}, {})
    export_anemoi(folder / "c.safetensors", folder / "model.ckpt")
    return folder / "model.ckpt"


def expected(forecaster: Forecaster, states: Tensor, seed: int = 0, member: int = 0) -> Tensor:
    """States (lead, channel, lat, lon) of our own rollout."""
    times = np.array([START])
    noise = noise_of(forecaster, seed, times, np.array([member]))
    with torch.no_grad():
        steps = rollout(forecaster, states, forcings_from(forecaster, times, noise), NUM_STEPS)
        return torch.cat([*steps])


def content_of(path: Path, name: str) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(f"archive/{name}")


def test_a_step_is_that_of_rollout_bit_for_bit(forecaster: Forecaster, tmp_path: Path) -> None:
    """With the bytes of the checkpoint in the file, which tools that read zip files can get."""
    content = np.frombuffer(content_of(exported(forecaster, tmp_path), "data/0"), np.uint8)
    model = model_from(torch.from_numpy(content.copy()))
    states = make_states(forecaster, 1, forecaster.num_history)
    history = states.flatten(3).mT.clone()
    for step, state in enumerate(expected(forecaster, states, seed=5, member=2)):
        date = DATE + (step + 1) * datetime.timedelta(hours=6)
        given = {"date": date, "step": date - DATE, "fcstep": step, "seed": 5, "member": 2}
        found = model.predict_step({"data": history}, **given)["data"]
        assert found.shape == (1, 1, 1, 72, 2)
        assert torch.equal(found[0, 0, 0].T.reshape(state.shape), state)
        history = torch.cat([history[:, 1:], found[:, 0]], dim=1)


def test_the_pickle_calls_one_function_of_ours_and_rebuilds_a_tensor(tmp_path: Path) -> None:
    path = exported(make_forecaster(), tmp_path)
    found = {
        str(argument)
        for code, argument, _ in pickletools.genops(content_of(path, "data.pkl"))
        if code.name == "GLOBAL"
    }
    assert found == {
        "fourcastnet_afno.interop.anemoi model_from",
        "torch._utils _rebuild_tensor_v2",
        "torch ByteStorage",
        "collections OrderedDict",
    }


def test_variables_without_a_name_of_ecmwf_keep_theirs(tmp_path: Path) -> None:
    path = exported(make_forecaster(units=("km", "degC")), tmp_path)
    record = json.loads(content_of(path, "anemoi-metadata/anemoi.json"))["dataset"]["data"]
    assert record["variables"] == ["geopotential_500", "2m_temperature"]
    assert record["variables_metadata"]["2m_temperature"] == {"units": "degC", "mars": {}}


def test_it_replaces_its_own_files_alone(tmp_path: Path) -> None:
    path = exported(make_forecaster(), tmp_path)
    export = ["export", f"--checkpoint={tmp_path / 'c.safetensors'}", "--format=anemoi"]
    assert main([*export, f"--output={path}"]) == 0
    assert main([*export, f"--output={path}", "--batch_size=2"]) == 2
    (tmp_path / "other.ckpt").write_bytes(b"weights")
    torch.save({"a": 1}, tmp_path / "torch.ckpt")
    for name in ("other.ckpt", "torch.ckpt"):
        with rejects("output-exists", name):
            export_anemoi(tmp_path / "c.safetensors", tmp_path / name)
    with rejects("bad-setting", "model.onnx", ".ckpt"):
        export_anemoi(tmp_path / "c.safetensors", tmp_path / "model.onnx")


def test_damaged_bytes_are_named() -> None:
    with rejects("unreadable-file"):
        model_from(torch.zeros(100, dtype=torch.uint8))


def runner(path: Path, **options: object):  # noqa: ANN201
    runners = pytest.importorskip(
        "anemoi.inference.runners.simple", reason="needs anemoi-inference"
    )
    return runners.SimpleRunner(str(path), device="cpu", **options)


@pytest.mark.filterwarnings("default")  # of its dependencies
def test_forecasts_of_the_simple_runner_are_those_of_rollout_bit_for_bit(
    forecaster: Forecaster, tmp_path: Path
) -> None:
    options = {"seed": 5, "member": 2} if forecaster.noise else {}
    simple = runner(exported(forecaster, tmp_path), predict_kwargs=options)
    metadata = simple.checkpoint.multi_dataset_metadata["data"]
    assert simple.checkpoint.lagged[0] == (1 - forecaster.num_history) * datetime.timedelta(hours=6)
    latitude, longitude = np.meshgrid(*forecaster.spec.grid.coords.values(), indexing="ij")
    np.testing.assert_array_equal(metadata.latitudes, latitude.ravel())
    np.testing.assert_array_equal(metadata.longitudes, longitude.ravel())

    states = make_states(forecaster, 1, forecaster.num_history)
    fields = {name: states[0, :, n].flatten(1).numpy() for n, name in enumerate(NAMES)}
    given = {"date": DATE, "fields": fields}
    wanted = expected(forecaster, states, **options).numpy()
    count = 0
    for state, known in zip(simple.run(input_states=given, lead_time="18h"), wanted, strict=True):
        count += 1
        assert state["date"] == DATE + count * datetime.timedelta(hours=6)
        found = np.stack([state["fields"][name] for name in NAMES])
        np.testing.assert_array_equal(found, known.reshape(2, -1))
    assert count == NUM_STEPS


@pytest.mark.filterwarnings("default")
def test_the_default_runner_reads_grib_and_writes_forecasts(tmp_path: Path) -> None:
    """From its configuration alone, as `anemoi-inference run` does."""
    configs = pytest.importorskip("anemoi.inference.config.run", reason="needs anemoi-inference")
    from anemoi.inference.runners.default import DefaultRunner  # pyright: ignore

    grid = LatLonGrid.equiangular(7, 12, poles=True)
    network = AFNONetConfig(patch_size=(1, 3), embed_dim=8, depth=1, num_blocks=2)
    forecaster = make_forecaster(grid, units=UNITS, num_history=2, network=network).eval()
    states = make_states(forecaster, 1, 2)
    messages = []
    for time, (height, temperature) in zip((600, 1200), states[0].numpy(), strict=True):
        when = {"dataDate": 20200301, "dataTime": time}
        level = {"typeOfLevel": "isobaricInhPa", "level": 500}
        messages.append(grib_message(grid, {**when, "shortName": "z", **level}, height))
        messages.append(grib_message(grid, {**when, "shortName": "2t"}, temperature))
    (tmp_path / "states.grib2").write_bytes(b"".join(messages))
    (tmp_path / "forecast").mkdir()
    config = configs.RunConfiguration(
        checkpoint=str(exported(forecaster, tmp_path)),
        date="2020-03-01T12:00:00",
        lead_time="18h",
        input={"grib": str(tmp_path / "states.grib2")},
        output={"raw": {"dir": str(tmp_path / "forecast")}},
        write_initial_state=False,
        device="cpu",
    )
    DefaultRunner(config).execute()
    files = sorted((tmp_path / "forecast").glob("*.npz"))
    for file, known in zip(files, expected(forecaster, states).numpy(), strict=True):
        with np.load(file) as found:
            for name, field in zip(NAMES, known, strict=True):
                np.testing.assert_allclose(found[f"field_{name}"], field.ravel(), rtol=1e-5)
