"""Configurations of simulations: ``data.pde`` and ``data.simulation`` of an experiment."""

import hashlib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import numpy as np

from data_pipeline.simulation.trajectories import Splits, trajectory_start_times


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """A simulated planet: how long, how fine, from which random state.

    Args:
        num_trajectories: Independent trajectories; the k-th fills the k-th calendar year.
        days: Length of a trajectory, at most a year.
        spinup_days: Days before each trajectory that are left out.
        num_latitudes: Rows of the output, half a cell away from the poles.
        num_longitudes: Columns of the output, twice the rows.
        timestep_hours: Time between states.
        seed: Of the initial eddies and the stirring.
        start: Date of the first state; each trajectory starts on that day of its year.
    """

    num_trajectories: int = 12
    days: int = 360
    spinup_days: int = 60
    num_latitudes: int = 32
    num_longitudes: int = 64
    timestep_hours: int = 6
    seed: int = 0
    start: str = "2001-01-01"

    def __post_init__(self) -> None:
        for name in ("num_trajectories", "days", "timestep_hours"):
            if getattr(self, name) < 1:
                raise ValueError(f"simulation.{name} must be at least 1, got {getattr(self, name)}")
        if self.days > 365 or self.spinup_days < 0:
            raise ValueError(
                "simulation.days must be at most 365 (a trajectory fills a calendar year; raise "
                f"num_trajectories for more) and spinup_days not negative, got {self.days} and "
                f"{self.spinup_days}"
            )
        if self.num_latitudes < 8 or self.num_longitudes != 2 * self.num_latitudes:
            raise ValueError(
                "simulation.num_latitudes must be at least 8 and num_longitudes twice that, got "
                f"{self.num_latitudes} x {self.num_longitudes}"
            )
        np.datetime64(self.start, "D")

    def times(self) -> np.ndarray:
        """Times of all states, (trajectory, time) as datetime64."""
        first = np.datetime64(self.start, "D")
        years = first.astype("datetime64[Y]") + np.arange(self.num_trajectories)
        starts = years.astype("datetime64[D]") + (first - first.astype("datetime64[Y]"))
        steps = np.arange(self.days * 24 // self.timestep_hours) * self.timestep_hours
        return starts.astype("datetime64[ns]")[:, None] + steps.astype("timedelta64[h]")


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
        from data_pipeline.simulation.registry import EQUATIONS  # imports torch

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
