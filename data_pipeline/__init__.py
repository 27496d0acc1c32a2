"""Physical data, labelled and checked: sources, simulators, training stores and windows.

The names below are imported on first use, so that reading data does not import torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Channel": "data_pipeline.channels",
    "Channels": "data_pipeline.channels",
    "DataConfig": "data_pipeline.prepare",
    "InputError": "data_pipeline.errors",
    "LatLonGrid": "data_pipeline.grid",
    "BenchmarkConfig": "data_pipeline.benchmarks",
    "Loader": "data_pipeline.loader",
    "Period": "data_pipeline.prepare",
    "PDEConfig": "data_pipeline.pde",
    "PlaneGrid": "data_pipeline.plane",
    "PreparedStore": "data_pipeline.store",
    "Sample": "data_pipeline.dataset",
    "SimulationConfig": "data_pipeline.simulation",
    "SourceConfig": "data_pipeline.sources",
    "Splits": "data_pipeline.trajectories",
    "WindowDataset": "data_pipeline.dataset",
    "grid_of": "data_pipeline.plane",
    "open_source": "data_pipeline.sources",
    "prepare": "data_pipeline.prepare",
    "simulate": "data_pipeline.simulation",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
