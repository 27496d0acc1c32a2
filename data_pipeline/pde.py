"""Former place of ``simulation``: what version 0.1 exported here, for files that import it."""

from data_pipeline.simulation.config import PDEConfig
from data_pipeline.simulation.darcy import Darcy, solve_darcy
from data_pipeline.simulation.equations import (
    Burgers,
    Flow,
    GrayScott,
    KolmogorovFlow,
    KuramotoSivashinsky,
    NavierStokes,
)
from data_pipeline.simulation.fourier import Deriving, Equation, FourierGrid
from data_pipeline.simulation.fourier import SpectralStepper as Stepper
from data_pipeline.simulation.fourier import change_resolution as resample
from data_pipeline.simulation.pde_dataset import simulate_equation as simulate
from data_pipeline.simulation.pde_dataset import solve, solve_on
from data_pipeline.simulation.random_fields import gaussian_bumps, neumann_field, random_field
from data_pipeline.simulation.shallow_water import (
    Planet,
    Relaxation,
    ShallowWater,
    galewsky,
    williamson2,
    zonal_jet,
)
