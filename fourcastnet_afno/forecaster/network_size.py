"""Checks of a network's size before its weights are allocated."""

import math

from data_pipeline.errors import InputError
from data_pipeline.memory import require_memory
from fourcastnet_afno.models.config import AFNONetConfig, NoiseConfig


def check_network_size(
    network: AFNONetConfig,
    in_channels: int,
    out_channels: int,
    shape: tuple[int, int],
    name: str,
    noise: NoiseConfig | None = None,
) -> None:
    """Check that a network suits a grid and the memory of this machine.

    Args:
        network: Its configuration.
        in_channels: Channels that go in.
        out_channels: Channels that come out.
        shape: Rows and columns of the fields.
        name: Of the network's settings, in messages.
        noise: Random fields that go in besides.

    Raises:
        InputError: If fields cannot be padded to its patches, or its weights do not fit.
    """
    widths = network.padding.widths(shape, network.patch_size)
    modes = {"latitude": network.padding.latitude, "longitude": network.padding.longitude}
    for (axis, mode), size, width in zip(modes.items(), shape, widths, strict=True):
        longest = {"reflect": size - 1, "wrap": size, "zero": max(width)}[mode]
        if max(width) > longest:
            raise InputError(
                f"{name}.patch_size={list(network.patch_size)} and {name}.padding.margin="
                f"{list(network.padding.margin)} add {max(width)} cells on a side of the "
                f"{size} cells of the grid, {name}.padding.{axis}={mode} at most {longest}; use a "
                f"smaller patch, or padding.{axis}=zero",
                code="grid-mismatch",
            )
    num_weights = count_weights(network, in_channels, out_channels)
    if noise is not None and noise.length_scales:
        patch = math.prod(network.patch_size)
        num_weights += noise.width * (
            noise.num_channels * patch + 4 * network.depth * network.embed_dim
        )
    require_memory(
        4 * num_weights,
        f"the weights of {name} (embed_dim={network.embed_dim}, depth={network.depth}, "
        f"mlp_ratio={network.mlp_ratio:g}, patch_size={list(network.patch_size)})",
        "choose a smaller network",
    )


def count_weights(network: AFNONetConfig, in_channels: int, out_channels: int) -> int:
    """Weights of a network with a reference grid, but for biases and gains; of kernels, at most."""
    width, patch = network.embed_dim, math.prod(network.patch_size)
    rows, columns = (
        int(network.hard_thresholding_fraction * n / 2) for n in network.reference_grid or (0, 0)
    )
    modes = (2 * rows + 1) * (columns + 1)
    mixer = {
        "afno": 4 * width * (width // network.num_blocks) * network.hidden_size_factor,
        "attention": 4 * width**2,
        "fno": 2 * modes * width**2 + width**2,
        "global_filter": 2 * modes * width,
    }[network.mixer]
    if network.wavenumber_weights == "kernel":
        grid = network.reference_grid or (network.kernel_window,) * 2
        window = math.prod(2 * min(network.kernel_window, n) + 1 for n in grid)
        mixer = width * (window + 2 * width // network.num_blocks)
    block = mixer + 2 * width * int(width * network.mlp_ratio)
    position = math.prod(network.position_grid) * width if network.position_grid else 0
    return network.depth * block + (in_channels + out_channels) * patch * width + position
