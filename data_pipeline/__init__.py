"""Physical data, labelled and checked: sources, simulators, training stores and windows.

The names below are imported on first use, so that reading data does not import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "channels": ["Channel", "Channels"],
        "errors": ["InputError"],
        "grids.grid": ["LatLonGrid"],
        "grids.plane": ["PlaneGrid", "grid_of"],
        "loading.loader": ["Loader"],
        "loading.windows": ["Sample", "WindowDataset"],
        "periods": ["Period"],
        "preparation.config": ["DataConfig"],
        "preparation.prepare": ["prepare"],
        "simulation.config": ["PDEConfig", "SimulationConfig"],
        "simulation.planet": ["simulate", "simulate_planet"],
        "simulation.trajectories": ["Splits"],
        "sources.canonical": ["open_source"],
        "sources.config": ["BenchmarkConfig", "SourceConfig"],
        "store.reader": ["PreparedStore"],
    },
)
