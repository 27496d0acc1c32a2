"""Data of simulators: the settings of small prepared stores."""

from typing import Any

from data_pipeline.periods import Period
from data_pipeline.preparation.config import DataConfig
from data_pipeline.simulation.config import PDEConfig, SimulationConfig
from data_pipeline.simulation.trajectories import Splits

PLANET = SimulationConfig(
    num_trajectories=3, days=6, spinup_days=1, num_latitudes=16, num_longitudes=32
)
WINDS = ["u_component_of_wind", "v_component_of_wind"]


def make_planet_config(**changes: Any) -> DataConfig:  # noqa: ANN401
    """A year of six days for each split."""
    settings: dict[str, Any] = {
        "simulation": PLANET,
        "prognostic": [*WINDS, "geopotential"],
        "climatology_harmonics": 0,
        "allow_gaps": True,
        **{
            name: Period(start=f"{year}-01-01", end=f"{year}-12-31")
            for name, year in (("train", 2001), ("validation", 2002), ("test", 2003))
        },
    }
    return DataConfig(**(settings | changes))


def make_burgers_config(**changes: Any) -> DataConfig:  # noqa: ANN401
    """Two trajectories of eight steps for each split."""
    pde = PDEConfig(
        equation="burgers",
        resolution=[64],
        saved_resolution=[48],
        timestep=0.05,
        substeps=4,
        num_steps=8,
        trajectories=Splits(train=2, validation=2, test=2),
    )
    return DataConfig.of_pde(pde, **changes)
