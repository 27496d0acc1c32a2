"""Settings of simulations: the parts ``data.pde`` and ``data.simulation`` of an experiment."""

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Interval, Le

from data_pipeline.bounds import Count, CountOrZero, Seed, check_bounds
from data_pipeline.simulation.trajectories import Splits, trajectory_start_times
from data_pipeline.trajectory_times import TrajectoryTimes

SIMULATED_JET_SPEED = 80.0
_YEARS = 1678, 2261  # that datetime64[ns] has


@dataclass(frozen=True, kw_only=True)
class SimulationConfig:
    """A simulated planet: length, resolution and random state.

    Args:
        num_trajectories: Independent trajectories; the k-th fills the k-th calendar year.
        days: Length of a trajectory, at most a calendar year, which it fills; raise
            ``num_trajectories`` for more.
        spinup_days: Days before each trajectory that are left out.
        num_latitudes: Rows of the output, half a cell away from the poles.
        num_longitudes: Columns of the output, twice the rows.
        timestep_hours: Time between states.
        seed: Seed of the initial eddies and the stirring.
        start: Date of the first state; each trajectory starts on that day of its year.
        jet_speed: Peak of the wind in m s-1 that the planet is relaxed toward in both hemispheres,
            before a factor of 0.84 for the latitude of the jets.
    """

    num_trajectories: Annotated[int, Ge(1), Le(250)] = 12
    days: Annotated[int, Interval(ge=1, le=365)] = 360
    spinup_days: Annotated[int, Ge(0), Le(36_500)] = 60
    num_latitudes: Annotated[int, Ge(8), Le(4096)] = 32
    num_longitudes: Annotated[int, Ge(16), Le(8192)] = 64
    timestep_hours: Annotated[int, Ge(1), Le(8760)] = 6
    seed: Seed = 0
    start: str = "2001-01-01"
    jet_speed: Annotated[float, Ge(0), Le(120)] = SIMULATED_JET_SPEED

    def __post_init__(self) -> None:
        check_bounds(self, "data.simulation")
        if self.num_longitudes != 2 * self.num_latitudes:
            numbers = f"{self.num_longitudes} and {self.num_latitudes}"
            raise ValueError(
                f"data.simulation.num_longitudes must be twice num_latitudes, got {numbers}"
            )
        try:
            first = int(np.datetime64(self.start, "Y").astype(int)) + 1970
        except ValueError as error:
            message = f"data.simulation.start must be a date such as 2001-01-01, got {self.start!r}"
            raise ValueError(message) from error
        last = first + self.num_trajectories - 1
        if not _YEARS[0] <= first <= last <= _YEARS[1]:
            raise ValueError(
                f"data.simulation needs years in {_YEARS[0]}..{_YEARS[1]}, start={self.start} and "
                f"num_trajectories={self.num_trajectories} give {first}..{last}"
            )

    def times(self) -> np.ndarray:
        """Times of all states, (trajectory, time) as datetime64."""
        first = np.datetime64(self.start, "D")
        years = first.astype("datetime64[Y]") + np.arange(self.num_trajectories)
        starts = years.astype("datetime64[D]") + (first - first.astype("datetime64[Y]"))
        steps = np.arange(self.days * 24 // self.timestep_hours) * self.timestep_hours
        return starts.astype("datetime64[ns]")[:, None] + steps.astype("timedelta64[h]")

    def to_json(self) -> dict[str, Any]:
        """Plain values; a jet speed that earlier versions had too is left out."""
        settings = asdict(self)
        if self.jet_speed == SIMULATED_JET_SPEED:
            del settings["jet_speed"]
        return settings


@dataclass(frozen=True, kw_only=True)
class PDEConfig:
    """Trajectories of a partial differential equation, to be simulated.

    Args:
        equation: One of navier_stokes, kolmogorov_flow, burgers, kuramoto_sivashinsky, gray_scott
            and darcy; or your own, see ``fourier.Equation``, as "file.py:Class" or
            "package.module:Class". Code is run only where you name it, here or in a file of
            ``--config``: one that only a checkpoint or the config.yaml of a run folder names is an
            error.
        parameters: Coefficients by name; see the classes of ``equations`` and ``darcy``.
        resolution: Points along y and x, or along x alone in one dimension.
        saved_resolution: Coarser points that are saved; by default ``resolution``. Periodic fields
            keep the waves that these resolve; other fields are sampled at regular points.
        num_steps: Steps of a trajectory, which has one state more; 1 for a steady problem.
        timestep: Model time from a state to the next.
        substeps: Steps of the solver in a ``timestep``.
        spinup_steps: Timesteps before the first state that are left out.
        trajectories: Numbers for training, validation and test.
        seed: Seed of the initial states; a trajectory depends on it, its split and its index there.
        dtype: Precision of the solver; float32 is saved.
    """

    equation: str
    resolution: list[Count]
    trajectories: Splits
    parameters: dict[str, Annotated[float, Ge(-1e30), Le(1e30)]] = field(default_factory=dict)
    saved_resolution: list[Count] = field(default_factory=list)
    num_steps: Count = 1
    timestep: Annotated[float, Gt(0), Le(1e12)] = 1.0
    substeps: Count = 1
    spinup_steps: CountOrZero = 0
    seed: Seed = 0
    dtype: Literal["float32", "float64"] = "float64"

    def __post_init__(self) -> None:
        check_bounds(self, "data.pde")
        if ":" not in self.equation:  # others may be on the machine where the data was made
            self._check_equation()
        self._check_resolutions()

    def _check_equation(self) -> None:
        from data_pipeline.simulation.registry import EQUATIONS  # imports torch

        if self.equation not in EQUATIONS:
            choices = ", ".join((*EQUATIONS, "file.py:Class"))
            raise ValueError(f"data.pde.equation must be one of {choices}, got {self.equation!r}")
        known = {item.name: item.default for item in fields(EQUATIONS[self.equation])}
        unknown = [name for name in self.parameters if name not in known]
        if unknown:
            raise ValueError(
                f"data.pde.parameters has {unknown}, and {self.equation} has {list(known)}"
            )
        broken = {
            name: value
            for name, value in self.parameters.items()
            if not np.isfinite(value) or (isinstance(known[name], int) and value != round(value))
        }
        if broken:
            raise ValueError(f"data.pde.parameters must be finite, counts integers, got {broken}")
        if self.equation == "darcy" and (self.num_steps, self.spinup_steps) != (1, 0):
            raise ValueError(
                "darcy is steady: data.pde.num_steps must be 1 and spinup_steps 0, got "
                f"{self.num_steps} and {self.spinup_steps}"
            )

    def _check_resolutions(self) -> None:
        num_axes = 1 if self.equation in ("burgers", "kuramoto_sivashinsky") else 2
        allowed = (1, 2) if ":" in self.equation else (num_axes,)
        for name in ("resolution", "saved_resolution"):
            points = getattr(self, name)
            if not points and name == "saved_resolution":
                continue
            if len(points) not in allowed or min(points) < 8:
                raise ValueError(
                    f"data.pde.{name} must give at least 8 points along each axis, such as "
                    f"{[64] * num_axes} for {self.equation}, got {points}"
                )
        pairs = list(zip(self.resolution, self.saved_resolution, strict=False))
        got = f"got {self.saved_resolution} and {self.resolution}"
        if len(pairs) not in (0, len(self.resolution)) or any(fine < c for fine, c in pairs):
            raise ValueError(f"data.pde.saved_resolution must not be finer than resolution, {got}")
        if self.equation == "darcy" and any((fine - 1) % (c - 1) for fine, c in pairs):
            raise ValueError(
                "data.pde.saved_resolution - 1 must divide resolution - 1 for darcy, whose points "
                f"include both ends, {got}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """Points along y and x of the solver."""
        rows, columns = (1, *self.resolution)[-2:]
        return rows, columns

    @property
    def saved_shape(self) -> tuple[int, int]:
        """Points along y and x of the dataset."""
        rows, columns = (1, *(self.saved_resolution or self.resolution))[-2:]
        return rows, columns

    @property
    def files(self) -> list[str]:
        """The file of an equation of your own, if it is in one."""
        module = self.equation.rpartition(":")[0]
        return [module] if module.endswith(".py") else []

    def fingerprint(self) -> str:
        """Digest of the text of these files; empty if there is none, or no longer."""
        paths = [Path(file) for file in self.files]
        texts = [path.read_bytes() for path in paths if path.is_file()]
        return hashlib.blake2b(b"".join(texts), digest_size=8).hexdigest() if texts else ""

    @property
    def trajectory_times(self) -> TrajectoryTimes:
        """The time axis, in the equation's own words."""
        return TrajectoryTimes(step=self.timestep, num_states=self.num_steps + 1)

    def times(self) -> np.ndarray:
        """Times of all states, (trajectory, state) as datetime64."""
        return trajectory_start_times(self.trajectories, self.num_steps + 1)

    def seeds(self) -> list[list[int]]:
        """Seed of each trajectory: more of one split do not change another."""
        counts = self.trajectories.counts.values()
        return [[self.seed, s, k] for s, count in enumerate(counts) for k in range(count)]
