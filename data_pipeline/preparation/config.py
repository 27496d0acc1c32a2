"""What a training store holds and how it is split: the part ``data`` of an experiment."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from data_pipeline.grids.coarsening import GridConfig
from data_pipeline.periods import Period, SubsetConfig
from data_pipeline.preprocessing.config import AccumulateRule, FillRule
from data_pipeline.preprocessing.forcings import check_forcings
from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.simulation.trajectories import SPANS
from data_pipeline.sources.config import SourceConfig
from data_pipeline.store.cropping import CropConfig
from data_pipeline.store.packing import StorageConfig


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which data, which channels, and how it is split in time.

    Args:
        prognostic: Variables that are predicted and fed back: names, or labels as
            geopotential_500 or z500; see ``derived`` for what is computed where it is missing.
        train: Training period; statistics and climatology see this period alone.
        validation: Validation period, after it.
        test: Test period, after that.
        source: Data to read; or else ``simulation`` or ``pde``.
        simulation: The simulated planet.
        pde: Simulated trajectories of a partial differential equation.
        diagnostic: Variables that are predicted from the state and not fed back, as
            total_precipitation_6hr; the forecaster does not see them, see ``diagnostic`` of the
            experiment.
        static: Variables without time that the network sees, as orography, land_sea_mask or
            soil_type; classes become a mask each, see ``static_fields``.
        forcings: Computed inputs, see data_pipeline.preprocessing.forcings: toa_insolation, and
            _sin or _cos of day_of_year, local_time, latitude, longitude.
        levels: Levels in hPa of every variable with levels; all where empty.
        grid: Coarser grid to take conservative means on; by default the data's own.
        timestep_hours: Time from a state to the next; finer data is thinned, or accumulated.
        accumulate: How accumulations, as hourly precipitation, become those of a timestep, by
            variable: ``sum``, ``mean``, or ``last``, the value at the state; see ``resampling``.
        allow_gaps: Whether times may be missing; no window ever crosses a gap.
        fill: What stands for missing values, by variable: a number, or ``climatology``, which also
            adds a static channel that says where; see ``filling``. Others are refused.
        climatology_harmonics: Harmonics of the day of year in the climatology.
        storage: How the training store is written.
        crop: Part of the store's grid to train and forecast on; by default all of it.
        subset: Which windows of the training period are trained on; by default all.
        store: Folder of the training store, to share it between runs; by default in the run folder.
            A URL names a store that is there already.
    """

    prognostic: list[str]
    train: Period
    validation: Period
    test: Period
    source: SourceConfig | None = None
    simulation: SimulationConfig | None = None
    pde: PDEConfig | None = None
    diagnostic: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    forcings: list[str] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    grid: GridConfig | None = None
    timestep_hours: int = 6
    accumulate: dict[str, AccumulateRule] = field(default_factory=dict)
    allow_gaps: bool = False
    fill: dict[str, FillRule] = field(default_factory=dict)
    climatology_harmonics: int = 2
    storage: StorageConfig = field(default_factory=StorageConfig)
    crop: CropConfig | None = None
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    store: str | None = None

    def __post_init__(self) -> None:
        origins = [self.source, self.simulation, self.pde]
        if sum(origin is not None for origin in origins) != 1:
            raise ValueError("data needs one of data.source, data.simulation and data.pde")
        if not self.prognostic:
            raise ValueError("data.prognostic must name at least one variable")
        if self.timestep_hours < 1 or self.climatology_harmonics < 0:
            raise ValueError(
                "data.timestep_hours must be at least 1 and data.climatology_harmonics at least 0, "
                f"got {self.timestep_hours} and {self.climatology_harmonics}"
            )
        check_forcings(self.forcings)
        names = ("train", "validation", "test")
        for before, after in pairwise(names):
            if not getattr(self, before).bounds[1] < getattr(self, after).bounds[0]:
                raise ValueError(
                    f"data.{before} must end before data.{after} starts, got "
                    f"{getattr(self, before)} and {getattr(self, after)}"
                )

    @classmethod
    def of_pde(cls, pde: PDEConfig, **settings: Any) -> "DataConfig":  # noqa: ANN401
        """Data of simulated trajectories, each of its fields predicted.

        A saved step is an hour, no window goes from one trajectory to another, and the periods are
        those in which the trajectories of each split lie, see ``trajectories``.

        Args:
            pde: What is simulated.
            settings: Other settings, and others than these.

        Raises:
            InputError: If the equation cannot be found.
        """
        from data_pipeline.simulation.registry import build_equation  # imports torch

        day = np.timedelta64(1, "D")
        periods = {
            split: Period(start=start, end=str(np.datetime64(end) - day))
            for split, (start, end) in SPANS.items()
        }
        chosen: dict[str, Any] = {
            "prognostic": list(build_equation(pde).variables),
            "timestep_hours": 1,
            "allow_gaps": True,
            "climatology_harmonics": 0,  # the same at every time
            **periods,
            **settings,
        }
        return cls(pde=pde, **chosen)

    @property
    def predicted(self) -> list[str]:
        """All variables with time, prognostic ones first."""
        return [*self.prognostic, *self.diagnostic]

    def contains(self, times: np.ndarray) -> np.ndarray:
        """Whether each of ``times`` lies in any of the three periods."""
        inside = [period.contains(times) for period in (self.train, self.validation, self.test)]
        return np.any(inside, axis=0)

    def store_settings(self) -> dict[str, Any]:
        """The part of the configuration that a store depends on."""
        free = ("store", "forcings", "crop", "subset")
        settings = {key: value for key, value in asdict(self).items() if key not in free}
        # What says nothing is left out: it is unknown to the stores of earlier versions.
        for key in ("pde", "diagnostic"):
            if not getattr(self, key):
                del settings[key]
        for key in ("periodic", "benchmark"):
            if self.source is not None and getattr(self.source, key) is None:
                del settings["source"][key]
        return settings
