"""AFNONet: a vision transformer whose attention is an adaptive Fourier neural operator.

    field -> padding -> patches -> depth x [mixer, MLP] -> patches -> crop -> field

References:
    FourCastNet: A Global Data-driven High-resolution Weather Model using Adaptive Fourier Neural
    Operators, Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fourcastnet_afno.models.fourier.transforms import (
    COSINE_BOUNDARIES,
    Boundary,
    ModeCounting,
    Pole,
    TransformKind,
)
from fourcastnet_afno.models.layers import DropPath, Mlp, Padding, PatchEmbed, PatchRecovery
from fourcastnet_afno.models.mixers import (
    AFNO2D,
    FNO2D,
    GlobalFilter2D,
    Initialization,
    SelfAttention,
)
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows, ShardedRows

_NORM_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class AFNONetConfig:
    """Size and shape of an ``AFNONet``.

    Args:
        patch_size: Rows and columns of a patch.
        embed_dim: Channels of a token.
        depth: Number of blocks.
        mixer: What mixes the tokens: ``afno``, and for comparison ``fno``, ``global_filter`` and
            ``attention``.
        num_blocks: Diagonal blocks of AFNO's weights, or heads of the attention; divides
            ``embed_dim``.
        mlp_ratio: Hidden width of the token-wise MLP over ``embed_dim``.
        sparsity_threshold: Soft threshold of the Fourier coefficients.
        hard_thresholding_fraction: Share of the wavenumbers that are mixed, in 0..1.
        hidden_size_factor: Hidden width of the mixer over the width of its blocks.
        drop_rate: Dropout in the MLP, in 0..1.
        drop_path_rate: Stochastic depth of the last block; earlier blocks less, linearly.
        double_skip: Whether the mixer has a residual connection around its normalization too.
        padding: How fields are extended to whole patches.
        reference_grid: Rows and columns of the tokens of the grid that the network is trained on,
            see ``AFNO``; a ``Forecaster`` fills it in.
        mode_selection: ``wavenumber``; ``fourcastnet`` for published weights alone.
        boundary: What AFNO's transform takes to lie beyond the edges of latitude and longitude, or
            of y and x, see ``transforms``; along ``mirrored`` axes patches are points, no margin.
        pole: ``double_fourier_sphere`` for global grids: AFNO continues fields across the poles.
        vector_channels: How many channels of a token change sign across the pole.
        transform: How AFNO's modes are computed; the result is the same.
        initialization: Of AFNO's weights: ``he``, or ``small`` as FourCastNet's, see ``AFNO``.
        checkpoint_activations: Whether blocks are computed again in the backward pass instead of
            kept, for a third more time and a fraction of the memory.
        position_grid: Rows and columns of a learned table that is added to the tokens and ties the
            network to one grid; for published weights alone.
        final_norm: Whether the last tokens are normalized; published weights are without.
    """

    patch_size: tuple[int, int] = (4, 4)
    embed_dim: int = 128
    depth: int = 4
    mixer: Literal["afno", "fno", "global_filter", "attention"] = "afno"
    num_blocks: int = 8
    mlp_ratio: float = 4.0
    sparsity_threshold: float = 0.01
    hard_thresholding_fraction: float = 1.0
    hidden_size_factor: int = 1
    drop_rate: float = 0.0
    drop_path_rate: float = 0.0
    double_skip: bool = True
    padding: Padding = field(default_factory=Padding)
    reference_grid: tuple[int, int] | None = None
    mode_selection: ModeCounting = "wavenumber"
    position_grid: tuple[int, int] | None = None
    final_norm: bool = True
    boundary: tuple[Boundary, Boundary] = ("periodic", "periodic")
    pole: Pole = "none"
    vector_channels: int = 0
    transform: TransformKind = "auto"
    initialization: Initialization = "he"
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        for name in ("embed_dim", "depth", "num_blocks", "hidden_size_factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if min(self.patch_size) < 1:
            raise ValueError(f"patch_size must be at least 1, got {self.patch_size}")
        if self.embed_dim % self.num_blocks:
            raise ValueError(
                f"num_blocks must divide embed_dim, got {self.num_blocks} and {self.embed_dim}"
            )
        for name in ("drop_rate", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if not 0 <= self.vector_channels <= self.embed_dim:
            raise ValueError(
                f"vector_channels must lie in 0..embed_dim={self.embed_dim}, got "
                f"{self.vector_channels}"
            )
        plain = self.boundary == ("periodic", "periodic") and self.pole == "none"
        if self.mixer != "afno" and not plain:
            raise ValueError(
                f"boundary and pole are options of mixer=afno, got boundary={self.boundary}, "
                f"pole={self.pole} and mixer={self.mixer}"
            )
        _check_mirrored(self)

    def token_grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of fields of ``shape``, padding included."""
        widths = self.padding.widths(shape, self.patch_size)
        rows, columns = (
            (size + before + after) // patch
            for size, (before, after), patch in zip(shape, widths, self.patch_size, strict=True)
        )
        return rows, columns

    def build(self, *, in_channels: int, out_channels: int) -> "AFNONet":
        """A network with fresh weights."""
        return AFNONet(in_channels, out_channels, config=self)


def _check_mirrored(config: AFNONetConfig) -> None:
    """Refuse tokens that are no points, or a first one that does not lie on the boundary."""
    axes = zip(config.boundary, config.patch_size, config.padding.margin, strict=True)
    for axis, (boundary, patch, margin) in enumerate(axes):
        if boundary == "mirrored" and (patch > 1 or margin):
            raise ValueError(
                f"boundary=mirrored is for tokens that are points, the outermost on the boundary: "
                f"it needs patch_size 1 and padding.margin 0 along its axis, got {patch} and "
                f"{margin} on axis {axis}; set them, or use boundary=reflected or zero_padded"
            )


class AFNOBlock(nn.Module):
    """Mixing over tokens, then over channels, each with normalization and a residual connection.

    With ``double_skip`` the mixer and the MLP have a residual connection each; without it, one
    connection spans both. The mixer's own skip (of its normalized input) is there in both cases.
    """

    def __init__(self, config: AFNONetConfig, drop_path_rate: float) -> None:
        super().__init__()
        self.double_skip = config.double_skip
        self.norm1 = nn.LayerNorm(config.embed_dim, eps=_NORM_EPS)
        self.mixer = _build_mixer(config)
        self.norm2 = nn.LayerNorm(config.embed_dim, eps=_NORM_EPS)
        self.mlp = Mlp(config.embed_dim, int(config.embed_dim * config.mlp_ratio), config.drop_rate)
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, tokens: Float[Tensor, "batch h w embed"]) -> Float[Tensor, "batch h w embed"]:
        """The next layer's tokens."""
        mixed = self.mixer(self.norm1(tokens))
        if not self.double_skip:
            return tokens + self.drop_path(self.mlp(self.norm2(mixed)))
        tokens = tokens + self.drop_path(mixed)
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


def _build_mixer(config: AFNONetConfig) -> nn.Module:
    if config.mixer == "attention":
        return SelfAttention(config.embed_dim, config.num_blocks)
    if config.mixer == "afno":
        return AFNO2D(
            config.embed_dim,
            config.num_blocks,
            sparsity_threshold=config.sparsity_threshold,
            hard_thresholding_fraction=config.hard_thresholding_fraction,
            hidden_size_factor=config.hidden_size_factor,
            reference_grid=config.reference_grid,
            mode_selection=config.mode_selection,
            boundary=config.boundary,
            pole=config.pole,
            vector_channels=config.vector_channels,
            transform=config.transform,
            initialization=config.initialization,
        )
    if config.reference_grid is None:
        raise ValueError(
            f"mixer={config.mixer} has weights for each wavenumber and needs reference_grid, the "
            "rows and columns of tokens"
        )
    kind = FNO2D if config.mixer == "fno" else GlobalFilter2D
    return kind(config.embed_dim, config.reference_grid, config.hard_thresholding_fraction)


class AFNONet(nn.Module):
    """Maps a field with ``in_channels`` to one with ``out_channels`` on the same grid, of any size.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        config: Size and shape.

    References:
        Pathak et al., 2022, https://arxiv.org/abs/2202.11214, figure 2.
    """

    def __init__(self, in_channels: int, out_channels: int, *, config: AFNONetConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_size, self.padding, self.pole = config.patch_size, config.padding, config.pole
        self.checkpoint_activations = config.checkpoint_activations
        self.patch_embed = PatchEmbed(in_channels, config.embed_dim, config.patch_size)
        self.position = None
        if config.position_grid is not None:
            self.position = nn.Parameter(torch.zeros(*config.position_grid, config.embed_dim))
        rates = [config.drop_path_rate * i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.Sequential(*[AFNOBlock(config, rate) for rate in rates])
        norm = nn.LayerNorm(config.embed_dim, eps=_NORM_EPS)
        self.norm = norm if config.final_norm else nn.Identity()
        self.patch_recovery = PatchRecovery(config.embed_dim, out_channels, config.patch_size)
        self.rows: Rows = ALL_ROWS
        self.apply(_initialize)

    def forward(
        self, state: Float[Tensor, "batch in_channel lat lon"]
    ) -> Float[Tensor, "batch out_channel lat lon"]:
        """The output field, cropped to the grid of the input.

        Raises:
            ValueError: If rows are no whole patches and the network knows poles.
        """
        height, width = state.shape[-2:]
        (top, bottom), (left, _) = self.padding.widths((height, width), self.patch_size)
        top, bottom = self.rows.edge_padding(height, (top, bottom))
        if self.pole != "none" and top + bottom:
            raise ValueError(
                f"pole={self.pole} needs whole patches from pole to pole, got {height} rows and "
                f"patches of {self.patch_size[0]} with a margin of {self.padding.margin[0]}"
            )
        tokens = self.patch_embed(self.padding.apply(state, self.patch_size, self.rows))
        if self.position is not None:
            tokens = tokens + _matching(self.position[self.rows.token_slice], tokens)
        for block in self.blocks:
            if self.checkpoint_activations and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, use_reentrant=False)
            else:
                tokens = block(tokens)
        output = self.patch_recovery(self.norm(tokens))
        return output[..., top : top + height, left : left + width]

    def shard(self, rows: ShardedRows) -> None:
        """From here on fields are the rows of this process, and the mixers exchange with others.

        Raises:
            ValueError: If the mixer is not AFNO, or its transform or the padding needs other rows.
        """
        _check_sharing(self.config)
        self.rows = rows
        for module in self.modules():
            if isinstance(module, DropPath | AFNO2D):
                module.rows = rows


def _check_sharing(config: AFNONetConfig) -> None:
    if config.mixer != "afno":
        raise ValueError(f"processes share fields with mixer=afno alone, got {config.mixer}")
    if config.boundary[1] in COSINE_BOUNDARIES:
        raise ValueError(
            "processes share fields whose longitudes are periodic or zero_padded, got boundary="
            f"{config.boundary}"
        )
    if config.padding.latitude == "wrap":
        raise ValueError("padding.latitude=wrap needs rows of another process; use reflect or zero")


def _matching(position: Tensor, tokens: Tensor) -> Tensor:
    if position.shape[:2] != tokens.shape[1:3]:
        raise ValueError(
            f"this network has a position table of {tuple(position.shape[:2])} patches, the field "
            f"has {tuple(tokens.shape[1:3])}; give fields on the grid it was trained on"
        )
    return position


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
