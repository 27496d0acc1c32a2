"""AFNO with one thing changed at a time: the paper's on Darcy's problem, ours on several."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.pde.networks import network_config
from benchmarks.pde.problems import Darcy, Problem
from benchmarks.pde.runs import Run
from fourcastnet_afno.models.config import Padding

_WIDTH = 64
_WIDTH_OF_FORMS = 56
_EPOCHS_OF_FORMS = {"darcy": 3}
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


# Form of the mixer, and of the MLP behind it: kind of the network and what is changed.
_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "afno": ("afno", {}),
    "MLP without a gate": ("afno", {"gated_mlp": False}),
    "MLP without a gate, layers begin at random": (
        "afno",
        {"gated_mlp": False, "initialization": "he"},
    ),
    "MLP without a gate, one layer of all channels": (
        "afno",
        {"gated_mlp": False, "num_blocks": 2},
    ),
    "paper": ("afno_paper", {}),
    "paper, gated MLP": ("afno_paper", {"gated_mlp": True}),
    "global filter": ("global_filter", {}),
    "global filter, gated MLP": ("global_filter", {"gated_mlp": True}),
}


def forms(problem: Problem) -> Iterator[Run]:
    """Runs of the forms of the mixer, with few epochs."""
    problem = replace(problem, epochs=_EPOCHS_OF_FORMS.get(problem.name, 1))
    for label, (kind, changes) in _FORMS.items():
        config = replace(network_config(kind, problem, _WIDTH_OF_FORMS), **changes)
        yield Run(problem=problem, label=label, kind=kind, seed=0, config=config, table="forms")


def variants(problem: Darcy) -> Iterator[Run]:
    """Runs that differ in one setting each from the paper's AFNO, and its own."""
    config = network_config("afno_paper", problem, _WIDTH)
    of_table = {"kind": "afno_paper", "seed": 0, "table": "ablation"}
    for label, changes in _NETWORKS.items():
        yield Run(problem=problem, label=label, config=replace(config, **changes), **of_table)
    for label, changes in _PROBLEMS.items():
        changed = replace(problem, **changes)
        yield Run(problem=changed, label=label, config=config, **of_table)
    yield Run(
        problem=problem,
        label="spectral normalization of the MLPs",
        config=config,
        spectral_norm=True,
        **of_table,
    )
