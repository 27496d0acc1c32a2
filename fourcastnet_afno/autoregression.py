"""Former place of ``inference``: what version 0.1 exported here, for files that import it."""

from fourcastnet_afno.inference.config import (
    EnsembleConfig,
    ForecastConfig,
    StabilityConfig,
    StoreConfig,
)
from fourcastnet_afno.inference.initial_states import (
    MissingValuesError,
    check_init_times,
    check_source,
    parse_init_times,
    select_init_times,
)
from fourcastnet_afno.inference.open import open_diagnostics, open_forecast
from fourcastnet_afno.inference.rollout import Stepper, forcings_from, rollout, shifted
from fourcastnet_afno.inference.steppers import ClimatologyStepper as Climatology
from fourcastnet_afno.inference.steppers import DiagnosticModel, Persistence, ShallowWaterSolver
from fourcastnet_afno.inference.write import write_forecast
