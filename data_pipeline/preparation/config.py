"""Contents of a training store and its splits: the part ``data`` of an experiment."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le, MinLen

from data_pipeline.bounds import Hours, Level, check_bounds
from data_pipeline.errors import InputError
from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preparation.boundary import BoundaryConfig
from data_pipeline.preprocessing.config import AccumulateRule, FillRule
from data_pipeline.preprocessing.forcings import check_forcings
from data_pipeline.redaction import remember_secrets, without_secrets
from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.names import parse_label
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.packing import StorageConfig
from data_pipeline.timestep import Timestep, one_spelling, stated
from data_pipeline.trajectory_times import SPANS


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data of an experiment: source, channels, and splits in time.

    Args:
        prognostic: Variables that are predicted and fed back: names, or labels such as
            geopotential_500 or z500; ``derived`` lists those that are computed if missing.
        train: Training period; statistics and climatology see this period alone.
        validation: Validation period, after it.
        test: Test period, after that.
        source: Data to read; or else ``simulation`` or ``pde``.
        simulation: The simulated planet.
        pde: Simulated trajectories of a partial differential equation.
        diagnostic: Variables that are predicted from the state and not fed back, such as
            total_precipitation_6hr; see ``diagnostic`` of the experiment.
        static: Variables without time that the network sees, such as land_sea_mask or soil_type;
            classes become a mask each, see ``static_fields``.
        forcings: Computed inputs, see data_pipeline.preprocessing.forcings: toa_insolation,
            toa_incident_solar_radiation (ERA5's, of the hour before), and _sin or _cos of
            day_of_year, local_time, latitude, longitude.
        levels: Levels in hPa of every variable with levels; all where empty.
        grid: Coarser grid to take conservative means on; by default the data's own.
        timestep: Time from a state to the next, such as 30min, 6h, 1D, or 1MS for calendar months;
            finer data is thinned, or accumulated. By default 6h.
        timestep_hours: The same in hours, the former name of ``timestep``.
        accumulate: Rules by which accumulations, such as hourly precipitation, become those of a
            timestep, by variable: ``sum``, ``mean``, or ``last``, the value at the state.
        allow_gaps: Whether times may be missing; no window ever crosses a gap.
        fill: Fill values by variable: a number, or ``climatology``, which also adds a static
            channel of where values are missing; see ``filling``. Without a rule, missing values
            are an error.
        climatology_harmonics: Harmonics of the day of year in the climatology.
        storage: How the training store is written.
        crop: Part of the store's grid to train and forecast on; by default all of it.
        boundary: Driving fields at the edges of a limited area; by default the model has none.
        subset: Windows of the training period to train on; by default all.
        store: Folder of the training store, to share it between runs; by default in the run folder.
            A URL names an existing store.
    """

    prognostic: Annotated[list[str], MinLen(1)]
    train: Period
    validation: Period
    test: Period
    source: SourceConfig | None = None
    simulation: SimulationConfig | None = None
    pde: PDEConfig | None = None
    diagnostic: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    forcings: list[str] = field(default_factory=list)
    levels: list[Level] = field(default_factory=list)
    grid: GridConfig | None = None
    timestep: str | None = None
    timestep_hours: Hours | None = None
    accumulate: dict[str, AccumulateRule] = field(default_factory=dict)
    allow_gaps: bool = False
    fill: dict[str, FillRule] = field(default_factory=dict)
    climatology_harmonics: Annotated[int, Ge(0), Le(1000)] = 2
    storage: StorageConfig = field(default_factory=StorageConfig)
    crop: CropConfig | None = None
    boundary: BoundaryConfig | None = None
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    store: str | None = None

    def __post_init__(self) -> None:
        check_bounds(self, "data")
        remember_secrets(self.store)
        self._settle_timestep()
        origins = [self.source, self.simulation, self.pde]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("data needs one of data.source, data.simulation and data.pde")
        check_forcings(self.forcings)
        read = {parse_label(label)[0] for label in (*self.predicted, *self.static)}
        if both := [name for name in self.forcings if name in read]:
            raise InputError(
                f"data.forcings computes {both} from the time, and data.prognostic, diagnostic or "
                "static reads variables of the same names; leave them out of one of these settings",
                code="bad-setting",
            )
        for before, after in pairwise(("train", "validation", "test")):
            first, second = getattr(self, before), getattr(self, after)
            if not first.bounds[1] < second.bounds[0]:
                message = f"data.{before} must end before data.{after} starts"
                raise ValueError(f"{message}, got {first} and {second}")

    @classmethod
    def of_pde(cls, pde: PDEConfig, **settings: Any) -> "DataConfig":  # noqa: ANN401
        """Data of simulated trajectories, each of its fields predicted.

        A saved step is an hour, no window crosses from one trajectory to another, and the periods
        are those of the splits, see ``trajectories``; ``settings`` override all this.

        Raises:
            InputError: If the equation cannot be found.
        """
        from data_pipeline.simulation.registry import build_equation  # imports torch

        day = np.timedelta64(1, "D")
        periods = {
            split: Period(start=start, end=str(np.datetime64(end) - day))
            for split, (start, end) in SPANS.items()
        }
        defaults: dict[str, Any] = {
            "prognostic": list(build_equation(pde).variables),
            **({} if "timestep" in settings else {"timestep_hours": 1}),
            "allow_gaps": True,
            "climatology_harmonics": 0,  # the same at every time
            **periods,
            **settings,
        }
        return cls(pde=pde, **defaults)

    def _settle_timestep(self) -> None:
        """Keep one spelling of the timestep: integer hours as ``timestep_hours``, as ever."""
        settled = one_spelling("data.timestep", self.timestep, self.timestep_hours, 6)
        for name, value in zip(("timestep", "timestep_hours"), settled, strict=True):
            object.__setattr__(self, name, value)
        step = self.step
        num_times = step.num_times_of_year
        if num_times is not None and 1 + 2 * self.climatology_harmonics > num_times:
            raise InputError(
                f"data.climatology_harmonics={self.climatology_harmonics} needs "
                f"{1 + 2 * self.climatology_harmonics} times of the year, steps of {step.label} "
                f"have {num_times}; set it to {(num_times - 1) // 2} or less",
                code="bad-setting",
            )

    @property
    def step(self) -> Timestep:
        """Time from a state to the next."""
        return stated(self.timestep, self.timestep_hours)

    @property
    def predicted(self) -> list[str]:
        """All variables with time, prognostic ones first."""
        return [*self.prognostic, *self.diagnostic]

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Mask of the times (datetime64) in any of the three periods."""
        inside = [period.contains(times) for period in (self.train, self.validation, self.test)]
        return np.any(inside, axis=0)

    def store_settings(self) -> dict[str, Any]:
        """The part of the configuration that a store depends on, without secrets."""
        free = ("store", "forcings", "crop", "boundary", "subset")
        settings = {key: value for key, value in asdict(self).items() if key not in free}
        # Unused settings are left out: the stores of earlier versions do not know them.
        for key in ("pde", "diagnostic", "timestep", "timestep_hours"):
            if not getattr(self, key):
                del settings[key]
        if self.simulation is not None:
            settings["simulation"] = self.simulation.to_json()
        for key in ("periodic", "benchmark"):
            if self.source is not None and getattr(self.source, key) is None:
                del settings["source"][key]
        for key in ("missing", "select", "convert", "time_units", "time_calendar", "referenced"):
            if self.source is not None and not getattr(self.source, key):
                del settings["source"][key]
        return without_secrets(settings)
