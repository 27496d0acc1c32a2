"""Problems of ``benchmark_pde``: trajectories at the resolution of training and at others.

Every problem is solved once and sampled at all its resolutions, so that these hold the same
functions. A steady problem has trajectories of two states, the coefficient and the solution.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from data_pipeline.files.atomic import replacing
from data_pipeline.grids.grid import LatLonGrid
from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.equations import Flow
from data_pipeline.simulation.fourier import FourierGrid
from data_pipeline.simulation.pde_dataset import solve_on
from data_pipeline.simulation.planet import SimulationConfig, simulate_on
from data_pipeline.simulation.registry import build_equation
from data_pipeline.simulation.trajectories import Splits
from fourcastnet_afno.models.config import AFNONetConfig, Padding

Shape = tuple[int, int]
Data = dict[str, np.ndarray]
KINDS = ("afno", "afno_paper", "fno", "global_filter", "attention", "unet")


@dataclass(frozen=True, kw_only=True)
class Problem(ABC):
    """A problem to learn, and the sizes of its data.

    Args:
        train_shape: Points along y and x of the training data.
        test_shapes: Points along y and x of the tests.
        num_train: Trajectories for training.
        num_test: Trajectories of the test.
        epochs: Passes over the training data.
        samples_per_epoch: Samples of a pass, a random part of all; 0 for all.
        batch_size: Samples of a step of the optimizer.
    """

    train_shape: Shape
    test_shapes: tuple[Shape, ...]
    num_train: int
    num_test: int
    epochs: int
    samples_per_epoch: int = 0
    batch_size: int = 16

    name: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = KINDS
    steady: ClassVar[bool] = False
    symmetries: ClassVar[bool] = False
    """Whether samples are reflected and transposed, which turns solutions into solutions."""
    coarse_share: ClassVar[float] = 0.0
    """Share of the batches that have every other point."""

    @abstractmethod
    def solve(self) -> Data:
        """Arrays ``train``, ``test_ROWSxCOLUMNS`` and those that ``extra`` needs."""

    @abstractmethod
    def network(self, kind: str) -> AFNONetConfig:
        """Mixer, boundaries and modes of a kind; the widths come from the budget."""

    def derived(self, state: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d y x"]:
        """Further channels of the input that follow from the state."""
        return state[:, :0]

    def extra(self, shape: Shape, data: Data) -> Float[Tensor, "channel y x"]:
        """Further channels of the input that describe the position."""
        return torch.zeros(0, *shape)

    def envelope(self, shape: Shape) -> Float[Tensor, "y x"]:
        """A factor of the network's output: zero where the solution is known to be."""
        return torch.ones(shape)

    def weights(self, shape: Shape) -> Float[Tensor, "y x"]:
        """Areas of the cells, mean 1."""
        return torch.ones(shape)

    def load(self, folder: Path) -> Data:
        """Read the data from the folder, or solve the problem and write them there."""
        path = folder / f"{self.name}.npz"
        if not path.exists():
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **self.solve())  # pyright: ignore
        with np.load(path) as arrays:
            return dict(arrays)


def _solved(problem: Problem, config: PDEConfig) -> Data:
    """Simulate trajectories for training and for the test, each at their resolutions.

    They have the fields of the state without those that follow from it, which no network predicts.
    """
    total, fields = config.trajectories.total, len(build_equation(config).variables)
    train = solve_on(config, range(problem.num_train), [problem.train_shape])
    tests = solve_on(config, range(total - problem.num_test, total), problem.test_shapes)
    named = {array_name(shape): states[:, :, :fields] for shape, states in tests.items()}
    return {"train": train[problem.train_shape][:, :, :fields], **named}


def array_name(shape: Shape) -> str:
    """Name of the array of a test at a resolution."""
    return f"test_{shape[0]}x{shape[1]}"


@dataclass(frozen=True, kw_only=True)
class Darcy(Problem):
    """Permeability to pressure on the unit square, points on its boundary included.

    Args:
        solver_points: Points of the solver along an axis.
        symmetries: See ``Problem``.
        coarse_share: See ``Problem``.
        coordinates: Whether the network sees the position of a point.
        hard_boundary: Whether the output has a factor that is zero on the boundary.

    References:
        Li et al., 2021, https://arxiv.org/abs/2010.08895, section 5.2.
    """

    train_shape: Shape = (17, 17)
    test_shapes: tuple[Shape, ...] = ((17, 17), (33, 33), (65, 65), (25, 25))
    num_train: int = 1000
    num_test: int = 50
    epochs: int = 10
    batch_size: int = 8
    solver_points: int = 193
    symmetries: bool = True  # pyright: ignore
    coarse_share: float = 0.0  # pyright: ignore
    coordinates: bool = True
    hard_boundary: bool = True

    name: ClassVar[str] = "darcy"
    steady: ClassVar[bool] = True

    def solve(self) -> Data:
        """See ``Problem``."""
        config = PDEConfig(
            equation="darcy",
            resolution=[self.solver_points] * 2,
            trajectories=Splits(train=self.num_train, validation=1, test=self.num_test),
        )
        # The coefficient of the first state, the solution of the second.
        return {
            name: np.stack([states[:, 0, :1], states[:, 1, 1:]], axis=1)
            for name, states in _solved(self, config).items()
        }

    def network(self, kind: str) -> AFNONetConfig:
        """See ``Problem``; mixers of periodic fields have a margin of zeros around them."""
        if kind in _AFNO_KINDS:
            return _config(kind, boundary=("mirrored", "mirrored"))
        return self._with_margin(kind)

    def _with_margin(self, kind: str) -> AFNONetConfig:
        margin = 0 if kind in ("attention", "unet") else self.train_shape[0] // 8
        padding = Padding(latitude="zero", longitude="zero", margin=(margin, margin))
        return _config(kind, padding=padding)

    def extra(self, shape: Shape, data: Data) -> Float[Tensor, "channel y x"]:
        """Sines and cosines of the position."""
        if not self.coordinates:
            return super().extra(shape, data)
        y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in shape), indexing="ij")
        waves = [f(torch.pi * k * z) for k in (1, 2, 3) for z in (y, x) for f in _WAVES]
        return torch.stack(waves)

    def envelope(self, shape: Shape) -> Float[Tensor, "y x"]:
        """Zero on the boundary, as the pressure is."""
        if not self.hard_boundary:
            return super().envelope(shape)
        rows, columns = (torch.sin(torch.pi * torch.linspace(0, 1, n)) for n in shape)
        return 2 * rows[:, None] * columns


_WAVES = (torch.sin, torch.cos)


_AFNO_KINDS = ("afno", "afno_paper")
_OPTIONS: dict[str, dict[str, Any]] = {
    "afno": {
        "num_blocks": 8,
        "wavenumber_weights": "kernel",
        "initialization": "identity",
        "gated_mlp": True,
    },
    "afno_paper": {"sparsity_threshold": 0.0, "num_blocks": 8},
    "attention": {"num_blocks": 4},  # heads
}


def _config(kind: str, **options: Any) -> AFNONetConfig:  # noqa: ANN401
    """Patches of one point, half of the wavenumbers, and the options of the kind."""
    common = {"patch_size": (1, 1), "hard_thresholding_fraction": 0.5, "num_blocks": 1}
    mixer = "afno" if kind in (*_AFNO_KINDS, "unet") else kind
    return AFNONetConfig(**{**common, "mixer": mixer, **_OPTIONS.get(kind, {}), **options})  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class PublicDarcy(Darcy):
    """neuraloperator's small Darcy problems: trained on 16 x 16, tested there and on 32 x 32.

    Their points are i / n without the end at 1. It is added with a pressure of 0 and the
    permeability of the neighbor.

    Args:
        folder: Folder of ``darcy_train_16.npz``, ``darcy_test_16.npz`` and ``darcy_test_32.npz``,
            with the permeability ``x`` and the pressure ``y`` (sample, y, x).
    """

    folder: Path
    test_shapes: tuple[Shape, ...] = ((17, 17), (33, 33))
    epochs: int = 30

    name: ClassVar[str] = "darcy_public"

    def network(self, kind: str) -> AFNONetConfig:
        """See ``Problem``; ``afno`` has a margin too, as ends at 1 are no points of the data."""
        return self._with_margin(kind) if kind == "afno" else super().network(kind)

    def solve(self) -> Data:
        """See ``Problem``."""
        tests = {array_name(s): self._read(f"test_{s[0] - 1}") for s in self.test_shapes}
        return {"train": self._read("train_16")[: self.num_train], **tests}

    def _read(self, name: str) -> np.ndarray:
        with np.load(self.folder / f"darcy_{name}.npz") as arrays:
            ends = ((0, 0), (0, 1), (0, 1))
            a = np.pad(arrays["x"].astype(np.float32), ends, mode="edge")
            u = np.pad(arrays["y"].astype(np.float32), ends)
        return np.stack([a, u], axis=1)[:, :, None]


@dataclass(frozen=True, kw_only=True)
class NavierStokes(Problem):
    """Vorticity of forced flow on the unit torus, a unit of time ahead.

    Networks see the velocity too: it follows from the vorticity of all points.

    Args:
        viscosity: Viscosity of the fluid.
        solver_points: Points of the solver along an axis.
        num_steps: Steps of a trajectory.

    References:
        Li et al., 2021, https://arxiv.org/abs/2010.08895, section 5.3.
    """

    train_shape: Shape = (32, 32)
    test_shapes: tuple[Shape, ...] = ((32, 32), (64, 64), (128, 128), (48, 48))
    num_train: int = 100
    num_test: int = 10
    epochs: int = 3
    batch_size: int = 4
    viscosity: float = 1e-3
    solver_points: int = 64
    num_steps: int = 20

    name: ClassVar[str] = "navier_stokes"

    def solve(self) -> Data:
        """See ``Problem``."""
        config = PDEConfig(
            equation="navier_stokes",
            parameters={"viscosity": self.viscosity, "forcing": 0.1, "initial_scale": 343.0},
            resolution=[self.solver_points] * 2,
            num_steps=self.num_steps,
            substeps=30,
            trajectories=Splits(train=self.num_train, validation=1, test=self.num_test),
        )
        return _solved(self, config)

    def network(self, kind: str) -> AFNONetConfig:
        """See ``Problem``; attention has patches, for fewer tokens."""
        patch = (2, 2) if kind == "attention" else (1, 1)
        padding = Padding(latitude="wrap", longitude="wrap")
        return _config(kind, patch_size=patch, padding=padding)

    def derived(self, state: Float[Tensor, "b 1 y x"]) -> Float[Tensor, "b 2 y x"]:
        """Velocity along x and y."""
        grid = _unit_torus((state.shape[-2], state.shape[-1]))
        return grid.fields(Flow().derive(grid, grid.spectrum(state)))

    def extra(self, shape: Shape, data: Data) -> Float[Tensor, "channel y x"]:
        """Sines and cosines of the position, on which the forcing depends."""
        y, x = torch.meshgrid(*(torch.arange(n) / n for n in shape), indexing="ij")
        return torch.stack([f(2 * torch.pi * z) for z in (y, x) for f in _WAVES])


@lru_cache
def _unit_torus(shape: Shape) -> FourierGrid:
    return FourierGrid(shape, (1.0, 1.0), degree=1, dtype=torch.float32)


@dataclass(frozen=True, kw_only=True)
class VorticityAlone(NavierStokes):
    """Navier-Stokes without the velocity as an input."""

    name: ClassVar[str] = "navier_stokes_vorticity_alone"
    kinds: ClassVar[tuple[str, ...]] = ("afno", "afno_paper", "fno")

    def derived(self, state: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d y x"]:
        """No channels."""
        return Problem.derived(self, state)


@dataclass(frozen=True, kw_only=True)
class SphericalShallowWater(Problem):
    """Winds, geopotential and vorticity of the simulated planet, 6 hours ahead.

    All resolutions are evaluated from the harmonics of one simulation; coarser ones without those
    that they do not resolve.

    Args:
        days: Length of a trajectory.
        solver_latitudes: Rows of the solver.
    """

    train_shape: Shape = (32, 64)
    test_shapes: tuple[Shape, ...] = ((32, 64), (64, 128), (128, 256), (48, 96))
    num_train: int = 8
    num_test: int = 2
    epochs: int = 3
    samples_per_epoch: int = 1200
    batch_size: int = 4
    days: int = 70
    solver_latitudes: int = 64

    name: ClassVar[str] = "shallow_water"

    def solve(self) -> Data:
        """See ``Problem``."""
        config = SimulationConfig(
            num_trajectories=self.num_train + self.num_test,
            days=self.days,
            spinup_days=30,
            num_latitudes=self.solver_latitudes,
            num_longitudes=2 * self.solver_latitudes,
        )
        shapes = sorted({self.train_shape, *self.test_shapes})
        fields = simulate_on(config, shapes)
        data: Data = {"train": fields[self.train_shape].states[: self.num_train]}
        for shape in self.test_shapes:
            data[array_name(shape)] = fields[shape].states[self.num_train :, :_TEST_STATES]
        return data | {f"surface_{s[0]}x{s[1]}": fields[s].surface for s in shapes}

    def network(self, kind: str) -> AFNONetConfig:
        """See ``Problem``; attention has patches, for fewer tokens."""
        if kind in _AFNO_KINDS:
            return _config(kind, pole="double_fourier_sphere")
        patch = (2, 2) if kind == "attention" else (1, 1)
        # Matrices for half of the wavenumbers would be more weights than there may be.
        fraction = 0.25 if kind == "fno" else 0.5
        return _config(kind, patch_size=patch, hard_thresholding_fraction=fraction)

    def extra(self, shape: Shape, data: Data) -> Float[Tensor, "channel y x"]:
        """The unit vector of the position and the height of the ground."""
        grid = LatLonGrid.equiangular(*shape)
        position = torch.from_numpy(grid.coordinate_channels()).float()
        surface = torch.from_numpy(data[f"surface_{shape[0]}x{shape[1]}"]).float()
        return torch.cat([position, surface[None] / _SURFACE])

    def weights(self, shape: Shape) -> Float[Tensor, "y x"]:
        """See ``Problem``."""
        weights = LatLonGrid.equiangular(*shape).area_weights()
        return torch.from_numpy(np.broadcast_to(weights, shape).copy()).float()


@dataclass(frozen=True, kw_only=True)
class FineShallowWater(SphericalShallowWater):
    """The shallow-water problem trained at twice the resolution, for comparison."""

    train_shape: Shape = (64, 128)
    test_shapes: tuple[Shape, ...] = ((64, 128),)

    name: ClassVar[str] = "shallow_water_fine"
    kinds: ClassVar[tuple[str, ...]] = ("afno", "afno_paper")


_SURFACE = 2e4  # m2 s-2
_TEST_STATES = 81  # 20 days
