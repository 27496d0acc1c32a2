r"""Transforms between a grid of tokens and its kept Fourier modes, as real matrices or by FFT.

On every axis the transform is a product with a matrix of ``kept`` rows and ``n`` columns: only the
modes that are used are computed, for all channels at once, on a channels-last grid as it is in
memory. Up to a few hundred points an axis that is faster than a fast Fourier transform, which is
here too, for longer axes.

Axes differ by how fields continue beyond their edges:

    periodic     exp(2 pi i k j / n)
    zero_padded  exp(2 pi i k j / (2 n)), the field followed by as many zeros
    reflected    cos(pi k (j + 1/2) / n), the field mirrored at the edges of its cells: for points
                 in the middle of cells, half a cell from the boundary
    mirrored     cos(pi k j / (n - 1)), the field mirrored at its first and last point, of period
                 2 (n - 1): for points that lie on the boundary
    pole         cos for even and sin for odd zonal wavenumbers: a field on the sphere continues
                 beyond the pole on the opposite meridian (glide reflection), and its zonal
                 wavenumber m has the parity of m in colatitude. Components of vectors change sign
                 there and have the other parity.

The last of the exponential axes has half a spectrum, as fields are real.

References:
    The Double Fourier Sphere: Merilees, 1973, https://doi.org/10.1080/00046973.1973.9648342;
    Orszag, 1974, https://doi.org/10.1175/1520-0493(1974)102<0056:FSOS>2.0.CO;2
"""

import copy
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fourcastnet_afno.models.config import Boundary, ModeCounting, Pole, TransformKind
from fourcastnet_afno.models.fourier.axes import (
    Axis,
    CosineAxis,
    HalfAxis,
    PoleAxis,
    RealAxis,
    WaveAxis,
    Wavenumbers,
    has_halves,
    multiplicity,
)
from fourcastnet_afno.models.fourier.modes import (
    axis_modes,
    expand_modes,
    fourcastnet_modes,
    kept_modes,
    largest_wavenumber,
    select_modes,
    signed_wavenumbers,
)

COSINE_BOUNDARIES = ("reflected", "mirrored")
"""Boundaries whose waves are cosines alone, without a sign of the wavenumber."""

# An FFT takes about as long for each value of a grid as matrices of this many operations, hardly
# depending on the grid: measured on CPUs (benchmarks/benchmark_transforms.py, and copies around
# it), a guess on GPUs. It is a table, not a measurement at run time, so that a resumed run has the
# same bits.
_OPERATIONS_OF_FFT = {"cpu": 1200.0, "cuda": 2000.0}


@dataclass(frozen=True, kw_only=True)
class ModeSelection:
    """Which modes of a grid of tokens are mixed.

    Args:
        fraction: Share of the wavenumbers that are kept on each axis, see ``kept_modes``.
        reference_grid: Points by axis of the grid that the fraction is of and whose orthonormal
            transform scales the coefficients; None for the tokens' own grid.
        boundary: Continuation beyond the edges, for all axes or by axis.
        pole: ``double_fourier_sphere`` if the last two axes are latitude, from pole to pole
            with cell centers at half steps, and longitude.
        vector_channels: How many of the last channels change sign across the pole.
        mode_selection: ``wavenumber``, or ``fourcastnet`` for ``fourcastnet_modes``.
        transform: ``matrix``, ``fft`` (periodic axes alone) or ``auto`` for the faster one.
    """

    fraction: float = 1.0
    reference_grid: tuple[int, ...] | None = None
    boundary: Boundary | tuple[Boundary, ...] = "periodic"
    pole: Pole = "none"
    vector_channels: int = 0
    mode_selection: ModeCounting = "wavenumber"
    transform: TransformKind = "auto"

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError(f"hard_thresholding_fraction must lie in 0..1, got {self.fraction}")
        needs_periodic = f"periodic axes, got boundary={self.boundary}, pole={self.pole}"
        if self.mode_selection == "fourcastnet" and not self.is_periodic:
            raise ValueError(f"mode_selection=fourcastnet is for {needs_periodic}")
        if self.transform == "fft" and not self.is_periodic:
            raise ValueError(f"transform=fft is for {needs_periodic}; use transform=auto")
        if self.pole != "none" and self.boundaries(2)[-1:] != ("periodic",):
            raise ValueError(f"pole={self.pole} needs periodic longitudes, got {self.boundary}")

    @property
    def is_periodic(self) -> bool:
        """Whether every axis is periodic, without a pole."""
        return set(self.boundaries(1)) == {"periodic"} and self.pole == "none"

    def boundaries(self, num_axes: int) -> tuple[Boundary, ...]:
        """Boundary of each axis."""
        return self.boundary if isinstance(self.boundary, tuple) else (self.boundary,) * num_axes

    def periodic_modes(self, shape: Sequence[int]) -> list[np.ndarray]:
        """Kept modes of a grid whose axes are all periodic, see ``kept_modes``."""
        if self.mode_selection == "fourcastnet":
            return fourcastnet_modes(shape, self.fraction)
        return kept_modes(shape, self.fraction, self.reference_grid)

    def to_json(self) -> str:
        """Text that ``transform_for`` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "ModeSelection":
        """Inverse of ``to_json``."""
        values = json.loads(text)
        for name in ("reference_grid", "boundary"):
            if isinstance(values[name], list):
                values[name] = tuple(values[name])
        return cls(**values)


class ModeAxis(NamedTuple):
    """Meaning of the modes along one of their axes.

    Args:
        kind: ``wave`` for exponentials, ``cosine``, or ``pole`` for cosines and sines by parity.
        grid_axis: The axis of the grid that it belongs to.
        wavenumbers: Those of the modes, in their order.
        period: Points of the reference grid to a wave of wavenumber 1.
    """

    kind: Literal["wave", "cosine", "pole"]
    grid_axis: int
    wavenumbers: np.ndarray
    period: int


class Transform(ABC):
    """A transform to kept modes and back, and the adjoints of both.

    Fields have shape (batch, *grid, channel), modes (batch, *kept, 2, channel) with real and
    imaginary part on the last but one axis. The order of the modes is the transform's own.

    Attributes:
        kept: Number of modes by axis, in the order of the modes' axes.
        mode_axes: What they are; an axis of one entry, where no axis is exponential, is left out.
    """

    kept: tuple[int, ...]
    mode_axes: tuple[ModeAxis, ...]

    @property
    def num_modes(self) -> int:
        """Number of modes of a field."""
        return math.prod(self.kept)

    @abstractmethod
    def to_modes(self, fields: Tensor, channels: slice, adjoint: bool = False) -> Tensor:
        """Modes of the fields' ``channels``, or the adjoint of ``add_to_grid``'s modes."""

    @abstractmethod
    def add_to_grid(
        self,
        modes: Tensor,
        fields: Tensor | None,
        out: Tensor,
        channels: slice,
        adjoint: bool = False,
    ) -> None:
        """Write ``fields`` plus the fields of ``modes`` (or their adjoint) to ``out``'s channels.

        Both have all channels, the modes those of ``channels``. Without ``fields`` only those of
        the modes are written.
        """


class MatrixTransform(Transform):
    """A transform by products with one matrix for each axis; a plan until ``to`` gives it tensors.

    On grids of latitude and longitude its stages, one for each axis, are there by themselves.
    Between them values have shape (batch, row, zonal wavenumber, 2, channel); rows, and zonal
    wavenumbers behind the first stage, may be some of all.
    """

    _dtype: torch.dtype

    def __init__(
        self,
        half: HalfAxis | RealAxis,
        axes: Sequence[Axis],
        half_axis: int,
        mode_axes: Sequence[ModeAxis],
    ) -> None:
        # The half axis goes first on the way to the modes and last on the way back.
        self._half, self._axes, self._half_axis = half, axes, half_axis
        self.mode_axes = tuple(mode_axes)
        self.kept = (*(axis.kept for axis in axes), half.kept)

    def to_modes(self, fields: Tensor, channels: slice, adjoint: bool = False) -> Tensor:
        """See ``Transform``."""
        selected = self._half_last(fields[..., channels].to(self._dtype))
        modes = self._half.to_modes(selected, adjoint)
        for position, axis in reversed(list(enumerate(self._axes, start=1))):
            modes = _along(modes, position, axis.to_modes, channels, adjoint)
        return modes

    def add_to_grid(
        self,
        modes: Tensor,
        fields: Tensor | None,
        out: Tensor,
        channels: slice,
        adjoint: bool = False,
    ) -> None:
        """See ``Transform``."""
        for position, axis in enumerate(self._axes, start=1):
            modes = _along(modes, position, axis.to_grid, channels, adjoint)
        skip = None if fields is None else self._half_last(fields[..., channels])
        self._half.add_to_grid(modes, skip, self._half_last(out[..., channels]), adjoint)

    def to(self, device: torch.device, dtype: torch.dtype) -> "MatrixTransform":
        """A copy that transforms, on a device."""
        result = copy.deepcopy(self)
        result._dtype = dtype
        for axis in (result._half, *result._axes):
            for pair in axis.pairs:
                pair.load(device, dtype)
        return result

    def _half_last(self, fields: Tensor) -> Tensor:
        return fields.movedim(self._half_axis + 1, -2)

    def to_zonal(self, fields: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """Longitudes of the fields' ``channels`` to all zonal wavenumbers."""
        return self._half.to_modes(fields[..., channels].to(self._dtype), adjoint)

    def to_meridional(self, modes: Tensor, channels: slice, zonal: slice, adjoint: bool) -> Tensor:
        """All rows to modes, of the zonal wavenumbers ``zonal``."""
        return self._axes[0].select(zonal).to_modes(modes, channels, adjoint)

    def to_rows(self, modes: Tensor, channels: slice, zonal: slice, adjoint: bool) -> Tensor:
        """Modes of the zonal wavenumbers ``zonal`` to all rows."""
        return self._axes[0].select(zonal).to_grid(modes, channels, adjoint)

    def add_from_zonal(
        self, modes: Tensor, fields: Tensor | None, out: Tensor, channels: slice, adjoint: bool
    ) -> None:
        """Write ``fields`` plus the fields of all zonal wavenumbers to ``out``'s channels."""
        skip = None if fields is None else fields[..., channels]
        self._half.add_to_grid(modes, skip, out[..., channels], adjoint)


def _write_sum(fields: Tensor | None, change: Tensor, out: Tensor, channels: slice) -> None:
    if fields is None:
        out[..., channels] = change
    else:
        torch.add(fields[..., channels], change, out=out[..., channels])


def _along(
    modes: Tensor, position: int, function: Callable[..., Tensor], channels: slice, adjoint: bool
) -> Tensor:
    """Apply a function of (before, axis, after, 2, channel) to one axis of modes."""
    before, size, after = modes.shape[:position], modes.shape[position], modes.shape[position + 1 :]
    flat = modes.reshape(math.prod(before), size, math.prod(after[:-2]), *after[-2:])
    result = function(flat, channels, adjoint)
    return result.view(*before, result.shape[1], *after)


class FFTTransform(Transform):
    """A transform of periodic axes by fast Fourier transforms, with selection of the kept modes."""

    _indices: list[Tensor]
    _to_modes: tuple[Tensor, Tensor]
    _to_grid: tuple[Tensor, Tensor]

    def __init__(
        self, indices: Sequence[np.ndarray], shape: Sequence[int], reference: Sequence[int]
    ) -> None:
        self._arrays, self._shape = indices, tuple(shape)
        self._scale = math.sqrt(math.prod(reference))
        self.kept = tuple(len(axis) for axis in indices)
        self.mode_axes = tuple(
            ModeAxis("wave", axis, signed_wavenumbers(kept, size), period)
            for axis, (kept, size, period) in enumerate(zip(indices, shape, reference, strict=True))
        )

    def to(self, device: torch.device, dtype: torch.dtype) -> "FFTTransform":
        """See ``MatrixTransform``."""
        result = copy.copy(self)
        result._indices = [torch.from_numpy(axis).to(device) for axis in self._arrays]
        weight = multiplicity(self._arrays[-1], self._shape[-1])
        weight = torch.from_numpy(weight).to(device, dtype)[:, None]
        analysis, synthesis = self._scale / math.prod(self._shape), 1 / self._scale
        result._to_modes = torch.full_like(weight, analysis), weight * synthesis
        result._to_grid = torch.full_like(weight, synthesis), analysis / weight
        return result

    def to_modes(self, fields: Tensor, channels: slice, adjoint: bool = False) -> Tensor:
        """See ``Transform``."""
        axes = tuple(range(1, fields.ndim - 1))
        factor = self._to_modes[adjoint]
        spectrum = torch.fft.rfftn(fields[..., channels].to(factor.dtype), dim=axes)
        spectrum = select_modes(spectrum, self._indices)
        return _as_real(spectrum * factor)

    def add_to_grid(
        self,
        modes: Tensor,
        fields: Tensor | None,
        out: Tensor,
        channels: slice,
        adjoint: bool = False,
    ) -> None:
        """See ``Transform``."""
        spectrum = _as_complex(modes) * self._to_grid[adjoint]
        half = (len(modes), *self._shape[:-1], self._shape[-1] // 2 + 1, modes.shape[-1])
        spectrum = expand_modes(spectrum, self._indices, half)
        *others, last = range(1, modes.ndim - 2)
        # One axis at a time: a transform of several to real fields takes symmetry for granted,
        # and the modes of zonal wavenumber zero have none.
        if others:
            spectrum = torch.fft.ifftn(spectrum, dim=others, norm="forward")
        change = torch.fft.irfft(spectrum, n=self._shape[-1], dim=last, norm="forward")
        _write_sum(fields, change, out, channels)

    def to_zonal(self, fields: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """See ``MatrixTransform``."""
        factor = self._to_modes[adjoint]
        spectrum = torch.fft.rfft(fields[..., channels].to(factor.dtype), dim=-2)
        return _as_real(spectrum.index_select(-2, self._indices[-1]) * factor)

    def to_meridional(self, modes: Tensor, channels: slice, zonal: slice, adjoint: bool) -> Tensor:
        """See ``MatrixTransform``."""
        spectrum = torch.fft.fft(_as_complex(modes), dim=1)
        return _as_real(spectrum.index_select(1, self._indices[0]))

    def to_rows(self, modes: Tensor, channels: slice, zonal: slice, adjoint: bool) -> Tensor:
        """See ``MatrixTransform``."""
        spectrum = _as_complex(modes)
        full = spectrum.new_zeros(len(spectrum), self._shape[0], *spectrum.shape[2:])
        full.index_copy_(1, self._indices[0], spectrum)
        return _as_real(torch.fft.ifft(full, dim=1, norm="forward"))

    def add_from_zonal(
        self, modes: Tensor, fields: Tensor | None, out: Tensor, channels: slice, adjoint: bool
    ) -> None:
        """See ``MatrixTransform``."""
        spectrum = _as_complex(modes) * self._to_grid[adjoint]
        full = spectrum.new_zeros(*spectrum.shape[:2], self._shape[1] // 2 + 1, spectrum.shape[-1])
        full.index_copy_(2, self._indices[1], spectrum)
        change = torch.fft.irfft(full, n=self._shape[1], dim=2, norm="forward")
        _write_sum(fields, change, out, channels)


LocalTransform = MatrixTransform | FFTTransform


@lru_cache(maxsize=64)
def transform_for(
    spectrum: str, shape: tuple[int, ...], channels: int, dtype: torch.dtype, device: torch.device
) -> LocalTransform:
    """The transform of a grid of ``shape`` to the modes of a ``ModeSelection`` given as JSON.

    Raises:
        ValueError: If the grid does not suit the spectrum.
    """
    return plan_for(spectrum, shape, channels, device.type).to(device, dtype)


@lru_cache(maxsize=64)
def plan_for(
    spectrum: str, shape: tuple[int, ...], channels: int, device_type: str
) -> LocalTransform:
    """``transform_for`` without tensors, which knows the number of modes."""
    selection = ModeSelection.from_json(spectrum)
    for name in ("boundary", "reference_grid"):
        value = getattr(selection, name)
        if isinstance(value, tuple) and len(value) != len(shape):
            raise ValueError(f"{name} has {len(value)} axes, got tokens of {len(shape)} {shape}")
    if selection.pole != "none" and len(shape) < 2:
        raise ValueError(f"pole={selection.pole} needs latitude and longitude, got {shape}")
    by_fft = selection.transform == "fft"
    if selection.transform == "auto" and selection.is_periodic:
        limit = _OPERATIONS_OF_FFT.get(device_type, _OPERATIONS_OF_FFT["cuda"])
        kept = [len(indices) for indices in selection.periodic_modes(shape)]
        by_fft = matrix_operations(kept, shape) > limit
    if by_fft:
        return FFTTransform(
            selection.periodic_modes(shape), shape, selection.reference_grid or shape
        )
    return _matrix_transform(selection, shape, channels)


def matrix_operations(kept: Sequence[int], shape: Sequence[int]) -> float:
    """Floating-point operations of a matrix transform of periodic axes, by value of the grid."""
    operations, share = 4.0 * kept[-1], 2 * kept[-1] / shape[-1]
    for rows, points in reversed(list(zip(kept[:-1], shape[:-1], strict=True))):
        operations += 2 * rows * share  # cosines and sines of one sign serve both
        share *= rows / points
    return operations


def _matrix_transform(
    spectrum: ModeSelection, shape: tuple[int, ...], channels: int
) -> MatrixTransform:
    boundaries, num_axes = spectrum.boundaries(len(shape)), len(shape)
    exponential = [i for i, name in enumerate(boundaries) if name not in COSINE_BOUNDARIES]
    has_pole = spectrum.pole != "none"
    half, half_axis, num_even = RealAxis(), num_axes - 1, 0
    half_modes: list[ModeAxis] = []
    if exponential:
        half_axis = half_axis if has_pole else exponential[-1]
        wavenumbers, period, scale = _wavenumbers(spectrum, shape, half_axis, half=True)
        num_even = len(wavenumbers[0::2])
        if has_pole or has_halves(shape[half_axis], period):  # even wavenumbers first
            wavenumbers = np.concatenate([wavenumbers[0::2], wavenumbers[1::2]])
        half = HalfAxis(wavenumbers, shape[half_axis], period, scale)
        half_modes = [ModeAxis("wave", half_axis, wavenumbers, round(scale**2))]
    axes: list[Axis] = []
    mode_axes: list[ModeAxis] = []
    for i, (boundary, points) in enumerate(zip(boundaries, shape, strict=True)):
        steps = (spectrum.reference_grid or shape)[i]
        if i == half_axis and exponential:
            continue
        if has_pole and i == num_axes - 2:
            largest = min(largest_wavenumber(2 * steps, spectrum.fraction), points)
            first_vector = channels - spectrum.vector_channels
            axes.append(PoleAxis(largest + 1, points, math.sqrt(steps), num_even, first_vector))
            mode_axes.append(ModeAxis("pole", i, np.arange(largest + 1), 2 * steps))
        elif boundary in COSINE_BOUNDARIES:
            mirrored = boundary == "mirrored"
            steps -= mirrored
            largest = min(largest_wavenumber(2 * steps, spectrum.fraction), points - 1)
            scale = math.sqrt(max(steps, 1))
            axes.append(CosineAxis(largest + 1, points, scale, end_points=mirrored))
            mode_axes.append(ModeAxis("cosine", i, np.arange(largest + 1), 2 * max(steps, 1)))
        else:
            wavenumbers, period, scale = _wavenumbers(spectrum, shape, i, half=False)
            axes.append(WaveAxis(wavenumbers, points, period, scale))
            is_negative = wavenumbers < 0  # it has both signs from the longest wave on
            signed = [wavenumbers[~is_negative], wavenumbers[is_negative][::-1]]
            mode_axes.append(ModeAxis("wave", i, np.concatenate(signed), round(scale**2)))
    return MatrixTransform(half, axes, half_axis, [*mode_axes, *half_modes])


def _wavenumbers(
    spectrum: ModeSelection, shape: tuple[int, ...], axis: int, half: bool
) -> tuple[Wavenumbers, int, float]:
    """Signed wavenumbers of an exponential axis, its period in points, and its scale."""
    factor = 2 if spectrum.boundaries(len(shape))[axis] == "zero_padded" else 1
    period = factor * shape[axis]
    reference = factor * (spectrum.reference_grid or shape)[axis]
    if spectrum.mode_selection == "fourcastnet":
        indices = fourcastnet_modes(shape, spectrum.fraction)[axis]
    else:
        indices = axis_modes(period, spectrum.fraction, reference, half=half)
    return signed_wavenumbers(indices, period), period, math.sqrt(reference)


def _as_real(spectrum: Tensor) -> Tensor:
    """Complex (..., channel) as (..., 2, channel)."""
    return torch.view_as_real(spectrum).movedim(-1, -2)


def _as_complex(modes: Tensor) -> Tensor:
    """Inverse of ``_as_real``."""
    return torch.complex(*modes.unbind(-2))


def called_directly(keep: bool) -> bool:
    """Whether a function on modes runs as it is, not as an operator of torch.

    An export shows its matrix products, to users who lack the operator; and forecasts, which keep
    nothing for gradients, save the time that torch takes around one.
    """
    return torch.compiler.is_exporting() or not (keep or torch.compiler.is_compiling())
