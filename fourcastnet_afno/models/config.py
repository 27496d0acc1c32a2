"""Configurations of networks; they import no torch, so that the command line shows them at once."""

from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Le, Lt

from data_pipeline.bounds import Count, check_bounds

PaddingMode = Literal["reflect", "wrap", "zero"]
Boundary = Literal["periodic", "reflected", "mirrored", "zero_padded"]
Pole = Literal["none", "double_fourier_sphere"]
ModeCounting = Literal["wavenumber", "fourcastnet"]
TransformKind = Literal["auto", "matrix", "fft"]
Initialization = Literal["small", "he", "identity"]
_Margin = Annotated[int, Ge(0), Le(10_000)]
_Patch = Annotated[int, Ge(1), Le(4096)]
_Width = Annotated[int, Ge(1), Le(65_536)]
_Rate = Annotated[float, Ge(0), Lt(1)]
_MOST_LENGTH_SCALES = 32


@dataclass(frozen=True, kw_only=True)
class Padding:
    """How a field is extended to a multiple of the patch; the forecast is cropped back.

    Args:
        latitude: Of the first axis, y on a plane: ``reflect`` mirrors rows at the edge, ``zero``
            adds zeros; ``wrap`` joins both ends and is right only for a periodic plane.
        longitude: Of the second axis, x on a plane: ``wrap`` where it closes on itself, as in a
            global field; ``reflect`` or ``zero`` for a region.
        margin: Rows and columns added on each side before rounding up to the patch, so that a
            Fourier mixer does not join opposite edges of a region directly.
    """

    latitude: PaddingMode = "reflect"
    longitude: PaddingMode = "wrap"
    margin: tuple[_Margin, _Margin] = (0, 0)

    def __post_init__(self) -> None:
        check_bounds(self, "padding")

    def widths(self, shape: tuple[int, int], patch_size: tuple[int, int]) -> list[tuple[int, int]]:
        """Rows or columns to add before and after, by axis."""
        widths = []
        for size, patch, margin in zip(shape, patch_size, self.margin, strict=True):
            total = -(-(size + 2 * margin) // patch) * patch - size
            widths.append((total // 2, total - total // 2))
        return widths


def scaled_padding(padding: Padding, old: tuple[int, int], new: tuple[int, int]) -> Padding:
    """The same padding for fields of another resolution: margins keep their share of an axis."""
    rows, columns = (
        round(margin * after / before)
        for margin, before, after in zip(padding.margin, old, new, strict=True)
    )
    return replace(padding, margin=(rows, columns))


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """Random fields by which the members of an ensemble differ in every step, see ``noise``.

    Args:
        length_scales: L of the correlation exp(-d^2 / (2 L^2)) of the fields, in km on the globe
            and in units of x and y on planes; the model has no noise where empty.
        channels: Independent fields of each length scale.
        memory_hours: Time in which the correlation of the fields falls by a factor e; with 0 those
            of each step are independent.
        width: Channels of the tokens that the fields become.
    """

    length_scales: list[Annotated[float, Gt(0), Le(1e12)]] = field(default_factory=list)
    channels: Annotated[int, Ge(1), Le(256)] = 4
    memory_hours: Annotated[float, Ge(0), Le(1e6)] = 0.0
    width: Annotated[int, Ge(1), Le(4096)] = 32

    def __post_init__(self) -> None:
        check_bounds(self, "model.noise")
        if len(self.length_scales) > _MOST_LENGTH_SCALES:
            raise ValueError(
                f"model.noise.length_scales must be at most {_MOST_LENGTH_SCALES}, got "
                f"{len(self.length_scales)}"
            )

    @property
    def num_channels(self) -> int:
        """Number of fields of all length scales."""
        return len(self.length_scales) * self.channels


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
        wavenumber_weights: ``none`` is the paper's AFNO, one perceptron for all wavenumbers;
            ``kernel`` has a factor for each wavenumber and channel between its layers, in place of
            the rectifier and the threshold, see ``WavenumberAFNO``.
        kernel_window: Tokens that the kernel of these factors reaches to each side.
        mlp_ratio: Hidden width of the token-wise MLP over ``embed_dim``.
        gated_mlp: Whether the hidden layer of the MLP is a product of two, of two thirds of the
            width each: for equations of products, such as advection; see ``GatedMlp``.
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
        boundary: How AFNO's transform continues fields beyond the edges of latitude and longitude,
            or of y and x, see ``transforms``; along ``mirrored`` axes patches are points.
        pole: ``double_fourier_sphere`` for global grids: AFNO continues fields across the poles.
        vector_channels: How many channels of a token change sign across the pole.
        transform: How AFNO's modes are computed; the result is the same.
        initialization: Of AFNO's weights: ``he``, or ``small`` like FourCastNet's, see ``AFNO``;
            ``identity`` is for kernels, see ``WavenumberAFNO``.
        checkpoint_activations: Whether blocks are computed again in the backward pass instead of
            kept, for a third more time and a fraction of the memory.
        position_grid: Rows and columns of a learned table that is added to the tokens and ties the
            network to one grid; for published weights alone.
        final_norm: Whether the last tokens are normalized; published weights are without.
    """

    patch_size: tuple[_Patch, _Patch] = (4, 4)
    embed_dim: _Width = 128
    depth: Annotated[int, Ge(1), Le(10_000)] = 4
    mixer: Literal["afno", "fno", "global_filter", "attention"] = "afno"
    num_blocks: _Width = 8
    wavenumber_weights: Literal["none", "kernel"] = "none"
    kernel_window: Annotated[int, Ge(0), Le(4096)] = 16
    mlp_ratio: Annotated[float, Gt(0), Le(256)] = 4.0
    gated_mlp: bool = False
    sparsity_threshold: Annotated[float, Ge(0), Le(1e6)] = 0.01
    hard_thresholding_fraction: Annotated[float, Interval(ge=0, le=1)] = 1.0
    hidden_size_factor: Annotated[int, Ge(1), Le(256)] = 1
    drop_rate: _Rate = 0.0
    drop_path_rate: _Rate = 0.0
    double_skip: bool = True
    padding: Padding = field(default_factory=Padding)
    reference_grid: tuple[Count, Count] | None = None
    mode_selection: ModeCounting = "wavenumber"
    position_grid: tuple[Count, Count] | None = None
    final_norm: bool = True
    boundary: tuple[Boundary, Boundary] = ("periodic", "periodic")
    pole: Pole = "none"
    vector_channels: Annotated[int, Ge(0), Le(65_536)] = 0
    transform: TransformKind = "auto"
    initialization: Initialization = "he"
    checkpoint_activations: bool = False

    def __post_init__(self) -> None:
        check_bounds(self, "network")
        if self.embed_dim * self.mlp_ratio < 1:
            raise ValueError(
                f"mlp_ratio={self.mlp_ratio} of embed_dim={self.embed_dim} leaves the MLP without "
                "a hidden channel; raise either"
            )
        if self.embed_dim % self.num_blocks:
            raise ValueError(
                f"num_blocks must divide embed_dim, got {self.num_blocks} and {self.embed_dim}"
            )
        if not 0 <= self.vector_channels <= self.embed_dim:
            limits = f"in 0..embed_dim={self.embed_dim}"
            raise ValueError(f"vector_channels must be {limits}, got {self.vector_channels}")
        if self.wavenumber_weights != "none":
            if self.mixer != "afno" or self.mode_selection == "fourcastnet":
                raise ValueError(
                    "wavenumber_weights is for mixer=afno and mode_selection=wavenumber, got "
                    f"{self.mixer} and {self.mode_selection}"
                )
            vectors = 2 * self.vector_channels
            if vectors and (vectors != self.embed_dim or self.num_blocks % 2):
                raise ValueError(
                    "wavenumber_weights needs vector_channels=0, or half of embed_dim and an even "
                    f"num_blocks, got {self.vector_channels}, {self.embed_dim} and "
                    f"{self.num_blocks}"
                )
        elif self.initialization == "identity":
            raise ValueError("initialization=identity is for wavenumber_weights=kernel alone")
        is_periodic = self.boundary == ("periodic", "periodic") and self.pole == "none"
        if self.mixer != "afno" and not is_periodic:
            raise ValueError(
                f"boundary and pole are options of mixer=afno, got boundary={self.boundary}, "
                f"pole={self.pole} and mixer={self.mixer}"
            )
        axes = zip(self.boundary, self.patch_size, self.padding.margin, strict=True)
        for axis, (boundary, patch, margin) in enumerate(axes):
            if boundary == "mirrored" and (patch > 1 or margin):
                raise ValueError(
                    "boundary=mirrored needs patch_size 1 and padding.margin 0, so that tokens are "
                    f"points and the outermost ones on the boundary, got {patch} and {margin} on "
                    f"axis {axis}; set them, or use boundary=reflected or zero_padded"
                )

    def to_json(self) -> dict[str, Any]:
        """Plain values; unused settings that earlier versions did not know are left out."""
        settings = asdict(self)
        if self.wavenumber_weights == "none":
            del settings["wavenumber_weights"], settings["kernel_window"]
        if not self.gated_mlp:
            del settings["gated_mlp"]
        return settings

    def token_grid(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of fields of ``shape``, padding included."""
        widths = self.padding.widths(shape, self.patch_size)
        rows, columns = (
            (size + before + after) // patch
            for size, (before, after), patch in zip(shape, widths, self.patch_size, strict=True)
        )
        return rows, columns
