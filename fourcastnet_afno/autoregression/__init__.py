"""Autoregressive forecasts: rollout, ensembles, stability, and the forecast store."""

from fourcastnet_afno.autoregression.ensemble import EnsembleConfig
from fourcastnet_afno.autoregression.forecasting import ForecastConfig, write_forecast
from fourcastnet_afno.autoregression.initial import (
    MissingValuesError,
    check_init_times,
    check_source,
    parse_init_times,
    select_init_times,
)
from fourcastnet_afno.autoregression.layout import StoreConfig
from fourcastnet_afno.autoregression.reading import open_diagnostics, open_forecast
from fourcastnet_afno.autoregression.rollout import Stepper, forcings_from, rollout, shifted
from fourcastnet_afno.autoregression.stability import StabilityConfig
from fourcastnet_afno.autoregression.steppers import (
    Climatology,
    DiagnosticModel,
    Persistence,
    ShallowWaterSolver,
)

__all__ = [
    "Climatology",
    "DiagnosticModel",
    "EnsembleConfig",
    "ForecastConfig",
    "MissingValuesError",
    "Persistence",
    "ShallowWaterSolver",
    "StabilityConfig",
    "Stepper",
    "StoreConfig",
    "check_init_times",
    "check_source",
    "forcings_from",
    "open_diagnostics",
    "open_forecast",
    "parse_init_times",
    "rollout",
    "select_init_times",
    "shifted",
    "write_forecast",
]
