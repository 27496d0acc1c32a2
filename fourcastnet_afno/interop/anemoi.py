"""Checkpoints for anemoi-inference: a model that its runners step, and the metadata they read.

    fourcastnet-afno export --format anemoi --checkpoint C --output model.ckpt
    SimpleRunner("model.ckpt").run(input_states=state, lead_time="10d")

Its checkpoints are files of ``torch.save``, which anemoi-inference loads as pickles. Ours hold a
call of ``model_from``, the bytes of one of our checkpoints, which is checked when it is loaded, and
``anemoi.json``. They are only ever written here, never read.

Variables have ECMWF's names (``2t``, ``z_500``) where it has a parameter of the same meaning and
units, else our labels; units are in ECMWF's spelling, which anemoi-inference compares letter by
letter with those of GRIB. All are prognostic: forcings are computed in the model from the valid
times.

References:
    anemoi-inference, https://anemoi.readthedocs.io/projects/inference (written for and tested with
    version 0.13; metadata of several datasets, of which ours have one, ``data``).
"""

import datetime
import io
import json
import platform
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data_pipeline.channels import Channel
from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Output, check_outputs
from data_pipeline.grids.plane import require_latlon
from fourcastnet_afno.forecaster.checkpoint import (
    load_forecaster,
    read_checkpoint,
    save_checkpoint,
)
from fourcastnet_afno.forecaster.forecaster import FieldSpec, Forecaster
from fourcastnet_afno.inference.perturbations import noise_of
from fourcastnet_afno.inference.rollout import StepNoise, with_member_noise
from fourcastnet_afno.interop.durations import require_plain_steps
from fourcastnet_afno.interop.lexicon import ecmwf_units, mars_keys
from fourcastnet_afno.provenance import versions
from fourcastnet_afno.published import local_checkpoint

_DATASET = "data"
_FOLDER = "archive/anemoi-metadata"  # ``archive`` is what torch calls the content of a stream
_METADATA = f"{_FOLDER}/anemoi.json"
_MARK = "fourcastnet_afno"


class AnemoiForecaster(nn.Module):
    """A forecaster as the model of a runner of anemoi-inference.

    Args:
        forecaster: Of a global or regional latitude-longitude grid, with a timestep of fixed
            duration in the standard calendar.

    Raises:
        InputError: If anemoi-inference has no words for the grid or the timestep.
    """

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__()
        _check(forecaster.spec)
        self.forecaster = forecaster
        self._noise: tuple[object, StepNoise | None] = None, None

    def predict_step(
        self,
        x: dict[str, Tensor],
        *,
        date: datetime.datetime,
        fcstep: int,
        seed: int = 0,
        member: int = 0,
        **_: object,
    ) -> dict[str, Tensor]:
        """The state one timestep after a history, in float32 whatever the runner's precision.

        Args:
            x: The dataset's histories, shape (1, history, cell, variable), oldest state first.
            date: Time of the state that is asked for.
            fcstep: Number of the step, from 0.
            seed: Of the noise of a model with ``model.noise``; ``predict_kwargs`` of the runner.
            member: Whose noise it is, likewise.

        Returns:
            The dataset's state, shape (1, time, ensemble, cell, variable) with one time and member.
        """
        spec, (history,) = self.forecaster.spec, x.values()
        times = np.array([np.datetime64(date, "ns")])
        state = history.float().mT.reshape(*history.shape[:2], -1, *spec.grid.shape).contiguous()
        with torch.inference_mode(), torch.autocast(history.device.type, enabled=False):
            forcing = self.forecaster.forcing_at(times - spec.timestep)
            init_times = times - (fcstep + 1) * spec.timestep
            noise = self._noise_from(fcstep, seed, init_times, member)
            if noise is not None:
                forcing = with_member_noise(forcing, noise, fcstep)
            following = self.forecaster(state, forcing)
        return {_DATASET: following.flatten(2).mT[:, None, None].contiguous()}

    def _noise_from(
        self, step: int, seed: int, init_times: np.ndarray, member: int
    ) -> StepNoise | None:
        """The noise of a forecast, which goes on while it is stepped."""
        forecast = (seed, init_times[0], member)
        if step == 0 or self._noise[0] != forecast:
            members = np.array([member])
            self._noise = forecast, noise_of(self.forecaster, seed, init_times, members)
        return self._noise[1]

    def __reduce__(self) -> tuple[Callable[[Tensor], "AnemoiForecaster"], tuple[Tensor]]:
        """Content of a pickle of it, see the head of this module."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.safetensors"
            save_checkpoint(path, self.forecaster, {}, {})
            content = np.fromfile(path, np.uint8)
        return model_from, (torch.from_numpy(content),)


def model_from(checkpoint: Tensor) -> AnemoiForecaster:
    """The model of the bytes of one of our checkpoints, which anemoi-inference calls.

    Raises:
        InputError: If they are damaged.
    """
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        checkpoint.cpu().numpy().tofile(path)
        return AnemoiForecaster(load_forecaster(path, str(checkpoint.device)))


def export_anemoi(checkpoint: Path | str, output: Path) -> None:
    """Write the forecaster of a checkpoint as a checkpoint of anemoi-inference.

    Args:
        checkpoint: File or URL.
        output: File to write, .ckpt; one that was written by this function is replaced.

    Raises:
        InputError: If the name is another, the checkpoint is damaged, another file is there, or
            anemoi-inference has no words for the grid or the timestep.
    """
    if output.suffix != ".ckpt":
        raise InputError(
            f"--format anemoi writes .ckpt, got {output}; change --output or --format",
            code="bad-setting",
        )
    path = local_checkpoint(checkpoint, read_checkpoint)
    exported = Output(output, "a checkpoint for anemoi-inference", _is_ours, is_certain=True)
    check_outputs([exported], {"--checkpoint": [path]})
    model = AnemoiForecaster(load_forecaster(path))
    content = io.BytesIO()  # on a full disk torch ends the process
    torch.save(model, content)
    with zipfile.ZipFile(content, "a") as archive:
        _add_metadata(archive, model.forecaster)
    with replacing(output) as temporary:
        temporary.write_bytes(content.getbuffer())


def variable_name(channel: Channel) -> str:
    """The name of a channel in datasets of anemoi."""
    keys = mars_keys(channel)
    if not keys:
        return channel.label
    return f"{keys['param']}_{channel.level}" if "levelist" in keys else str(keys["param"])


def _check(spec: FieldSpec) -> None:
    require_plain_steps(spec, "anemoi-inference")
    require_latlon(spec.grid, "anemoi-inference", "use `fourcastnet-afno forecast`")


def _is_ours(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return _MARK in json.loads(archive.read(_METADATA))


def _add_metadata(archive: zipfile.ZipFile, forecaster: Forecaster) -> None:
    """Add ``anemoi.json`` and the places of the cells in the layout of ``anemoi.utils``."""
    latitude, longitude = forecaster.spec.grid.coords.values()
    places = np.meshgrid(latitude.astype(np.float64), longitude.astype(np.float64), indexing="ij")
    entries = {}
    for name, values in zip(("latitudes", "longitudes"), places, strict=True):
        path = f"{_FOLDER}/{_DATASET}/{name}.numpy"
        archive.writestr(path, values.tobytes())
        entries[name] = {"path": path, "shape": [values.size], "dtype": "float64"}
    record = _metadata(forecaster) | {"supporting_arrays_paths": {_DATASET: entries}}
    archive.writestr(_METADATA, json.dumps(record))


def _metadata(forecaster: Forecaster) -> dict[str, Any]:
    """Entries of ``anemoi.json`` that the runners of anemoi-inference read."""
    spec, history = forecaster.spec, forecaster.num_history
    names = [variable_name(channel) for channel in spec.channels]
    places = list(range(len(names)))
    by_name = {name: place for place, name in enumerate(names)}
    tensor = {"full": places, "prognostic": places, "diagnostic": [], "forcing": []}
    step = f"{spec.step.nanoseconds // 10**9}s"
    return {
        "version": "1.0",
        _MARK: {"model": forecaster.config.to_json(), "fields": spec.to_json()},
        "config": {
            "training": {"precision": "32", "multistep_input": history, "multistep_output": 1},
            "data": {"timestep": step, "frequency": step},
        },
        "dataset": {
            _DATASET: {
                "variables": names,
                "variables_metadata": {
                    name: {"units": ecmwf_units(channel.units), "mars": mars_keys(channel)}
                    for name, channel in zip(names, spec.channels, strict=True)
                },
                "shape": [1, len(names), 1, spec.grid.shape[0] * spec.grid.shape[1]],
                "field_shape": list(spec.grid.shape),
                "data_request": {},
            }
        },
        "data_indices": {
            _DATASET: {
                "data": {"input": tensor, "output": tensor},
                "model": {"input": tensor, "output": tensor},
            }
        },
        "metadata_inference": {
            "dataset_names": [_DATASET],
            "task": "forecaster",
            _DATASET: {
                "data_indices": {"input": by_name, "output": by_name},
                "variable_types": {"prognostic": names, "diagnostic": [], "forcing": []},
                "timesteps": {
                    "timestep": step,
                    "input_relative_date_indices": list(range(history)),
                    "output_relative_date_indices": [history],
                },
            },
        },
        "provenance_training": {
            "python": platform.python_version(),
            "module_versions": {"fourcastnet_afno": versions()["fourcastnet-afno"]},
            "git_versions": {},
        },
    }
