"""Checks of tensors that come from files: names, shapes, types, and values that are finite.

All raise an ``InputError`` that names the tensor; who reads the file adds its name.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from data_pipeline.channels import Channels
from data_pipeline.errors import InputError
from fourcastnet_afno.models.config import AFNONetConfig

_TYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64}
_BLOCK = re.compile(r"network\.blocks\.(\d+)\.")


def require_fit(expected: Mapping[str, Tensor], stored: Mapping[str, Tensor], prefix: str) -> None:
    """Check names, shapes and types of tensors, and that all values are finite numbers.

    The weights ``expected`` may be on the device ``meta``; ``prefix`` is that of the stored names.

    Raises:
        InputError: If a tensor does not fit; it is named.
    """
    for title, names in (
        ("lacks", expected.keys() - stored.keys()),
        ("has, and its model lacks,", stored.keys() - expected.keys()),
    ):
        if names:
            some = ", ".join(f"{prefix}.{name}" for name in sorted(names)[:5])
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise InputError(f"it {title} the tensors {some}{more}", code="bad-record")
    for name, value in stored.items():
        require_alike(expected[name], value, f"{prefix}.{name}")


def require_alike(expected: Tensor, stored: Tensor, name: str) -> None:
    """Check shape and type of a tensor, and that all its values are finite numbers.

    The points of ``filled`` that have values of their own are NaN.

    Raises:
        InputError: If it differs.
    """
    if stored.shape != expected.shape:
        raise InputError(
            f"the tensor {name} has shape {tuple(stored.shape)}, its model {tuple(expected.shape)}",
            code="bad-record",
        )
    if stored.dtype not in _TYPES or stored.is_complex() != expected.is_complex():
        raise InputError(
            f"the tensor {name} holds {stored.dtype}, its model {expected.dtype}", code="bad-record"
        )
    value = stored.to(expected.dtype)
    if name.endswith(".filled"):
        value = value[~value.isnan()]
    # A sum needs no memory; only that of huge numbers is infinite without an infinite one.
    if not value.sum().isfinite() and (wrong := int((~value.isfinite()).sum())):
        raise InputError(
            f"the tensor {name} has {wrong} values that are not finite", code="bad-record"
        )


def require_depth(network: AFNONetConfig, stored: Mapping[str, Tensor], prefix: str) -> None:
    """Check that there are weights of as many blocks as a network has, before it is built.

    Raises:
        InputError: If not.
    """
    blocks = {match[1] for name in stored if (match := _BLOCK.match(name))}
    if len(blocks) != network.depth:
        raise InputError(
            f"it has tensors {prefix}.network.blocks of {len(blocks)} blocks, its model "
            f"network.depth={network.depth}",
            code="bad-record",
        )


def tensor_in(
    stored: Mapping[str, Tensor], name: str, prefix: str, shape: tuple[int, ...]
) -> Tensor:
    """A tensor in float32, of a shape that is known without the network.

    Raises:
        InputError: If it is missing, or ``require_alike`` rejects it.
    """
    if name not in stored:
        raise InputError(f"it lacks the tensor {prefix}.{name}", code="bad-record")
    require_alike(torch.empty(shape, device="meta"), stored[name], f"{prefix}.{name}")
    return stored[name].float()


def moments_in(stored: Mapping[str, Tensor], prefix: str, channels: Channels) -> dict[str, Tensor]:
    """Mean, standard deviation, and that of the change where there is one, by channel (channel,).

    Raises:
        InputError: If a standard deviation is not positive, or that of a change is negative.
    """
    moments = {}
    for name, entry in (
        ("mean", "normalizer.mean"),
        ("std", "normalizer.std"),
        ("diff_std", "diff_std"),
    ):
        if name == "diff_std" and prefix != "forecaster":
            continue
        values = tensor_in(stored, entry, prefix, (len(channels), 1, 1)).flatten()
        wrong = {"mean": values.isnan(), "std": values <= 0, "diff_std": values < 0}[name]
        if wrong.any():
            index = int(wrong.nonzero()[0])
            least = "positive" if name == "std" else "at least 0"
            raise InputError(
                f"the tensor {prefix}.{entry} must be {least}, got {float(values[index]):g} of "
                f"{channels.labels[index]}",
                code="bad-record",
            )
        moments[name] = values
    return moments
