"""Simulated data: partial differential equations and their solvers."""

from data_pipeline.pde.shallow_water import (
    Planet,
    Relaxation,
    ShallowWater,
    galewsky,
    williamson2,
    zonal_jet,
)

__all__ = ["Planet", "Relaxation", "ShallowWater", "galewsky", "williamson2", "zonal_jet"]
