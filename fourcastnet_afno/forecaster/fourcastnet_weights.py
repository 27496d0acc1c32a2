"""Published weights of FourCastNet, read into an ``AFNONet`` that computes the same.

FourCastNet v1 and PhysicsNeMo's AFNO name their tensors

    patch_embed.proj, pos_embed, blocks.N.{norm1, filter.{w1, b1, w2, b2}, norm2, mlp.{fc1, fc2}},
    norm, head,

where ``norm`` takes no part in the forecast and ``head`` lists its outputs as (row in the patch,
column in the patch, channel).

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3.
"""

import json
import re
import tarfile
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from data_pipeline.errors import DAMAGE, InputError
from fourcastnet_afno.models.afno import AFNONet
from fourcastnet_afno.models.config import AFNONetConfig

_NAMES = (
    (r"filter\.([wb])([12])", lambda m: f"mixer.{'weight' if m[1] == 'w' else 'bias'}{m[2]}"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.3"),
    (r"patch_embed\.proj\b", "patch_embed.projection"),
    (r"^head\b", "patch_recovery.projection"),
    (r"^pos_embed", "position"),
)
_UNUSED = re.compile(r"^norm\.|^device_buffer$")
_FLOATS = ("torch.float32", "torch.float64", "torch.float16", "torch.bfloat16")
_PREFIX = re.compile(r"^(module\.|model\.)+")


def load_fourcastnet_weights(
    path: Path | str,
    *,
    shape: tuple[int, int] = (720, 1440),
    sparsity_threshold: float = 0.01,
    hard_thresholding_fraction: float = 1.0,
) -> AFNONet:
    """An ``AFNONet`` with the weights of a FourCastNet v1 or PhysicsNeMo AFNO checkpoint.

    Sizes are read off the weights, which become float32, or float64 where all are. Nothing in the
    file is executed.

    Args:
        path: A ``torch.save`` file with the state dict, alone or under ``model_state``; or a
            ``.mdlus`` archive, whose own settings replace the following ones.
        shape: Rows and columns of the fields it was trained on.
        sparsity_threshold: Threshold of its soft shrinkage.
        hard_thresholding_fraction: Its share of modes, see ``fourcastnet_modes``.

    Returns:
        The network in evaluation mode, for normalized fields (batch, channel, lat, lon).

    Raises:
        InputError: If the file is missing, holds anything but tensors of floating-point numbers
            and plain values, or has another layout.
    """
    tensors, settings = _read(Path(path))
    rows, columns = settings.get("inp_shape", shape)
    embed_dim, in_channels, *patch = tensors["patch_embed.proj.weight"].shape
    grid = (rows // patch[0], columns // patch[1])
    num_patches = tensors["pos_embed"].shape[1]
    if grid[0] * grid[1] != num_patches:
        raise InputError(
            f"{path} was trained on {num_patches} patches, fields of {rows} x {columns} have "
            f"{grid[0]} x {grid[1]} of {patch[0]} x {patch[1]} points; set shape to its training "
            "grid",
            code="grid-mismatch",
        )
    weight = tensors["blocks.0.filter.w1"]
    config = AFNONetConfig(
        patch_size=(patch[0], patch[1]),
        embed_dim=embed_dim,
        depth=len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        num_blocks=weight.shape[1],
        hidden_size_factor=weight.shape[3] // weight.shape[2],
        mlp_ratio=tensors["blocks.0.mlp.fc1.weight"].shape[0] / embed_dim,
        mode_selection="fourcastnet",
        position_grid=grid,
        final_norm=False,
        sparsity_threshold=settings.get("sparsity_threshold", sparsity_threshold),
        hard_thresholding_fraction=settings.get(
            "hard_thresholding_fraction", hard_thresholding_fraction
        ),
    )
    out_channels = len(tensors["head.weight"]) // (patch[0] * patch[1])
    network = AFNONet(in_channels, out_channels, config=config)
    network = network.to(next(iter(tensors.values())).dtype)
    _fill(network, tensors, path)
    return network.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a file by name, and the settings of an archive."""
    if not path.is_file():
        raise InputError(
            f"no file at {path.resolve()}; give the path of a published checkpoint",
            code="missing-file",
        )
    try:
        members = _archive(path)
        settings = json.loads(members.get("args.json", b"{}")) if "model.pt" in members else {}
        file = BytesIO(members["model.pt"]) if "model.pt" in members else path
        saved = torch.load(file, map_location="cpu", weights_only=True)
        settings = settings.get("__args__", settings)
    except (*DAMAGE, tarfile.TarError) as error:
        raise InputError(
            f"{path} cannot be read safely ({str(error).split('. ')[0]}); expected tensors and "
            "plain values alone; save the state dict by itself with torch.save",
            code="unreadable-file",
        ) from error
    if isinstance(saved, Mapping) and "model_state" in saved:
        saved = saved["model_state"]
    if not isinstance(saved, Mapping):
        raise InputError(
            f"{path} holds {type(saved).__name__}, expected a state dict of tensors",
            code="other-layout",
        )
    tensors = {_PREFIX.sub("", str(n)): t for n, t in saved.items() if isinstance(t, Tensor)}
    needed = ("patch_embed.proj.weight", "pos_embed", "blocks.0.filter.w1", "head.weight")
    if missing := [name for name in needed if name not in tensors]:
        raise InputError(
            f"{path} lacks {missing}, it holds {sorted(tensors)[:5]} and more; expected the layout "
            "of FourCastNet v1 or of PhysicsNeMo's AFNO",
            code="other-layout",
        )
    return _as_float(tensors, path), settings


def _as_float(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights in float32, which holds 16-bit ones exactly, or float64 where all are."""
    used = {name: tensor for name, tensor in tensors.items() if not _UNUSED.match(name)}
    kinds = {name: str(tensor.dtype) for name, tensor in used.items()}
    if other := {name: kind for name, kind in kinds.items() if kind not in _FLOATS}:
        raise InputError(
            f"{path} has {dict(list(other.items())[:5])}, expected weights in {', '.join(_FLOATS)}",
            code="other-layout",
        )
    if wrong := [name for name, tensor in used.items() if not tensor.isfinite().all()]:
        raise InputError(
            f"{path} has values that are not finite in {wrong[:5]}; copy it again",
            code="not-finite",
        )
    dtype = torch.float64 if set(kinds.values()) == {"torch.float64"} else torch.float32
    return {name: tensor.to(dtype) for name, tensor in used.items()}


def _archive(path: Path) -> dict[str, bytes]:
    """Members ``model.pt`` and ``args.json`` of a ``.mdlus`` file, which is a zip or a tar."""
    names = ("model.pt", "args.json")
    # A tar is tried first: one that holds a zip, as torch saves, ends like a zip itself.
    if tarfile.is_tarfile(path):
        with tarfile.open(path) as archive:
            files = {Path(m.name).name: archive.extractfile(m) for m in archive if m.isfile()}
            return {name: file.read() for name, file in files.items() if file and name in names}
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name in names}


def _fill(network: AFNONet, tensors: Mapping[str, Tensor], path: Path | str) -> None:
    state = dict(network.state_dict())
    rows, columns = network.patch_size
    renamed = {}
    for name, value in tensors.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    renamed["patch_embed.projection.weight"] = renamed["patch_embed.projection.weight"].flatten(1)
    renamed["position"] = renamed["position"].reshape(state["position"].shape)
    for kind in ("weight", "bias"):
        name = f"patch_recovery.projection.{kind}"
        head = renamed.get(name, torch.zeros_like(state[name]))
        renamed[name] = rearrange(head, "(p q c) ... -> (c p q) ...", p=rows, q=columns)
    shapes, stored = ({n: t.shape for n, t in tensors.items()} for tensors in (state, renamed))
    wrong = sorted(n for n in shapes.keys() | stored.keys() if shapes.get(n) != stored.get(n))
    if wrong:
        message = f"{path} does not fit the layout of FourCastNet v1 in {wrong[:5]}"
        raise InputError(message, code="other-layout")
    network.load_state_dict(renamed)
