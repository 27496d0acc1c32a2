"""What of an equation is simulated: the part ``data.pde`` of an experiment."""

import hashlib
from dataclasses import dataclass, field, fields, is_dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipeline.errors import InputError
from data_pipeline.simulation.darcy import Darcy
from data_pipeline.simulation.equations import (
    Burgers,
    GrayScott,
    KolmogorovFlow,
    KuramotoSivashinsky,
    NavierStokes,
)
from data_pipeline.simulation.fourier import Equation
from data_pipeline.simulation.trajectories import Splits, trajectory_start_times

EQUATIONS: dict[str, type] = {
    "navier_stokes": NavierStokes,
    "kolmogorov_flow": KolmogorovFlow,
    "burgers": Burgers,
    "kuramoto_sivashinsky": KuramotoSivashinsky,
    "gray_scott": GrayScott,
    "darcy": Darcy,
}


@dataclass(frozen=True, kw_only=True)
class PDEConfig:
    """Trajectories of a partial differential equation, to be simulated.

    Args:
        equation: One of navier_stokes, kolmogorov_flow, burgers, kuramoto_sivashinsky, gray_scott
            and darcy; or your own, see ``data_pipeline.pde.Equation``, as "file.py:Class" or
            "package.module:Class".
        parameters: Coefficients by name; see the classes of data_pipeline.pde.
        resolution: Points along y and x, or along x alone in one dimension.
        saved_resolution: Coarser points that are saved; by default ``resolution``. Periodic fields
            keep the waves that these resolve; of others every so many points are taken.
        num_steps: Steps of a trajectory, which has one state more; 1 for a steady problem.
        timestep: Model time from a state to the next.
        substeps: Steps of the solver in a ``timestep``.
        spinup_steps: Timesteps before the first state that are left out.
        trajectories: How many for training, validation and test.
        seed: Of the initial states; a trajectory depends on it, its split and its place there.
        dtype: Precision of the solver; float32 is saved.
    """

    equation: str
    resolution: list[int]
    trajectories: Splits
    parameters: dict[str, float] = field(default_factory=dict)
    saved_resolution: list[int] = field(default_factory=list)
    num_steps: int = 1
    timestep: float = 1.0
    substeps: int = 1
    spinup_steps: int = 0
    seed: int = 0
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        self._check_equation()
        for name in ("num_steps", "substeps"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.pde.{name} must be at least 1, got {getattr(self, name)}")
        if not self.timestep > 0 or self.spinup_steps < 0 or self.seed < 0:
            raise ValueError(
                "data.pde needs a positive timestep, and spinup_steps and seed that are not "
                f"negative, got {self.timestep}, {self.spinup_steps} and {self.seed}"
            )
        self._check_resolutions()

    def _check_equation(self) -> None:
        if ":" in self.equation:
            return  # it may be on another machine, where the data was made
        if self.equation not in EQUATIONS:
            raise ValueError(
                f"data.pde.equation must be one of {', '.join(EQUATIONS)} or file.py:Class, got "
                f"{self.equation!r}"
            )
        known = {item.name: item.default for item in fields(EQUATIONS[self.equation])}
        unknown = [name for name in self.parameters if name not in known]
        if unknown:
            raise ValueError(
                f"data.pde.parameters has {unknown}, which {self.equation} does not; it has "
                f"{list(known)}"
            )
        broken = [
            name
            for name, value in self.parameters.items()
            if not np.isfinite(value) or (isinstance(known[name], int) and value != round(value))
        ]
        if broken:
            raise ValueError(
                f"data.pde.parameters must be finite, and whole where they count, got "
                f"{ {name: self.parameters[name] for name in broken} }"
            )
        if self.equation == "darcy" and (self.num_steps, self.spinup_steps) != (1, 0):
            raise ValueError(
                "data.pde.num_steps must be 1 and spinup_steps 0 for darcy, which is steady, got "
                f"{self.num_steps} and {self.spinup_steps}"
            )

    def _check_resolutions(self) -> None:
        one_dimensional = ("burgers", "kuramoto_sivashinsky")
        allowed = (1,) if self.equation in one_dimensional else (2,)
        for name in ("resolution", "saved_resolution"):
            points = getattr(self, name)
            if not points and name == "saved_resolution":
                continue
            right = len(points) in ((1, 2) if ":" in self.equation else allowed)
            if not right or min(points) < 8:
                raise ValueError(
                    f"data.pde.{name} must give at least 8 points along each axis, as "
                    f"{[64] * allowed[0]} for {self.equation}, got {points}"
                )
        pairs = list(zip(self.resolution, self.saved_resolution, strict=False))
        if len(pairs) not in (0, len(self.resolution)) or any(fine < c for fine, c in pairs):
            raise ValueError(
                f"data.pde.saved_resolution must not be finer than resolution, got "
                f"{self.saved_resolution} and {self.resolution}"
            )
        if self.equation == "darcy" and any((fine - 1) % (c - 1) for fine, c in pairs):
            raise ValueError(
                "data.pde.saved_resolution - 1 must divide resolution - 1 for darcy, whose points "
                f"include both ends, got {self.saved_resolution} and {self.resolution}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Points along y and x of the solver."""
        return _plane(self.resolution)

    @property
    def saved_shape(self) -> tuple[int, int]:
        """Points along y and x of the dataset."""
        return _plane(self.saved_resolution or self.resolution)

    def build(self) -> Darcy | Equation:
        """The equation with its parameters.

        Raises:
            InputError: If it cannot be found, lacks a part, or does not take the parameters.
        """
        kind = _load(self.equation) if ":" in self.equation else EQUATIONS[self.equation]
        members = fields(kind) if is_dataclass(kind) else ()
        counts = {item.name for item in members if isinstance(item.default, int)}
        given = {n: round(v) if n in counts else float(v) for n, v in self.parameters.items()}
        try:
            equation = kind(**given)
        except TypeError as error:
            raise InputError(
                f"data.pde.parameters {self.parameters} do not suit {self.equation}: {error}",
                code="bad-setting",
            ) from error
        if not isinstance(equation, Darcy | Equation):
            raise InputError(
                f"{self.equation} is no equation: it needs variables, degree, extent, linear, "
                "nonlinear and initial, see docs/equations.md",
                code="unknown-equation",
            )
        return equation

    @property
    def files(self) -> list[str]:
        """The file of an equation of your own, if it is in one."""
        place = self.equation.rpartition(":")[0]
        return [place] if place.endswith(".py") else []

    def fingerprint(self) -> str:
        """Of the text of these files; empty if there is none, or no longer."""
        paths = [Path(file) for file in self.files]
        texts = [path.read_bytes() for path in paths if path.is_file()]
        return hashlib.blake2b(b"".join(texts), digest_size=8).hexdigest() if texts else ""

    def times(self) -> np.ndarray:
        """Times of all states, (trajectory, state) as datetime64."""
        return trajectory_start_times(self.trajectories, self.num_steps + 1)

    def seeds(self) -> list[list[int]]:
        """Seed of each trajectory: more of one split do not change another."""
        counts = self.trajectories.counts.values()
        return [[self.seed, s, k] for s, count in enumerate(counts) for k in range(count)]


def _plane(resolution: list[int]) -> tuple[int, int]:
    return (1, resolution[0]) if len(resolution) == 1 else (resolution[0], resolution[1])


def _load(name: str) -> type:
    """The class of "file.py:Class" or "package.module:Class"."""
    place, _, kind = name.rpartition(":")
    try:
        if not place.endswith(".py"):
            return getattr(import_module(place), kind)
        spec = spec_from_file_location(Path(place).stem, place)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        return getattr(module, kind)
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise InputError(
            f"there is no equation {name} (from {Path.cwd()}): {error}; correct data.pde.equation",
            code="unknown-equation",
        ) from error
