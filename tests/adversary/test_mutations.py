"""Hostile inputs of every kind: an exit code and a message, nothing touched, nothing unbounded."""

from pathlib import Path

import pytest

from tests.adversary.artifacts import make_workspace
from tests.adversary.campaign import try_attack
from tests.builders.folders import shared_folder

INPUTS = {
    "settings": 120,
    "checkpoint": 90,
    "store": 80,
    "source": 80,
    "forecast": 60,
    "run": 20,
}
"""Inputs by kind; one in ``ONE_IN`` is tried in every run of the tests, all under ``-m slow``."""
ONE_IN = 5


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that the processes which run the tests share, whichever makes it."""
    return shared_folder(tmp_path_factory, "pristine", make_workspace)


@pytest.mark.parametrize(
    ("kind", "seed"),
    [
        pytest.param(kind, seed, marks=[pytest.mark.slow] if seed % ONE_IN else [])
        for kind, number in INPUTS.items()
        for seed in range(number)
    ],
)
def test_a_hostile_input_is_read_or_rejected(
    kind: str, seed: int, pristine: Path, tmp_path: Path
) -> None:
    report = try_attack(kind, seed, pristine, tmp_path / "attack")
    assert not report.faults, str(report)
