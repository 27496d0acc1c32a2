"""AFNONet: a vision transformer whose attention is an adaptive Fourier neural operator.

    field -> padding -> patches -> depth x [mixer, MLP] -> patches -> crop -> field

A network with noise maps patches of random fields to tokens z as well, and each block scales and
shifts the tokens x that its layers see by a linear map of them, at first zero:

    norm(x) (1 + scale(z)) + shift(z)

References:
    FourCastNet: A Global Data-driven High-resolution Weather Model using Adaptive Fourier Neural
    Operators, Pathak et al., 2022, https://arxiv.org/abs/2202.11214, section 3.
    Alet et al., 2025, Skillful joint probabilistic weather forecasting from marginals,
    https://arxiv.org/abs/2506.10772 (noise through conditional normalization).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from fourcastnet_afno.models.config import AFNONetConfig
from fourcastnet_afno.models.fourier.transforms import COSINE_BOUNDARIES
from fourcastnet_afno.models.layers import (
    DropPath,
    GatedMlp,
    Mlp,
    NoiseModulation,
    PatchEmbed,
    PatchRecovery,
    pad_to_patches,
)
from fourcastnet_afno.models.mixers import (
    AFNO2D,
    FNO2D,
    GlobalFilter2D,
    ModeMixer,
    ModeOptions,
    SelfAttention,
    WavenumberAFNO,
)
from fourcastnet_afno.parallel.row_sharding import ALL_ROWS, Rows, ShardedRows

_NORM_EPS = 1e-6


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
        mlp = GatedMlp if config.gated_mlp else Mlp
        self.mlp = mlp(config.embed_dim, int(config.embed_dim * config.mlp_ratio), config.drop_rate)
        self.drop_path = DropPath(drop_path_rate)
        self.modulation: NoiseModulation | None = None

    def forward(
        self,
        tokens: Float[Tensor, "batch h w embed"],
        noise: Float[Tensor, "batch h w noise_width"] | None = None,
    ) -> Float[Tensor, "batch h w embed"]:
        """Tokens of the next layer."""
        first, second = self.norm1, self.norm2
        if self.modulation is not None and noise is not None:
            first, second = self.modulation.of(first, second, noise)
        mixed = self.mixer(first(tokens))
        if not self.double_skip:
            return tokens + self.drop_path(self.mlp(second(mixed)))
        tokens = tokens + self.drop_path(mixed)
        return tokens + self.drop_path(self.mlp(second(tokens)))


def _build_mixer(config: AFNONetConfig) -> nn.Module:
    if config.mixer == "attention":
        return SelfAttention(config.embed_dim, config.num_blocks)
    if config.mixer == "afno":
        modes: ModeOptions = {
            "hard_thresholding_fraction": config.hard_thresholding_fraction,
            "reference_grid": config.reference_grid,
            "mode_selection": config.mode_selection,
            "boundary": config.boundary,
            "pole": config.pole,
            "vector_channels": config.vector_channels,
            "transform": config.transform,
        }
        if config.wavenumber_weights == "kernel":
            return WavenumberAFNO(
                config.embed_dim,
                config.num_blocks,
                window=config.kernel_window,
                initialization=config.initialization,
                **modes,
            )
        return AFNO2D(
            config.embed_dim,
            config.num_blocks,
            sparsity_threshold=config.sparsity_threshold,
            hidden_size_factor=config.hidden_size_factor,
            initialization=config.initialization,
            **modes,
        )
    if config.reference_grid is None:
        raise ValueError(f"mixer={config.mixer} needs reference_grid, rows and columns of tokens")
    kind = FNO2D if config.mixer == "fno" else GlobalFilter2D
    return kind(config.embed_dim, config.reference_grid, config.hard_thresholding_fraction)


class AFNONet(nn.Module):
    """Maps a field with ``in_channels`` to one with ``out_channels`` on the same grid, of any size.

    Args:
        in_channels: Channels that go in.
        out_channels: Channels that come out.
        config: Size and shape.
        noise_channels: Random fields of mean square 1 that go in besides, see the module's header.
        noise_width: Channels of their tokens.

    References:
        Pathak et al., 2022, https://arxiv.org/abs/2202.11214, figure 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        config: AFNONetConfig,
        noise_channels: int = 0,
        noise_width: int = 32,
    ) -> None:
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
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.noise_embed = None
        if noise_channels:  # last, so that all other weights are those of a network without
            self.noise_embed = PatchEmbed(noise_channels, noise_width, config.patch_size)
            # Fields of zero are tokens of zero: training with them leaves the modulation at zero.
            nn.init.zeros_(self.noise_embed.projection.bias)
            for block in self.blocks:
                assert isinstance(block, AFNOBlock)
                block.modulation = NoiseModulation(
                    noise_width, config.embed_dim, config.vector_channels
                )

    def forward(
        self,
        state: Float[Tensor, "batch in_channel lat lon"],
        noise: Float[Tensor, "batch noise lat lon"] | None = None,
    ) -> Float[Tensor, "batch out_channel lat lon"]:
        """The output field, cropped to the grid of the input.

        Raises:
            ValueError: If the rows do not divide into patches and the network knows poles.
        """
        height, width = state.shape[-2:]
        (top, bottom), (left, _) = self.padding.widths((height, width), self.patch_size)
        top, bottom = self.rows.edge_padding(height, (top, bottom))
        if self.pole != "none" and top + bottom:
            raise ValueError(
                f"pole={self.pole} needs whole patches from pole to pole, got {height} rows and "
                f"patches of {self.patch_size[0]} with a margin of {self.padding.margin[0]}"
            )
        tokens = self.patch_embed(pad_to_patches(state, self.padding, self.patch_size, self.rows))
        if self.position is not None:
            position = self.position[self.rows.token_slice]
            if position.shape[:2] != tokens.shape[1:3]:
                raise ValueError(
                    f"the position table has {tuple(position.shape[:2])} patches, the field has "
                    f"{tuple(tokens.shape[1:3])}; give fields on the grid of the training"
                )
            tokens = tokens + position
        of_noise = None
        if self.noise_embed is not None and noise is not None:
            padded = pad_to_patches(noise, self.padding, self.patch_size, self.rows)
            of_noise = functional.gelu(self.noise_embed(padded))
        for block in self.blocks:
            if self.checkpoint_activations and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, of_noise, use_reentrant=False)
            else:
                tokens = block(tokens, of_noise)
        output = self.patch_recovery(self.norm(tokens))
        return output[..., top : top + height, left : left + width]

    def shard(self, rows: ShardedRows) -> None:
        """Take fields as the rows of this process; from now on the mixers exchange with others.

        Raises:
            ValueError: If the mixer is not AFNO, or its transform or the padding needs other rows.
        """
        config = self.config
        if config.mixer != "afno":
            raise ValueError(f"processes share fields with mixer=afno alone, got {config.mixer}")
        if config.boundary[1] in COSINE_BOUNDARIES:
            raise ValueError(
                "processes share fields whose longitudes are periodic or zero_padded, got "
                f"boundary={config.boundary}"
            )
        if config.padding.latitude == "wrap":
            raise ValueError(
                "processes share no rows of padding.latitude=wrap; use reflect or zero"
            )
        self.rows = rows
        for module in self.modules():
            if isinstance(module, DropPath | ModeMixer):
                module.rows = rows
