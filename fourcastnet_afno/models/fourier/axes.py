"""The axes of a matrix transform, each from points to modes and back, see ``transforms``.

Matrices of an axis are a pair, analysis (kept x points) and synthesis (points x kept); the adjoint
of one stage is the transpose of the other.
"""

import copy
import itertools
import math
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

Wavenumbers = Int[np.ndarray, " kept"]
_Matrix = Float[np.ndarray, "_ _"]


class _Pair:
    """The matrices of an axis: analysis (kept x points) and synthesis (points x kept)."""

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, analysis: _Matrix, synthesis: _Matrix) -> None:
        self._arrays = analysis, synthesis

    def load(self, device: torch.device, dtype: torch.dtype) -> None:
        self.analysis, self.synthesis = (
            torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)
            for array in self._arrays
        )

    def to_modes(self, adjoint: bool) -> Tensor:
        return self.synthesis.mT if adjoint else self.analysis

    def to_grid(self, adjoint: bool) -> Tensor:
        return self.analysis.mT if adjoint else self.synthesis


# Below, sums and differences of halves take longer than the products that they save: measured.
_LEAST_POINTS_OF_HALVES = 96


def has_halves(points: int, period: int) -> bool:
    """Whether a ``HalfAxis`` with even wavenumbers first is transformed in two halves."""
    return points == period and points % 2 == 0 and points >= _LEAST_POINTS_OF_HALVES


class HalfAxis:
    """The axis with half a spectrum; rows of its matrices are (wavenumber, real or imaginary).

    On a circle of an even number of points, with even wavenumbers first, the second half of the
    points has the waves of the first half, odd ones with the other sign: two products of a quarter
    of the size, with the sum and the difference of the halves.
    """

    def __init__(self, wavenumbers: Wavenumbers, points: int, period: int, scale: float) -> None:
        angle = _angles(wavenumbers, points, period)
        waves = np.stack([np.cos(angle), -np.sin(angle)], axis=1).reshape(-1, points)
        weight = np.repeat(multiplicity(wavenumbers, period), 2)
        analysis, synthesis = waves * (scale / period), waves.T * weight / scale
        self.kept = len(wavenumbers)
        self.pairs: tuple[_Pair, ...] = (_Pair(analysis, synthesis),)
        is_odd = wavenumbers % 2
        self._num_even, self._half = 2 * int((is_odd == 0).sum()), points // 2
        self._has_halves = has_halves(points, period) and bool((np.diff(is_odd) >= 0).all())
        if self._has_halves:
            self.pairs = tuple(
                _Pair(analysis[rows, : self._half], synthesis[: self._half, rows])
                for rows in (slice(self._num_even), slice(self._num_even, None))
            )

    def to_modes(self, fields: Tensor, adjoint: bool) -> Tensor:
        """Fields (..., points, channel) to modes (..., kept, 2, channel)."""
        *lead, points, channel = fields.shape
        flat = fields.reshape(-1, points, channel)
        matrices = [pair.to_modes(adjoint) for pair in self.pairs]
        if self._has_halves:
            first, second = flat[:, : self._half], flat[:, self._half :]
            halves = first + second, first - second
            modes = torch.cat([_product(*each) for each in zip(matrices, halves, strict=True)], 1)
        else:
            modes = _product(matrices[0], flat)
        return modes.view(*lead, self.kept, 2, channel)

    def add_to_grid(self, modes: Tensor, fields: Tensor | None, out: Tensor, adjoint: bool) -> None:
        """Write ``fields``, if there are any, plus the fields of ``modes`` to ``out``."""
        lead, channel = out.shape[:-2], modes.shape[-1]
        flat = modes.reshape(math.prod(lead), 2 * self.kept, channel)
        matrices = [pair.to_grid(adjoint) for pair in self.pairs]
        if not self._has_halves:
            change = _product(matrices[0], flat).view(out.shape)
            out.copy_(change) if fields is None else torch.add(fields, change, out=out)
            return
        split = flat.tensor_split([self._num_even], dim=1)
        even, odd = (
            _product(*each).view(*lead, self._half, channel)
            for each in zip(matrices, split, strict=True)
        )
        for rows, sign in ((slice(self._half), 1), (slice(self._half, None), -1)):
            target = out[..., rows, :]
            if fields is None:
                torch.add(even, odd, alpha=sign, out=target)
            else:
                torch.add(fields[..., rows, :], even, out=target)
                target.add_(odd, alpha=sign)


class RealAxis:
    """Stands for the half axis where no axis is exponential: the imaginary part is zero."""

    kept = 1
    pairs = ()

    def to_modes(self, fields: Tensor, adjoint: bool) -> Tensor:
        """See ``HalfAxis``."""
        real = fields.unsqueeze(-2).unsqueeze(-2)
        return torch.cat([real, torch.zeros_like(real)], dim=-2)

    def add_to_grid(self, modes: Tensor, fields: Tensor | None, out: Tensor, adjoint: bool) -> None:
        """See ``HalfAxis``."""
        change = modes[..., 0, 0, :]
        out.copy_(change if fields is None else fields + change)


class Axis:
    """An axis other than the half axis; modes have shape (before, axis, after, 2, channel)."""

    kept: int
    pairs: tuple[_Pair, ...]

    def to_modes(self, modes: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """Points to wavenumbers."""
        return _contract(self.pairs[0].to_modes(adjoint), modes)

    def to_grid(self, modes: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """Wavenumbers to points."""
        return _contract(self.pairs[0].to_grid(adjoint), modes)

    def select(self, following: slice) -> "Axis":
        """The same for some entries of the axis after it."""
        return self


class WaveAxis(Axis):
    """Exponentials of both signs, first the wavenumbers >= 0 and then those below zero.

    Cosines and sines serve both signs: half as many products as exponentials take.
    """

    def __init__(self, wavenumbers: Wavenumbers, points: int, period: int, scale: float) -> None:
        magnitudes = np.unique(np.abs(wavenumbers))
        self._positive = _span(wavenumbers[wavenumbers >= 0], magnitudes)
        self._negative = _span(-wavenumbers[wavenumbers < 0], magnitudes)
        self._num_positive = int((wavenumbers >= 0).sum())
        self._magnitudes, self.kept = len(magnitudes), len(wavenumbers)
        # The spans between the ends of both.
        ends = {end for span in (self._positive, self._negative) for end in (span.start, span.stop)}
        self._spans = [slice(a, b) for a, b in itertools.pairwise(sorted(ends))]
        angle = _angles(magnitudes, points, period)
        waves = np.concatenate([np.cos(angle), np.sin(angle)])
        self.pairs = (_Pair(waves * (scale / period), waves.T / scale),)

    def to_modes(self, modes: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """See ``Axis``."""
        products = super().to_modes(modes, channels, adjoint)
        cosine, sine = products[:, : self._magnitudes], products[:, self._magnitudes :]
        result = modes.new_empty(modes.shape[0], self.kept, *modes.shape[2:])
        split = self._num_positive
        _add_turned(cosine[:, self._positive], sine[:, self._positive], -1, result[:, :split])
        _add_turned(cosine[:, self._negative], sine[:, self._negative], 1, result[:, split:])
        return result

    def to_grid(self, modes: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """See ``Axis``."""
        positive, negative = modes[:, : self._num_positive], modes[:, self._num_positive :]
        parts = modes.new_empty(modes.shape[0], 2, self._magnitudes, *modes.shape[2:])
        for rows in self._spans:
            _split_parity(
                _rows(positive, rows, self._positive),
                _rows(negative, rows, self._negative),
                parts[:, 0, rows],
                parts[:, 1, rows],
            )
        return super().to_grid(parts.flatten(1, 2), channels, adjoint)


class CosineAxis(Axis):
    """A reflected axis, the orthonormal DCT-II, or one mirrored at its end points, a DCT-I."""

    def __init__(self, kept: int, points: int, scale: float, *, end_points: bool = False) -> None:
        self.kept = kept
        if end_points:
            self.pairs = (_Pair(*_whole_step_matrices(kept, points, scale)),)
        else:
            self.pairs = (_Pair(*_half_step_matrices("cos", kept, points, scale)),)


class PoleAxis(Axis):
    """Latitude: cosines for even and sines for odd zonal wavenumbers, for vectors inversely.

    The axis after it is longitude with the even wavenumbers first.
    """

    def __init__(
        self, kept: int, points: int, scale: float, num_even: int, first_vector: int
    ) -> None:
        self.kept, self._num_even, self._first_vector = kept, num_even, first_vector
        self.pairs = (
            _Pair(*_half_step_matrices("cos", kept, points, scale)),
            _Pair(*_half_step_matrices("sin", kept, points, scale)),
        )

    def to_modes(self, modes: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """See ``Axis``."""
        return self._apply(modes, channels, *(pair.to_modes(adjoint) for pair in self.pairs))

    def to_grid(self, modes: Tensor, channels: slice, adjoint: bool) -> Tensor:
        """See ``Axis``."""
        return self._apply(modes, channels, *(pair.to_grid(adjoint) for pair in self.pairs))

    def select(self, following: slice) -> "PoleAxis":
        """See ``Axis``."""
        result, first = copy.copy(self), following.start
        result._num_even = min(max(self._num_even, first), following.stop) - first
        return result

    def _apply(self, modes: Tensor, channels: slice, cosine: Tensor, sine: Tensor) -> Tensor:
        scalars = min(max(self._first_vector - channels.start, 0), modes.shape[-1])
        kinds = modes[..., :scalars], modes[..., scalars:]
        results = []
        for kind, matrices in zip(kinds, ((cosine, sine), (sine, cosine)), strict=True):
            if kind.shape[-1]:
                by_parity = zip(matrices, kind.tensor_split([self._num_even], dim=2), strict=True)
                results.append(torch.cat([_contract(m, x) for m, x in by_parity], dim=2))
        return torch.cat(results, dim=-1) if len(results) > 1 else results[0]


def _half_step_matrices(
    kind: Literal["cos", "sin"], kept: int, points: int, scale: float
) -> tuple[_Matrix, _Matrix]:
    """Analysis and synthesis of the orthonormal DCT-II or DST-II, wavenumbers 0..kept - 1.

    Both have a wavenumber without a wave, whose row is zero: ``points`` and 0.
    """
    wavenumbers = np.arange(kept)
    angle = np.pi * np.outer(wavenumbers, np.arange(points) + 0.5) / points
    waves = np.cos(angle) if kind == "cos" else np.sin(angle)
    alone, absent = (0, points) if kind == "cos" else (points, 0)
    weight = np.full((kept, 1), math.sqrt(2.0))
    weight[wavenumbers == alone], weight[wavenumbers == absent] = 1.0, 0.0
    return waves * weight * (scale / points), (waves * weight).T / scale


def _whole_step_matrices(kept: int, points: int, scale: float) -> tuple[_Matrix, _Matrix]:
    """Analysis and synthesis of a DCT-I by the trapezoidal rule, wavenumbers 0..kept - 1.

    Orthonormal but for wavenumber ``points - 1``, which alternates from point to point and has
    twice the mean square that it has on finer grids: its coefficient is the one it has there. A
    single point has its mean alone.
    """
    steps = max(points - 1, 1)
    wavenumbers = np.arange(kept)
    waves = np.cos(np.pi * (np.outer(wavenumbers, np.arange(points)) % (2 * steps)) / steps)
    weight = np.where(wavenumbers == 0, 1.0, math.sqrt(2.0))[:, None]
    # The alternating cosine has mean square 1, the others 1 / 2.
    inverse = np.where(wavenumbers == steps, 0.5, 1.0)[:, None] * weight
    trapezoid = np.ones(points)
    if points > 1:
        trapezoid[[0, -1]] = 0.5
    return waves * inverse * trapezoid * (scale / steps), (waves * weight).T / scale


def _angles(wavenumbers: Wavenumbers, points: int, period: int) -> _Matrix:
    return 2 * np.pi * (np.outer(wavenumbers, np.arange(points)) % period) / period


def multiplicity(wavenumbers: Wavenumbers, period: int) -> Float[np.ndarray, " kept"]:
    """How many wavenumbers of a real field each one of half a spectrum stands for."""
    return np.where((wavenumbers == 0) | (2 * wavenumbers == period), 1.0, 2.0)


def _span(values: Wavenumbers, magnitudes: Int[np.ndarray, " all"]) -> slice:
    """Slice of consecutive ``values`` among consecutive ``magnitudes``."""
    if not len(values):
        return slice(0, 0)
    first = int(values.min() - magnitudes[0])
    return slice(first, first + len(values))


def _rows(modes: Tensor, rows: slice, span: slice) -> Tensor | None:
    """The rows of modes of a span, None if they are outside."""
    if rows.start < span.start or rows.stop > span.stop:
        return None
    return modes[:, rows.start - span.start : rows.stop - span.start]


def _split_parity(
    positive: Tensor | None, negative: Tensor | None, even: Tensor, odd: Tensor
) -> None:
    """Write positive + negative and i (positive - negative), of (..., 2, channel)."""
    if positive is None or negative is None:
        present, sign = (negative, -1) if positive is None else (positive, 1)
        assert present is not None
        even.copy_(present)
        torch.mul(present[..., 1, :], -sign, out=odd[..., 0, :])
        torch.mul(present[..., 0, :], sign, out=odd[..., 1, :])
        return
    torch.add(positive, negative, out=even)
    torch.sub(negative[..., 1, :], positive[..., 1, :], out=odd[..., 0, :])
    torch.sub(positive[..., 0, :], negative[..., 0, :], out=odd[..., 1, :])


def _product(matrix: Tensor, columns: Tensor) -> Tensor:
    """One matrix times each of a batch."""
    return torch.bmm(matrix.expand(len(columns), -1, -1), columns)


def _contract(matrix: Tensor, modes: Tensor) -> Tensor:
    """Apply (row, axis) to (before, axis, after, 2, channel)."""
    flat = modes.reshape(*modes.shape[:2], math.prod(modes.shape[2:]))
    return _product(matrix, flat).view(len(modes), matrix.shape[0], *modes.shape[2:])


def _add_turned(cosine: Tensor, sine: Tensor, sign: int, out: Tensor) -> None:
    """Cosine part plus sign times i times sine part, of (..., 2, channel)."""
    torch.add(cosine[..., 0, :], sine[..., 1, :], alpha=-sign, out=out[..., 0, :])
    torch.add(cosine[..., 1, :], sine[..., 0, :], alpha=sign, out=out[..., 1, :])
