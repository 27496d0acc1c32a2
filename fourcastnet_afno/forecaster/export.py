"""Export: a forecaster as one file that runs without this package.

The file maps ``state`` (batch, history, channel, latitude, longitude), oldest state first, in
physical units, and ``forcing`` (batch, forcing, latitude, longitude) at the time of the newest
state to the state one timestep later (batch, channel, latitude, longitude). In a limited area the
driving state of that time is in ``forcing`` too, see ``forecaster.boundaries``, and the fields of a
model with noise are its last channels, see ``forecaster.noise``. The Fourier transforms
in it are products with constant matrices. The meaning of the axes is stored in a JSON file next to
it, and in the metadata of an ONNX file. A rollout in Python, for a forecaster without forcings:

    session = onnxruntime.InferenceSession("model.onnx")
    for _ in range(num_steps):
        feeds = {"state": state, "forcing": forcing}
        (following,) = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
        state = numpy.concatenate([state[:, 1:], following[:, None]], axis=1)
"""

import copy
import json
import logging
import mmap
import warnings
from dataclasses import asdict
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from torch import Tensor, nn

from data_pipeline.errors import InputError
from data_pipeline.files.atomic import replacing
from data_pipeline.files.outputs import Output, check_outputs, read_json
from fourcastnet_afno.forecaster.boundaries import with_boundary
from fourcastnet_afno.forecaster.checkpoint import load_forecaster
from fourcastnet_afno.forecaster.config import ExportFormat
from fourcastnet_afno.forecaster.forecaster import Forecaster
from fourcastnet_afno.forecaster.noise import append_noise
from fourcastnet_afno.models.mixers import FNO2D, GlobalFilter2D, ModeMixer
from fourcastnet_afno.provenance import versions

_TOLERANCE = 1e-4
_METADATA = b'{"inputs": {"state": ['  # start of what ``describe`` gives, in the file itself


def export_checkpoint(
    checkpoint: Path, output: Path, *, kind: ExportFormat = "onnx", batch_size: int = 1
) -> dict[str, Any]:
    """Export the forecaster of a checkpoint, and compare the file's results with its own.

    Args:
        checkpoint: A checkpoint.
        output: File to write, .onnx or .pt2.
        kind: ``onnx``, ``torch_export`` (``torch.export.load``), or ``aot_inductor``, compiled for
            this processor (``torch._inductor.aoti_load_package``).
        batch_size: States in a batch, fixed in the file.

    Returns:
        Content of the JSON file; ``largest_difference`` in standard deviations of the channels.

    Raises:
        InputError: If the name does not suit the format, a package is missing, the mixer cannot be
            exported, or results differ by more than 1e-4.
    """
    suffix = ".onnx" if kind == "onnx" else ".pt2"
    if output.suffix != suffix:
        raise InputError(
            f"--format {kind} writes {suffix}, got {output}; change --output or --format",
            code="bad-setting",
        )
    record_path = output.with_name(f"{output.name}.json")
    outputs = [
        Output(
            output,
            "an exported forecaster",
            lambda path: _is_export(path, record_path),
            is_certain=True,
        ),
        Output(
            record_path, "the description of an exported forecaster", _is_record, is_certain=True
        ),
    ]
    check_outputs(outputs, {"--checkpoint": [checkpoint]})
    missing = [n for n in ("onnx", "onnxscript", "onnxruntime") if find_spec(n) is None]
    if kind == "onnx" and missing:
        raise InputError(
            f"--format onnx needs the packages {missing}; install them with "
            'pip install "fourcastnet-afno[onnx]"',
            code="missing-package",
        )
    forecaster = exportable(load_forecaster(checkpoint))
    spectral = any(isinstance(m, (FNO2D, GlobalFilter2D)) for m in forecaster.modules())
    if kind == "onnx" and spectral:
        raise InputError(
            f"model.network.mixer={forecaster.config.network.mixer} computes with complex numbers, "
            "which ONNX lacks; use --format torch_export",
            code="bad-setting",
        )
    inputs = example_inputs(forecaster, batch_size)
    with replacing(output) as temporary:
        difference = _write(forecaster, inputs, temporary, kind)
        record = describe(forecaster, batch_size) | {
            "format": kind,
            "checkpoint": str(checkpoint),
            "largest_difference": difference,
            "versions": versions(),
        }
        # First, as it tells that the file is ours.
        with replacing(record_path) as temporary_record:
            temporary_record.write_text(json.dumps(record, indent=1))
    return record


def _is_record(path: Path) -> bool:
    return read_json(path).keys() >= {"inputs", "format", "checkpoint", "largest_difference"}


def _is_export(path: Path, record: Path) -> bool:
    """Whether a file was exported: its metadata is in it, or if compiled a record next to it."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(_METADATA) >= 0:
            return True
    return is_zipfile(path) and record.is_file() and read_json(record)["format"] == "aot_inductor"


def exportable(forecaster: Forecaster) -> Forecaster:
    """A copy on the CPU, for inference, whose transforms are matrix products on any grid."""
    result = copy.deepcopy(forecaster).cpu().eval().requires_grad_(False)
    for module in result.modules():
        if isinstance(module, ModeMixer):
            module.use_matrices()
    return result


def example_inputs(forecaster: Forecaster, batch_size: int) -> tuple[Tensor, Tensor]:
    """Random states of the usual size, and forcings of some time."""
    spec, generator = forecaster.spec, torch.Generator().manual_seed(0)
    shape = (batch_size, forecaster.num_history, len(spec.channels), *spec.grid.shape)
    mean, std, *_ = forecaster.scales
    state = mean + std * torch.randn(shape, generator=generator)
    times = np.full(batch_size, np.datetime64("2000-07-01T12", "ns"))
    forcing, generators = forecaster.forcing_at(times), batch_size * [generator]
    if forecaster.relaxation is not None:
        forcing = with_boundary(forcing, state[:, -1])
    forcing = forcing[:, None]
    return state, append_noise(forecaster.noise, forcing, generators)[:, 0]


def describe(forecaster: Forecaster, batch_size: int) -> dict[str, Any]:
    """Meaning of the axes of the file."""
    spec, noise = forecaster.spec, forecaster.config.noise
    num_forcings = spec.num_step_fields + noise.num_channels
    return {
        "inputs": {
            "state": [batch_size, forecaster.num_history, len(spec.channels), *spec.grid.shape],
            "forcing": [batch_size, num_forcings, *forecaster.network_grid.shape],
        },
        "num_history": forecaster.num_history,
        **({"noise": asdict(noise)} if noise.length_scales else {}),
        **spec.to_json(),
    }


def _write(
    forecaster: Forecaster, inputs: tuple[Tensor, Tensor], path: Path, kind: ExportFormat
) -> float:
    """Write the file, run it, and return the largest difference in standard deviations."""
    with torch.no_grad():
        # Makes the matrices, which must not be made while tracing.
        expected = forecaster(*inputs)
        program = torch.export.export(_Wrapped(forecaster), inputs)
    metadata = json.dumps(describe(forecaster, len(inputs[0])))
    match kind:
        case "torch_export":
            content = BytesIO()  # on a full disk torch ends the process
            torch.export.save(program, content, extra_files={"metadata.json": metadata})
            path.write_bytes(content.getbuffer())
            result = torch.export.load(path).module()(*inputs)
        case "aot_inductor":
            from torch._inductor import aoti_compile_and_package, aoti_load_package

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                aoti_compile_and_package(program, package_path=str(path))
                result = aoti_load_package(str(path))(*inputs)
        case "onnx":
            result = _write_onnx(program, path, metadata, inputs)
    difference = float(((result - expected).abs() / forecaster.scales.std).max())
    if not difference <= _TOLERANCE:
        raise InputError(
            f"the exported forecaster differs from the checkpoint by {difference:g} standard "
            f"deviations, more than {_TOLERANCE:g}; use another format",
            code="inexact-export",
        )
    return difference


class _Wrapped(nn.Module):
    """Names a buffer ``forecaster_static``: ``static`` is a word of C++, which Inductor writes."""

    def __init__(self, forecaster: Forecaster) -> None:
        super().__init__()
        self.forecaster = forecaster

    def forward(self, state: Tensor, forcing: Tensor) -> Tensor:
        return self.forecaster(state, forcing)


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, metadata: str, inputs: tuple[Tensor, Tensor]
) -> Tensor:
    import onnxruntime

    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside of torch's exporter
        exported = torch.onnx.export(program, (), dynamo=True, verbose=False)
    assert exported is not None
    exported.model.metadata_props["fourcastnet_afno"] = metadata
    exported.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = dict(zip(("state", "forcing"), (tensor.numpy() for tensor in inputs), strict=True))
    (result,) = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})
    return torch.from_numpy(np.asarray(result))
