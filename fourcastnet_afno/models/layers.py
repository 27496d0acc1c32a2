"""Layers around the mixers: padding, patches, the token-wise MLP and stochastic depth."""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

PaddingMode = Literal["reflect", "wrap", "zero"]

_TORCH_MODES = {"reflect": "reflect", "wrap": "circular", "zero": "constant"}


@dataclass(frozen=True, kw_only=True)
class Padding:
    """How a field is extended to a multiple of the patch; the forecast is cropped back.

    Args:
        latitude: ``reflect`` mirrors rows at the edge, ``zero`` adds zeros; ``wrap`` joins
            north and south and is right only for a periodic plane.
        longitude: ``wrap`` for a global field; ``reflect`` or ``zero`` for a region.
        margin: Rows and columns added on each side before rounding up to the patch, so that a
            Fourier mixer does not join opposite edges of a region directly.
    """

    latitude: PaddingMode = "reflect"
    longitude: PaddingMode = "wrap"
    margin: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if min(self.margin) < 0:
            raise ValueError(f"padding.margin must not be negative, got {self.margin}")

    def widths(self, shape: tuple[int, int], patch_size: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows or columns to add before and after, by axis."""
        return [
            _split_padding(size, patch, margin)
            for size, patch, margin in zip(shape, patch_size, self.margin, strict=True)
        ]

    def apply(
        self, field: Float[Tensor, "batch channel lat lon"], patch_size: tuple[int, int]
    ) -> Float[Tensor, "batch channel padded_lat padded_lon"]:
        """Extend both axes to a multiple of the patch.

        Raises:
            ValueError: If an axis is too short to be reflected or wrapped that far.
        """
        rows, columns = self.widths((field.shape[-2], field.shape[-1]), patch_size)
        field = _pad(field, (0, 0, *rows), self.latitude, "latitude")
        return _pad(field, (*columns, 0, 0), self.longitude, "longitude")


def _split_padding(size: int, patch: int, margin: int) -> tuple[int, int]:
    total = -(-(size + 2 * margin) // patch) * patch - size
    return total // 2, total - total // 2


def _pad(field: Tensor, widths: tuple[int, ...], mode: PaddingMode, axis: str) -> Tensor:
    if not any(widths):
        return field
    size = field.shape[-2] if axis == "latitude" else field.shape[-1]
    longest = {"reflect": size - 1, "wrap": size, "zero": max(widths)}[mode]
    if max(widths) > longest:
        raise ValueError(
            f"padding.{axis}={mode} adds at most {longest} cells to {size}, the patch needs "
            f"{max(widths)}; use a smaller patch_size or padding.{axis}=zero"
        )
    return F.pad(field, widths, mode=_TORCH_MODES[mode])


class PatchEmbed(nn.Module):
    """Cuts a field into patches and maps each linearly to a token.

    Args:
        in_channels: Channels of the field.
        embed_dim: Channels of a token.
        patch_size: Rows and columns of a patch.
    """

    def __init__(self, in_channels: int, embed_dim: int, patch_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(in_channels * patch_size[0] * patch_size[1], embed_dim)

    def forward(
        self, field: Float[Tensor, "batch channel lat lon"]
    ) -> Float[Tensor, "batch h w embed"]:
        """Tokens of the field.

        Raises:
            ValueError: If the field is not a whole number of patches.
        """
        rows, columns = self.patch_size
        if field.shape[-2] % rows or field.shape[-1] % columns:
            raise ValueError(
                f"a field of {field.shape[-2]} x {field.shape[-1]} does not divide into patches of "
                f"{rows} x {columns}; pad it first (Padding.apply) or change patch_size"
            )
        patches = rearrange(field, "b c (h p) (w q) -> b h w (c p q)", p=rows, q=columns)
        return self.projection(patches)


class PatchRecovery(nn.Module):
    """Maps each token linearly to a patch of the field; the counterpart of ``PatchEmbed``.

    Args:
        embed_dim: Channels of a token.
        out_channels: Channels of the field.
        patch_size: Rows and columns of a patch.
    """

    def __init__(self, embed_dim: int, out_channels: int, patch_size: tuple[int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.projection = nn.Linear(embed_dim, out_channels * patch_size[0] * patch_size[1])

    def forward(
        self, tokens: Float[Tensor, "batch h w embed"]
    ) -> Float[Tensor, "batch channel lat lon"]:
        """Field of the tokens."""
        rows, columns = self.patch_size
        return rearrange(
            self.projection(tokens), "b h w (c p q) -> b c (h p) (w q)", p=rows, q=columns
        )


class Mlp(nn.Sequential):
    """Two-layer perceptron on every token, with GELU between the layers."""

    def __init__(self, embed_dim: int, hidden_dim: int, drop_rate: float) -> None:
        super().__init__(
            nn.Linear(embed_dim, hidden_dim),
            nn.GELU(),
            nn.Dropout(drop_rate),
            nn.Linear(hidden_dim, embed_dim),
            nn.Dropout(drop_rate),
        )


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for random samples of a batch.

    The branches that stay are scaled by ``1 / (1 - rate)``, so that the expectation is kept.

    References:
        Deep Networks with Stochastic Depth, Huang et al., 2016, https://arxiv.org/abs/1603.09382
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "batch ..."]) -> Float[Tensor, "batch ..."]:
        """The branch, or zero, for each sample."""
        if not self.training or self.rate == 0:
            return branch
        shape = (branch.shape[0],) + (1,) * (branch.ndim - 1)
        kept = torch.rand(shape, device=branch.device) >= self.rate
        return branch * kept.to(branch.dtype) / (1 - self.rate)
