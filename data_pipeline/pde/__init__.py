"""Simulated data: partial differential equations and their solvers."""

from data_pipeline.pde.config import PDEConfig
from data_pipeline.pde.darcy import Darcy, solve_darcy
from data_pipeline.pde.equations import (
    Burgers,
    Flow,
    GrayScott,
    KolmogorovFlow,
    KuramotoSivashinsky,
    NavierStokes,
)
from data_pipeline.pde.fourier import Deriving, Equation, FourierGrid, Stepper, resample
from data_pipeline.pde.random_fields import gaussian_bumps, neumann_field, random_field
from data_pipeline.pde.shallow_water import (
    Planet,
    Relaxation,
    ShallowWater,
    galewsky,
    williamson2,
    zonal_jet,
)
from data_pipeline.pde.simulation import simulate, solve, solve_on

__all__ = [
    "Burgers",
    "Darcy",
    "Deriving",
    "Equation",
    "Flow",
    "FourierGrid",
    "GrayScott",
    "KolmogorovFlow",
    "KuramotoSivashinsky",
    "NavierStokes",
    "PDEConfig",
    "Planet",
    "Relaxation",
    "ShallowWater",
    "Stepper",
    "galewsky",
    "gaussian_bumps",
    "neumann_field",
    "random_field",
    "resample",
    "simulate",
    "solve",
    "solve_darcy",
    "solve_on",
    "williamson2",
    "zonal_jet",
]
