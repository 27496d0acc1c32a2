"""AFNO with one thing changed at a time, on Darcy's problem."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.pde.networks import network_config
from benchmarks.pde.problems import Darcy
from benchmarks.pde.runs import Run
from fourcastnet_afno.models.config import Padding

_WIDTH = 64
_ZERO_MARGIN = Padding(latitude="zero", longitude="zero", margin=(2, 2))

_NETWORKS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "num_blocks 1": {"num_blocks": 1},
    "num_blocks 4": {"num_blocks": 4},
    "num_blocks 16": {"num_blocks": 16},
    "initialization small": {"initialization": "small"},
    "hidden_size_factor 4": {"hidden_size_factor": 4},
    "sparsity_threshold 0.001": {"sparsity_threshold": 0.001},
    "sparsity_threshold 0.01": {"sparsity_threshold": 0.01},
    "sparsity_threshold 0.1": {"sparsity_threshold": 0.1},
    "hard_thresholding_fraction 0.25": {"hard_thresholding_fraction": 0.25},
    "hard_thresholding_fraction 0.75": {"hard_thresholding_fraction": 0.75},
    "hard_thresholding_fraction 1": {"hard_thresholding_fraction": 1.0},
    "boundary reflected": {"boundary": ("reflected", "reflected")},
    "boundary zero_padded": {"boundary": ("zero_padded", "zero_padded")},
    "boundary periodic": {"boundary": ("periodic", "periodic")},
    "boundary periodic, margin of zeros": {
        "boundary": ("periodic", "periodic"),
        "padding": _ZERO_MARGIN,
    },
    "boundary zero_padded, patch_size 2": {
        "boundary": ("zero_padded", "zero_padded"),
        "patch_size": (2, 2),
    },
}
_PROBLEMS: dict[str, dict[str, Any]] = {
    "no coordinates": {"coordinates": False},
    "no factor that is zero on the boundary": {"hard_boundary": False},
    "no reflected and transposed samples": {"symmetries": False},
    "a third of the samples at every other point": {"coarse_share": 1 / 3},
}


def variants(problem: Darcy) -> Iterator[Run]:
    """Runs that differ from AFNO's in one setting each, and AFNO's own."""
    config = network_config("afno_paper", problem, _WIDTH)
    for label, changes in _NETWORKS.items():
        yield Run(
            problem=problem, label=label, kind="afno", seed=0, config=replace(config, **changes)
        )
    for label, changes in _PROBLEMS.items():
        changed = replace(problem, **changes)
        yield Run(problem=changed, label=label, kind="afno", seed=0, config=config)
    yield Run(
        problem=problem,
        label="spectral normalization of the MLPs",
        kind="afno",
        seed=0,
        config=config,
        spectral_norm=True,
    )
