"""Published weights of FourCastNet, read into an ``AFNONet`` that computes the same.

FourCastNet v1 and PhysicsNeMo's AFNO name their tensors

    patch_embed.proj, pos_embed, blocks.N.{norm1, filter.{w1, b1, w2, b2}, norm2, mlp.{fc1, fc2}},
    norm, head,

where ``norm`` takes no part in the forecast and ``head`` lists its outputs as (row in the patch,
column in the patch, channel).

References:
    Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3.
"""

import re
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, TypedDict

import torch
from annotated_types import Ge, Le
from einops import rearrange
from torch import Tensor

from data_pipeline.errors import DAMAGE, InputError
from data_pipeline.memory import require_memory
from data_pipeline.records import from_plain, parse_json
from fourcastnet_afno.forecaster.network_size import check_network_size
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
_NEEDED = {  # axes of the tensors from which sizes are read
    "patch_embed.proj.weight": 4,
    "pos_embed": 3,
    "blocks.0.filter.w1": 4,
    "blocks.0.mlp.fc1.weight": 2,
    "head.weight": 2,
}
_PREFIX = re.compile(r"^(module\.|model\.)+")


_Count = Annotated[int, Ge(1), Le(1_000_000)]


class _Settings(TypedDict, total=False):
    """Settings of a ``.mdlus`` archive that are read; there are others."""

    inp_shape: tuple[_Count, _Count]
    sparsity_threshold: float
    hard_thresholding_fraction: float


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
    with _naming(path):
        rows, columns = settings.get("inp_shape", shape)
        config, sizes = _size_of(tensors, settings, (rows, columns))
        options = {
            "sparsity_threshold": sparsity_threshold,
            "hard_thresholding_fraction": hard_thresholding_fraction,
        }
        config = replace(config, **{k: settings.get(k, value) for k, value in options.items()})
        check_network_size(config, *sizes, (rows, columns), "network")
        with torch.device("meta"):
            expected = AFNONet(*sizes, config=config)
        _require_layout(expected, tensors)
        weights = _as_float(tensors)
    network = AFNONet(*sizes, config=config).to(next(iter(weights.values())).dtype)
    network.load_state_dict(_arranged(network, weights))
    return network.eval()


def _size_of(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], shape: tuple[int, int]
) -> tuple[AFNONetConfig, tuple[int, int]]:
    """Configuration of the network with these weights, and its input and output channels."""
    for name, num_axes in _NEEDED.items():
        if name not in tensors:
            some = sorted(tensors)[:5]
            raise InputError(
                f"it lacks {name}, and holds {some} and more; expected the layout of FourCastNet "
                "v1 or of PhysicsNeMo's AFNO",
                code="other-layout",
            )
        if len(found := tuple(tensors[name].shape)) != num_axes or 0 in found:
            message = f"{name} has shape {found}, expected {num_axes} axes that are not empty"
            raise InputError(message, code="other-layout")
    embed_dim, in_channels, *patch = tensors["patch_embed.proj.weight"].shape
    grid = (shape[0] // patch[0], shape[1] // patch[1])
    num_patches = tensors["pos_embed"].shape[1]
    if grid[0] * grid[1] != num_patches:
        raise InputError(
            f"it was trained on {num_patches} patches, fields of {shape[0]} x {shape[1]} have "
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
    )
    out_channels, rest = divmod(len(tensors["head.weight"]), patch[0] * patch[1])
    if rest or not out_channels:
        message = f"head.weight has no whole number of channels for patches of {tuple(patch)}"
        raise InputError(message, code="other-layout")
    return config, (in_channels, out_channels)


@contextmanager
def _naming(path: Path | str) -> Iterator[None]:
    """Name the file in errors of what it holds."""
    try:
        yield
    except ValueError as error:  # of the network's configuration too
        code = error.code if isinstance(error, InputError) else "other-layout"
        raise InputError(f"{path} cannot be used: {error}", code=code) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a file by name, and the settings of an archive."""
    if not path.is_file():
        raise InputError(
            f"no file at {path.resolve()}; give the path of a published checkpoint",
            code="missing-file",
        )
    try:
        members = _archive(path)
        settings = parse_json(members.get("args.json", b"{}"), "args.json") if members else {}
        settings = settings.get("__args__", settings)
        file = BytesIO(members["model.pt"]) if members else path
        _require_room(file, path)
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except (*DAMAGE, AssertionError) as error:  # which torch raises for its former format
        if isinstance(error, InputError) and error.code == "too-little-memory":
            raise
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
    with _naming(path):
        settings = from_plain(_Settings, settings, "args.json")
        tensors = {str(n): t for n, t in saved.items() if isinstance(t, Tensor)}
        return _renamed(tensors, lambda name: _PREFIX.sub("", name)), settings


def _renamed(tensors: Mapping[str, Tensor], rename: Callable[[str], str]) -> dict[str, Tensor]:
    """The tensors that a forecast needs under other names, which must differ."""
    renamed, names = {}, {}
    for name, value in tensors.items():
        new = rename(name)
        if _UNUSED.match(new):
            continue
        if new in renamed:
            message = f"{names[new]} and {name} are the same tensor, {new}"
            raise InputError(message, code="other-layout")
        renamed[new], names[new] = value, name
    return renamed


def _as_float(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights in float32, which holds 16-bit ones exactly, or float64 where all are."""
    kinds = {str(tensor.dtype) for tensor in tensors.values()}
    if wrong := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        message = f"values are not finite in {wrong[:5]}"
        raise InputError(f"{message}; copy the file again", code="not-finite")
    dtype = torch.float64 if kinds == {"torch.float64"} else torch.float32
    return {name: tensor.detach().to(dtype) for name, tensor in tensors.items()}


def _archive(path: Path) -> dict[str, bytes]:
    """Members of a ``.mdlus`` file, which is a zip or a tar; empty for another file."""
    names = ("model.pt", "args.json")
    # A tar is tried first: one that holds a zip, as torch saves, ends like a zip itself.
    try:
        with tarfile.open(path, "r:") as archive:
            found = {Path(m.name).name: m for m in archive if m.isfile()}
            _require_memory(sum(m.size for name, m in found.items() if name in names), path)
            files = {n: archive.extractfile(m) for n, m in found.items() if n in names}
            members = {name: file.read() for name, file in files.items() if file}
    except tarfile.ReadError:
        members = {}
    if not members and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            found = {info.filename: info for info in archive.infolist()}
            _require_memory(sum(i.file_size for n, i in found.items() if n in names), path)
            members = {name: archive.read(name) for name in found if name in names}
    return members if "model.pt" in members else {}


def _require_room(file: BytesIO | Path, path: Path) -> None:
    """Compare what a file of torch expands to with the memory."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            _require_memory(sum(info.file_size for info in archive.infolist()), path)
    if isinstance(file, BytesIO):
        file.seek(0)


def _require_memory(needed: int, path: Path) -> None:
    require_memory(needed, f"the content of {path}", "use a machine with more memory")


def _require_layout(network: AFNONet, tensors: Mapping[str, Tensor]) -> None:
    """Check types and shapes of all weights, before there is memory for them."""
    for name, tensor in tensors.items():
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_plain or str(tensor.dtype) not in _FLOATS:
            kind = f"{str(tensor.layout).removeprefix('torch.')} {tensor.dtype} on {tensor.device}"
            message = f"{name} has {kind}, expected strided weights in {', '.join(_FLOATS)}"
            raise InputError(message, code="other-layout")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise InputError(f"{name} is a view that repeats its values", code="other-layout")
    arranged = _arranged(network, {n: t.detach().to("meta") for n, t in tensors.items()})
    shapes, stored = ({n: t.shape for n, t in s.items()} for s in (network.state_dict(), arranged))
    if wrong := sorted(n for n in {*shapes, *stored} if shapes.get(n) != stored.get(n)):
        message = f"it does not fit the layout of FourCastNet v1 in {wrong[:5]}"
        raise InputError(message, code="other-layout")


def _arranged(network: AFNONet, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by the names of ``AFNONet``, and their axes in its order."""
    state = dict(network.state_dict())
    rows, columns = network.patch_size

    def rename(name: str) -> str:
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        return name

    weights = _renamed(tensors, rename)
    weights["patch_embed.projection.weight"] = weights["patch_embed.projection.weight"].flatten(1)
    position = weights["position"]
    if position.numel() == state["position"].numel():
        weights["position"] = position.reshape(state["position"].shape)
    for kind in ("weight", "bias"):
        name = f"patch_recovery.projection.{kind}"
        head = weights.get(name, torch.zeros_like(state[name]))
        if head.ndim and len(head) == len(state[name]):
            head = rearrange(head, "(p q c) ... -> (c p q) ...", p=rows, q=columns)
        weights[name] = head
    return weights
