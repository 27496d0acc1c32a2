"""Pseudo-spectral solution of equations on periodic rectangles.

An equation of the fields x(y, x, t),

    d x / dt = L x + N(x),

has a linear part L that multiplies each Fourier coefficient by a number, its symbol, and a
nonlinear part N that is a polynomial of the fields and their derivatives. L is integrated exactly,
N by the exponential Runge-Kutta method of fourth order (``data_pipeline.simulation.exponential``).
Products are formed on the grid. Of n points, the wavenumbers |k| < n / (p + 1) are kept, for a
polynomial of degree p, so that products are free of aliasing (for p = 2 the rule of two thirds).

An equation of your own is a class with a linear and a nonlinear term, see ``Equation``.

References:
    Orszag, 1971, On the elimination of aliasing in finite-difference schemes by filtering
    high-wavenumber components, https://doi.org/10.1175/1520-0469(1971)028<1074:OTEOAI>2.0.CO;2.
    Canuto, Hussaini, Quarteroni and Zang, 2006, Spectral methods: fundamentals in single domains,
    https://doi.org/10.1007/978-3-540-30726-6, section 3.4.
"""

from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from data_pipeline.simulation import exponential

PlaneFields = Float[Tensor, "*batch y x"]
Coefficients = Complex[Tensor, "*batch ky kx"]
SpectralState = Complex[Tensor, "batch field ky kx"]
GridState = Float[Tensor, "batch field y x"]


class FourierGrid:
    """Equidistant points of a periodic rectangle, and the transform of fields on them.

    A spectrum has the coefficients c of f(y, x) = sum c exp(2 pi i (ky y / Ly + kx x / Lx)) with
    kx >= 0 alone, in the order of ``torch.fft.rfft2``; c at (0, 0) is the mean of f. Wavenumbers
    that the rule against aliasing forbids are 0 in every spectrum.

    Args:
        shape: Points along y and x; 1 along y for an equation in one dimension.
        extent: Lengths Ly and Lx.
        degree: Degree of the polynomial that is formed on the grid.
        dtype: Precision of fields, float32 or float64.
        device: Device of fields.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        extent: tuple[float, float],
        *,
        degree: int = 2,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shape, self.extent, self.degree = shape, extent, degree
        self.dtype, self.device = dtype, torch.device(device)
        self.y, self.x = (
            length * np.arange(count) / count for length, count in zip(extent, shape, strict=True)
        )
        rows = np.fft.fftfreq(shape[0], 1 / shape[0])[:, None]
        columns = np.fft.rfftfreq(shape[1], 1 / shape[1])[None, :]
        self.rows, self.columns = rows.astype(int), columns.astype(int)
        kept = (np.abs(rows) * (degree + 1) < shape[0]) & (columns * (degree + 1) < shape[1])
        self.kept = torch.tensor(kept, device=self.device)
        self.ky, self.kx = (
            torch.tensor(2 * np.pi * k / length, dtype=dtype, device=self.device)
            for k, length in ((rows, extent[0]), (columns, extent[1]))
        )
        self.laplacian = -(self.ky**2 + self.kx**2)
        constant = self.laplacian == 0
        self.inverse_laplacian = torch.where(constant, 0.0, 1 / (self.laplacian - 1.0 * constant))

    def spectrum(self, fields: PlaneFields) -> Coefficients:
        """Coefficients of fields on the grid, without those that the rule forbids."""
        return torch.fft.rfft2(fields, norm="forward") * self.kept

    def fields(self, spectrum: Coefficients) -> PlaneFields:
        """Values on the grid."""
        return torch.fft.irfft2(spectrum, s=self.shape, norm="forward")

    def dy(self, spectrum: Coefficients) -> Coefficients:
        """Derivative along y."""
        return 1j * self.ky * spectrum

    def dx(self, spectrum: Coefficients) -> Coefficients:
        """Derivative along x."""
        return 1j * self.kx * spectrum


@runtime_checkable
class Equation(Protocol):
    """An equation d x / dt = linear x + nonlinear(x) that the solver can integrate.

    Any class with these members is one; docs/equations.md has an example of twenty lines. An
    equation that is ``Deriving`` as well saves further fields that follow from its state.
    """

    variables: ClassVar[tuple[str, ...]]
    """Names of the fields."""
    degree: ClassVar[int]
    """Degree of the polynomial ``nonlinear``."""

    @property
    def extent(self) -> tuple[float, float]:
        """Lengths of the rectangle along y and x."""
        ...

    def linear(self, grid: FourierGrid) -> Tensor:
        """Symbol of the linear part, real or complex, of shape (field, ky, kx)."""
        ...

    def nonlinear(self, grid: FourierGrid, state: SpectralState) -> SpectralState:
        """Nonlinear part of the tendency."""
        ...

    def initial(
        self, grid: FourierGrid, rng: np.random.Generator
    ) -> Complex[Tensor, "field ky kx"]:
        """Spectrum of a random initial state; the same field at every resolution of the grid."""
        ...


@runtime_checkable
class Deriving(Protocol):
    """An equation with fields that follow from its state."""

    derived: ClassVar[tuple[str, ...]]
    """Names of the fields."""

    def derive(self, grid: FourierGrid, state: SpectralState) -> Coefficients:
        """Their spectra, (trajectory, field, ky, kx)."""
        ...


class SpectralStepper:
    """Time stepper of a periodic equation for a batch of states, by ETDRK4."""

    def __init__(self, equation: Equation, grid: FourierGrid, timestep: float) -> None:
        self.equation, self.grid, self.timestep = equation, grid, timestep
        symbol = equation.linear(grid)
        wide = timestep * symbol.to(torch.complex128).cpu().numpy()

        def function(entire: exponential.Function) -> Tensor:
            values = exponential.circle_mean(entire, wide)
            return torch.tensor(values if symbol.is_complex() else np.real(values)).to(symbol)

        self._exponentials = exponential.Exponentials.from_operator(function, timestep)

    def advance(self, state: SpectralState, num_steps: int) -> SpectralState:
        """The state after some steps."""
        nonlinear = partial(self.equation.nonlinear, self.grid)
        for _ in range(num_steps):
            state = exponential.step(self._exponentials, torch.mul, nonlinear, state)
        return state


def change_resolution(
    spectrum: Coefficients, source: FourierGrid, shape: tuple[int, int]
) -> PlaneFields:
    """Values on ``shape`` points of the rectangle of ``source``, exact for what they resolve.

    Wavenumbers of half of the points and more are left out.
    """
    target = FourierGrid(shape, source.extent, degree=1, dtype=source.dtype, device=source.device)
    rows = np.flatnonzero(2 * np.abs(target.rows[:, 0]) < min(shape[0], source.shape[0]))
    columns = np.flatnonzero(2 * target.columns[0] < min(shape[1], source.shape[1]))
    size = (*spectrum.shape[:-2], *target.kept.shape)
    result = torch.zeros(size, dtype=spectrum.dtype, device=spectrum.device)
    resolved = spectrum[..., target.rows[rows, 0] % source.shape[0], : len(columns)]
    result[..., rows, : len(columns)] = resolved
    return target.fields(result)
