"""Physical data, labelled and checked: sources, simulators, training stores and windows.

The names below are imported on first use, so that reading data does not import torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Channel": "data_pipeline.channels",
    "Channels": "data_pipeline.channels",
    "DataConfig": "data_pipeline.preparation.config",
    "InputError": "data_pipeline.errors",
    "LatLonGrid": "data_pipeline.grids.grid",
    "BenchmarkConfig": "data_pipeline.sources.pde_benchmarks",
    "Loader": "data_pipeline.loading.loader",
    "Period": "data_pipeline.periods",
    "PDEConfig": "data_pipeline.simulation.config",
    "PlaneGrid": "data_pipeline.grids.plane",
    "PreparedStore": "data_pipeline.store.reader",
    "Sample": "data_pipeline.loading.windows",
    "SimulationConfig": "data_pipeline.simulation.planet",
    "SourceConfig": "data_pipeline.sources.config",
    "Splits": "data_pipeline.simulation.trajectories",
    "WindowDataset": "data_pipeline.loading.windows",
    "grid_of": "data_pipeline.grids.plane",
    "open_source": "data_pipeline.sources.canonical",
    "prepare": "data_pipeline.preparation.prepare",
    "simulate_planet": "data_pipeline.simulation.planet",
}
# Names of version 0.1, which keep working.
_FORMER_NAMES = {"simulate": "simulate_planet"}

__all__ = sorted([*_HOMES, *_FORMER_NAMES])


def __getattr__(name: str) -> Any:  # noqa: ANN401
    name = _FORMER_NAMES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
