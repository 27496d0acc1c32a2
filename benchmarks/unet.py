"""A U-Net for comparison; its convolutions see a fixed number of points, not a fixed length.

References:
    Ronneberger et al., 2015, https://arxiv.org/abs/1505.04597, figure 1.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PaddingMode = Literal["circular", "replicate"]


class PaddedConv2d(nn.Module):
    """A convolution of 3 x 3 points, with its own padding along each axis.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        padding: Padding along y and x.
    """

    def __init__(
        self, in_channels: int, out_channels: int, padding: tuple[PaddingMode, PaddingMode]
    ) -> None:
        super().__init__()
        self.padding = padding
        self.convolution = nn.Conv2d(in_channels, out_channels, 3)

    def forward(self, field: Float[Tensor, "b i y x"]) -> Float[Tensor, "b o y x"]:
        """The field after the convolution, of the same size."""
        field = F.pad(field, (0, 0, 1, 1), mode=self.padding[0])
        return self.convolution(F.pad(field, (1, 1, 0, 0), mode=self.padding[1]))


class UNet(nn.Module):
    """Convolutions at several resolutions, each half of the one before, and back again.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        widths: Channels at each resolution, from fine to coarse.
        padding: Padding along y and x.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        widths: Sequence[int],
        padding: tuple[PaddingMode, PaddingMode],
    ) -> None:
        super().__init__()
        inner = list(itertools.pairwise(widths))
        self.first = _Stage(in_channels, widths[0], padding)
        self.down = nn.ModuleList(_Stage(a, b, padding) for a, b in inner)
        self.up = nn.ModuleList(_Stage(b + a, a, padding) for a, b in reversed(inner))
        self.last = nn.Conv2d(widths[0], out_channels, 1)

    def forward(self, field: Float[Tensor, "b i y x"]) -> Float[Tensor, "b o y x"]:
        """The output on the same grid, of any size; coarser ones are rounded up."""
        levels = [self.first(field)]
        for stage in self.down:
            levels.append(stage(F.avg_pool2d(levels[-1], 2, ceil_mode=True)))
        hidden = levels.pop()
        for stage in self.up:
            fine = levels.pop()
            hidden = F.interpolate(hidden, size=fine.shape[-2:], mode="nearest-exact")
            hidden = stage(torch.cat([hidden, fine], dim=1))
        return self.last(hidden)


class _Stage(nn.Sequential):
    """Two convolutions, each with normalization over groups of 4 channels and GELU."""

    def __init__(
        self, in_channels: int, out_channels: int, padding: tuple[PaddingMode, PaddingMode]
    ) -> None:
        layers = []
        for channels in (in_channels, out_channels):
            layers += [
                PaddedConv2d(channels, out_channels, padding),
                nn.GroupNorm(out_channels // 4, out_channels),
                nn.GELU(),
            ]
        super().__init__(*layers)
